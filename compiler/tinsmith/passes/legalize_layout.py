"""NCHW → NHWC, OIHW → OHWI: the order in which every kernel walks memory.

Instead of putting transposes around each image operator and cancelling them afterwards, the pass
walks the graph once and keeps, for every value, the permutation it is stored in. Image operators
ask for channels last, most others follow whatever comes, a transpose only changes how the stored
axes are read. What is left is a transpose where two readers truly need different orders.

4-D graph inputs that are only read as images, and 4-D outputs, become NHWC: `Graph.input_layouts`,
`Graph.output_layouts`. The same holds for 3-D ones around 1-D convolutions (NCW → NWC).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.graph import Graph, Origin, Value
from ..ops import get
from ..pass_manager import Pass, PassContext
from ._layout import Layouts, Perm, channels_last, identity, output_perm, permuted_type
from ._layout_rules import is_image, rule_for


def run(graph: Graph, context: PassContext) -> Graph:
    del context
    layouts = Layouts(graph, PASS.name)
    inputs: list[Value] = []
    input_perms: list[Perm] = []
    for value in graph.inputs:
        perm = channels_last(value.type.rank) if is_image(graph, value) else _same(value)
        inputs.append(Value(value.name, permuted_type(value.type, perm)))
        input_perms.append(perm)
        layouts.store(value, inputs[-1], perm)
    for node in graph.nodes:
        if not layouts.weight_node(node):
            rule_for(node)(node, layouts)
    outputs: list[Value] = []
    output_perms: list[Perm] = []
    for value in graph.outputs:
        output, perm = _output(layouts, value, (*inputs, *outputs))
        outputs.append(output)
        output_perms.append(perm)
    return layouts.rewriter.finish(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        input_layouts=_composed(graph.input_layouts, input_perms),
        output_layouts=_composed(graph.output_layouts, output_perms),
    )


def _output(layouts: Layouts, value: Value, taken: tuple[Value, ...]) -> tuple[Value, Perm]:
    """The graph output under its own name, channels last if it is stored so."""
    perm = layouts.stored(value).perm
    if perm != output_perm(value.type.rank):
        perm = _same(value)
    result = layouts.read(value, perm)
    if result.name == value.name and result not in taken:
        return result, perm
    # `eliminate_dead_nodes` renames what computes it, where that is possible
    reshape = get("reshape")
    named = Value(value.name, result.type)
    attrs = reshape.attrs(result.type.shape)
    producer = layouts.graph.producer.get(value)
    origin = producer.origin if producer else Origin(value.name)
    layouts.rewriter.emit(reshape, [result], attrs, origin=origin, outputs=[named])
    return named, perm


def _same(value: Value) -> Perm:
    return identity(value.type.rank)


def _composed(before: tuple[Perm | None, ...], perms: Sequence[Perm]) -> tuple[Perm | None, ...]:
    """From the ONNX order, through the order the graph had, to the one it has now."""
    olds = before or (None,) * len(perms)
    layouts = [
        p if old is None else tuple(old[i] for i in p) for old, p in zip(olds, perms, strict=True)
    ]
    changed = tuple(None if p == identity(len(p)) else p for p in layouts)
    return changed if any(changed) else ()


PASS = Pass("legalize_layout", run)
