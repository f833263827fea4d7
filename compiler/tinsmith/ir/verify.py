"""The rules a graph keeps: the structure always, and one table of rules per stage.

The pass manager calls `verify` before and after every pass, in every compile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..errors import InternalError
from .dtypes import DType
from .graph import Graph, Node, Stage, Value
from .opdef import Absent

Rule = Callable[[Graph], Iterator[str]]


def verify(graph: Graph, where: str = "verify") -> None:
    """Raise InternalError naming every broken rule."""
    broken = [text for rule in (*_STRUCTURE, *_STAGES[graph.stage]) for text in rule(graph)]
    if broken:
        raise InternalError(
            f"graph {graph.name!r} breaks the rules of stage {graph.stage.name}:\n  "
            + "\n  ".join(broken[:20]),
            where=where,
            hint="this is a defect of tinsmith: please report it with the model",
        )


def _names_are_unique(graph: Graph) -> Iterator[str]:
    seen: dict[str, Value] = {}
    defined = [*graph.inputs, *graph.initializers, *(v for n in graph.nodes for v in n.outputs)]
    for value in defined:
        if value.name in seen:
            yield f"%{value.name} is defined twice"
        seen[value.name] = value


def _defined_before_use(graph: Graph) -> Iterator[str]:
    known = {*graph.inputs, *graph.initializers}
    for node in graph.nodes:
        for value in node.inputs:
            if value not in known:
                yield f"{_at(node)} reads %{value.name} : {value.type} before it is defined"
        known.update(node.outputs)
    for value in graph.outputs:
        if value not in known:
            yield f"output %{value.name} : {value.type} is never defined"


def _types_follow(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        if not isinstance(node.attrs, node.op.attrs):
            yield f"{_at(node)} has {type(node.attrs).__name__}, not {node.op.attrs.__name__}"
            continue
        try:
            types = node.op.infer([v.type for v in node.inputs], node.attrs)
        except (ValueError, IndexError, TypeError) as error:
            yield f"{_at(node)}: {error}"
            continue
        if len(types) != len(node.outputs):
            yield f"{_at(node)} has {len(node.outputs)} outputs, its type rule gives {len(types)}"
            continue
        for value, type_ in zip(node.outputs, types, strict=True):
            if (value.type.shape, value.type.dtype) != (type_.shape, type_.dtype):
                yield f"{_at(node)}: %{value.name} is {value.type}, its type rule gives {type_}"


def _initializers_match(graph: Graph) -> Iterator[str]:
    for value, array in graph.initializers.items():
        if array.shape != value.type.shape or array.dtype != value.type.dtype.numpy:
            yield f"initializer %{value.name} : {value.type} holds {array.dtype}{list(array.shape)}"
        quant = value.type.quant
        if quant and quant.axis is not None and len(quant.scale) != value.type.shape[quant.axis]:
            yield f"initializer %{value.name} has {len(quant.scale)} scales along axis {quant.axis}"


def _updates_follow(graph: Graph) -> Iterator[str]:
    """State has one update, of its own type, and nobody reads bytes that were replaced."""
    if len(set(graph.state)) != len(graph.state):
        yield "a state value is updated twice"
    for old, new in graph.updates:
        if old not in graph.initializers:
            yield f"state %{old.name} is not an initializer"
        elif (old.type.shape, old.type.dtype) != (new.type.shape, new.type.dtype):
            yield f"state %{old.name} : {old.type} is updated by a {new.type}"
        if new != old and new not in graph.producer:
            yield f"the update of state %{old.name} is never computed"
    replaced: set[Value] = set()
    finals = {new: old for old, new in graph.updates if new != old}
    for node in graph.nodes:
        for value in replaced.intersection(node.inputs):
            yield f"{_at(node)} reads state %{value.name} after its update"
        replaced.update(old for old, _ in node.updates)
        replaced.update(finals[v] for v in node.outputs if v in finals)
    for old, new in graph.updates:
        if new != old and new in replaced:
            yield f"the update of state %{old.name} is replaced"


def _updates_are_in_place(graph: Graph) -> Iterator[str]:
    """Every node that updates has state to update, and every state's update has its bytes."""
    for node in graph.nodes:
        for old, _ in node.updates:
            if old not in graph.storage:
                yield f"{_at(node)} updates %{old.name}, which is not state"
    for old, new in graph.updates:
        if graph.storage.get(new) != old:
            yield f"the update of state %{old.name} is not computed in place"


def _activations_are_quantized(graph: Graph) -> Iterator[str]:
    if graph.updates:
        return
    # Gradients are int8 with an exponent of their own, known at run time.
    made = (v for n in graph.nodes if n.op.name != "quantize_gradient" for v in n.outputs)
    for value in (*graph.inputs, *made):
        if value.type.dtype is DType.INT8 and value.type.quant is None:
            yield f"%{value.name} is int8 without a scale"


def _integer_operators(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        if node.op.name in ("quantize", "dequantize"):
            yield f"{_at(node)} is left over from the float graph"
        elif node.y.dtype is DType.INT8 and isinstance(node.op.integer, Absent):
            yield f"{_at(node)} has no integer meaning"


def _layout_is_nhwc(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        if getattr(node.attrs, "layout", "NHWC") != "NHWC":
            yield f"{_at(node)} is still {node.attrs.layout}"


def _at(node: Node) -> str:
    return f"{node.op.name} %{node.name} ({node.origin})"


_STRUCTURE: tuple[Rule, ...] = (
    _names_are_unique,
    _defined_before_use,
    _types_follow,
    _initializers_match,
    _updates_follow,
)
_QUANTIZED: tuple[Rule, ...] = (_activations_are_quantized, _integer_operators, _layout_is_nhwc)
_SCHEDULED: tuple[Rule, ...] = (
    _activations_are_quantized,
    _layout_is_nhwc,
    _updates_are_in_place,
)
_STAGES: dict[Stage, tuple[Rule, ...]] = {
    Stage.FLOAT: (),
    Stage.QUANTIZED: _QUANTIZED,
    Stage.TRAINING: (_layout_is_nhwc,),
    Stage.PARTITIONED: _QUANTIZED,
    Stage.SCHEDULED: _SCHEDULED,
    Stage.PLANNED: _SCHEDULED,
}
