"""Constants → `const` arrays. Arrays with the same content are emitted once."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InternalError
from ..kernels.kernel import Constant, KernelCall
from ..plan.model import short_name
from .c_text import Names, c_comment_block, c_identifier, c_table
from .functions import constant_type
from .views import ArrayView

_Key = tuple[str, bytes]


@dataclass
class Weights:
    """Collects the arrays of a model."""

    prefix: str
    _arrays: dict[_Key, Constant] = field(default_factory=dict[_Key, Constant])
    _names: dict[_Key, str] = field(default_factory=dict[_Key, str])
    _users: dict[_Key, list[str]] = field(default_factory=dict[_Key, list[str]])
    _unique: Names = field(default_factory=Names)

    def add(self, call: KernelCall) -> dict[str, str]:
        """C name of the array behind each constant of `call`."""
        node = call.node.name
        return {name: self.add_array(node, name, c) for name, c in call.constants.items()}

    def add_array(self, node: str, name: str, constant: Constant) -> str:
        """C name of one array; `node` and `name` say what it is."""
        array = constant.array
        if array.ndim != 1 or array.size == 0:
            raise InternalError(
                f"constant {name} of node {node} has shape {list(array.shape)}",
                expected="one axis and at least one element",
            )
        key = (array.dtype.name, array.tobytes())
        if key not in self._arrays or self._arrays[key].alignment < constant.alignment:
            self._arrays[key] = constant
        if key not in self._names:
            stem = f"{self.prefix}_{c_identifier(node.partition(';')[0])}_{name}"
            self._names[key] = self._unique.unique(stem)
        self._users.setdefault(key, []).append(f"{short_name(node, 48)} {name}")
        return self._names[key]

    @property
    def bytes(self) -> int:
        return sum(c.array.nbytes for c in self._arrays.values())

    def views(self) -> tuple[ArrayView, ...]:
        return tuple(
            array_view(self._names[key], constant, ", ".join(self._users[key][:4]))
            for key, constant in self._arrays.items()
        )


def array_view(name: str, constant: Constant, comment: str) -> ArrayView:
    """The array as C; aligned for its element type at least."""
    return ArrayView(
        name,
        f"const {constant_type(constant).c} {name}[{constant.array.size}]",
        c_comment_block([comment]),
        c_table(constant.array),
        max(constant.alignment, constant.array.dtype.itemsize),
    )
