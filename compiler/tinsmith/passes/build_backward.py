"""Append the loss, the gradients that are wanted, and the updates: one graph that learns."""

from __future__ import annotations

from ..ir.dtypes import DType, TensorType
from ..ir.graph import Graph, Node, Origin, Stage, Value
from ..ir.opdef import NoAttrs
from ..ops import get
from ..ops.training_loss import LossAttrs, exponentials
from ..pass_manager import Pass, PassContext
from ..train.backward import Backward
from ..train.scheme import Scheme, SchemeError, logits

NAME = "build_backward"


def run(graph: Graph, context: PassContext) -> Graph:
    scheme: Scheme = context.options["scheme"]
    root = logits(graph)
    backward = Backward(graph, scheme.rule, NAME, scheme.optimizer, scheme.gradients)
    if not backward.wants(root):
        raise SchemeError("nothing that trains reaches the model's output")
    if root.type.dtype not in (DType.INT8, DType.FLOAT32):
        raise SchemeError(
            f"the model's output is {root.type.dtype.value}", expected="an output of numbers"
        )
    given, node = _loss(scheme, root, backward)
    loss, dy = node.outputs
    nodes = backward.run(root, [node], dy)
    built = graph.with_nodes(
        nodes,
        initializers=backward.rewriter.initializers,
        inputs=(*graph.inputs, given, backward.learning_rate),
        outputs=(*graph.outputs, loss),
        input_layouts=_extended(graph.input_layouts, 2),
        output_layouts=_extended(graph.output_layouts, 1),
        updates=tuple(backward.updates),
    )
    if built.transient:
        held = sum(v.type.bytes for v in built.transient)
        context.note(
            f"batch = {scheme.batch} and momentum = {scheme.momentum:g} keep gradients: {held:,} "
            "bytes of the state, which stores and deltas leave out"
        )
    return built


PASS = Pass(NAME, run, Stage.TRAINING)


def _loss(scheme: Scheme, root: Value, backward: Backward) -> tuple[Value, Node]:
    """The input that says what is right, and the node that computes loss and gradient."""
    unique = backward.rewriter.unique
    real = root.type.dtype is DType.FLOAT32
    attrs = NoAttrs() if real else LossAttrs(root.type.scale)
    if real:
        mse = scheme.loss == "mse"
        type_ = root.type if mse else TensorType((1,), DType.INT32)
        given = Value(unique("target" if mse else "label"), type_)
        inputs, op = (root, given), get("float_mse" if mse else "float_cross_entropy")
    elif scheme.loss == "mse":
        given = Value(unique("target"), root.type)
        inputs, op = (root, given), get("mse_loss")
    else:
        given = Value(unique("label"), TensorType((1,), DType.INT32))
        table = backward.constant("exponentials", exponentials(root.type.scale))
        inputs, op = (root, given, table), get("softmax_cross_entropy")
    try:
        types = op.infer([v.type for v in inputs], attrs)
    except ValueError as error:
        raise SchemeError(
            f"the loss {scheme.loss!r} does not fit the output: {error}",
            expected="one row of logits for cross_entropy; up to 33,000 elements for mse",
        ) from error
    outputs = (Value(unique("loss"), types[0]), Value(unique(f"{root.name}.gradient"), types[1]))
    return given, Node(op, inputs, outputs, attrs, Origin(NAME, scheme.loss))


def _extended(
    layouts: tuple[tuple[int, ...] | None, ...], count: int
) -> tuple[tuple[int, ...] | None, ...]:
    return (*layouts, *(None,) * count) if layouts else ()
