"""A rule: how one operator of one element type is computed by TVM. The contract is docs/tvm.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..ir.dtypes import DType
from ..ir.graph import Graph, Node, Value
from ..kernels import Constant
from ..machine.target import Isa

if TYPE_CHECKING:
    from .import_tvm import PrimFunc
else:
    PrimFunc = Any


@dataclass(frozen=True)
class Site:
    """What a rule is asked about: a node of a graph, for an instruction set.

    stored: the activations held as uint8 = q + `isa.storage_offset`; the others are as they are.
    """

    node: Node
    graph: Graph
    isa: Isa
    stored: frozenset[Value] = frozenset()

    def offset(self, value: Value) -> int:
        """What is added to `value`'s integers where it is stored: 0 or 128."""
        return self.isa.storage_offset if value in self.stored else 0

    def dtype(self, value: Value) -> str:
        """The element type of `value`'s buffer."""
        return "uint8" if self.offset(value) else value.type.dtype.value


@dataclass(frozen=True)
class Rule:
    """How one operator of one element type is computed.

    Attributes:
        op: the operator's name.
        dtype: of the node's first output.
        build: a scheduled PrimFunc over flat buffers: activation inputs, outputs, constants in
            their order, scratch (uint8) when there is any.
        constants: packed arrays by parameter name; numpy only.
        applies: whether it can compute this node, exactly.
        state: as `Kernel.state`; these parameters come before the constants. What the
            node updates is written in place.
        scratch_bytes: temporary memory while the node runs.
        tiles: the tiles that a sum may be computed in, (pixels, vectors), the likely best first;
            `tile_of` says which one `build` and `constants` take. None: nothing to choose.
        lead_bytes: as `Kernel.lead_bytes`. A rule that does not say None makes no buffer noalias.
    """

    op: str
    build: Callable[[Site], PrimFunc]
    dtype: DType = DType.INT8
    constants: Callable[[Site], Mapping[str, Constant]] = lambda site: {}
    applies: Callable[[Node, Graph], bool] = lambda node, graph: True
    state: Callable[[Node, Graph], Mapping[str, Value]] = lambda node, graph: {}
    scratch_bytes: Callable[[Site], int] = lambda site: 0
    tiles: Callable[[Site], Sequence[tuple[int, int]]] = lambda site: ()
    lead_bytes: Callable[[Node, int], int | None] = lambda node, index: None


def tile_of(site: Site, ranked: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The tile that was measured to be the best of `ranked`, or the first one."""
    tuned = site.isa.tile(layer_name(site.node))
    return tuned if tuned is not None and tuned in ranked else ranked[0]


def layer_name(node: Node) -> str:
    """What tells layers with different tiles apart: operator, element type, shapes and window."""
    x, w = (v.type for v in node.inputs[:2])
    shapes = "x".join(map(str, x.shape)), "x".join(map(str, w.shape))
    parts = [node.op.name, x.dtype.value, *shapes]
    if node.op.name == "conv2d":
        a = node.attrs
        for name in ("strides", "pads", "dilations"):
            parts.append(f"{name} {','.join(map(str, getattr(a, name)))}")
        parts.append(f"groups {a.groups}")
    return " ".join(parts)
