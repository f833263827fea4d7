"""Give the network a fresh classifier: `classes = N` of the scheme (`options["scheme"]`).

It runs before lower_requantize. The last convolution or dense layer gets N outputs, weights of 0 at
a scale of 0.4/127, a bias of 0, and logits of scale 0.125; what follows it (reshapes, a softmax)
changes its shape. A float32 network, after legalize_layout, has no scales.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir.dtypes import DType, Quant, TensorType
from ..ir.graph import Graph, Node, Stage, Value
from ..ir.rewrite import Rewriter
from ..pass_manager import Pass, PassContext
from ..train.scheme import Scheme, SchemeError, classifier

NAME = "replace_classifier"
WEIGHT_SCALE = 0.4 / 127
LOGIT_SCALE = 0.125


def run(graph: Graph, context: PassContext) -> Graph:
    scheme: Scheme = context.options["scheme"]
    if scheme.classes is None:
        return graph
    head = classifier(graph)
    old = head.inputs[1].type.shape[0]
    rewriter = Rewriter(graph, NAME)
    for node in graph.nodes:
        if node is head:
            _emit_head(node, scheme.classes, rewriter)
        elif rewriter.current(node.inputs[0]) != node.inputs[0]:
            _emit_after(node, old, scheme.classes, rewriter)
        else:
            rewriter.keep(node)
    return rewriter.finish()


PASS = Pass(NAME, run, Stage.QUANTIZED)
FLOAT_PASS = Pass(NAME, run, Stage.FLOAT)


def _emit_head(node: Node, classes: int, rewriter: Rewriter) -> None:
    if getattr(node.attrs, "groups", 1) != 1:
        raise SchemeError("the classifier is a grouped convolution", node=str(node.origin))
    x, w, bias = node.inputs[:3]
    if node.y.dtype is DType.FLOAT32:
        _emit_float_head(node, classes, rewriter)
        return
    scale = float(np.float32(WEIGHT_SCALE))
    quant = Quant((scale,) * classes, (0,) * classes, 0)
    sums = Quant((scale * x.type.scale,) * classes, (0,) * classes, 0)
    weights = np.zeros((classes, *w.type.shape[1:]), np.int8)
    inputs = [
        x,
        rewriter.constant(f"{w.name}.fresh", weights, quant),
        rewriter.constant(f"{bias.name}.fresh", np.zeros(classes, np.int32), sums),
    ]
    type_ = TensorType(
        (*node.y.shape[:-1], classes), node.y.dtype, Quant.per_tensor(LOGIT_SCALE, 0)
    )
    made = Value(node.outputs[0].name, type_)
    rewriter.rename(node.outputs[0], made)
    attrs = replace(node.attrs, clamp=(-np.inf, np.inf))
    rewriter.emit(node.op, inputs, attrs, origin=node.origin, outputs=[made])


def _emit_float_head(node: Node, classes: int, rewriter: Rewriter) -> None:
    x, w, bias = node.inputs
    inputs = [
        x,
        rewriter.constant(f"{w.name}.fresh", np.zeros((classes, *w.type.shape[1:]), np.float32)),
        rewriter.constant(f"{bias.name}.fresh", np.zeros(classes, np.float32)),
    ]
    made = Value(node.outputs[0].name, node.y.with_shape((*node.y.shape[:-1], classes)))
    rewriter.rename(node.outputs[0], made)
    attrs = replace(node.attrs, clamp=(-np.inf, np.inf))
    rewriter.emit(node.op, inputs, attrs, origin=node.origin, outputs=[made])


def _emit_after(node: Node, old: int, classes: int, rewriter: Rewriter) -> None:
    """A reshape with its class axis resized; a softmax re-typed. Quantisation flows through."""
    if node.op.name == "reshape":
        shape = node.attrs.shape
        if shape.count(old) != 1:
            raise SchemeError(
                f"cannot resize {list(shape)} to {classes} classes", node=str(node.origin)
            )
        attrs = type(node.attrs)(tuple(classes if d == old else d for d in shape))
        x = rewriter.current(node.inputs[0])
        made = Value(node.outputs[0].name, x.type.with_shape(attrs.shape))
    else:
        attrs, x = node.attrs, rewriter.current(node.inputs[0])
        made = Value(node.outputs[0].name, node.y.with_shape(x.type.shape))
    rewriter.rename(node.outputs[0], made)
    rewriter.emit(node.op, [x, *node.inputs[1:]], attrs, origin=node.origin, outputs=[made])
