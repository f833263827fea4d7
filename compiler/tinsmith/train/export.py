"""Trained weights put back into the network they came from: a QDQ graph for any ONNX tool."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, Quant
from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops.conv2d_trainable import whole_filter
from ..ops.quantize import QuantizeAttrs

NAME = "export_trained"


def with_trained(network: Graph, training: Graph, state: Mapping[Value, Array]) -> Graph:
    """`network` with the weights and biases that the state holds.

    Args:
        network: FLOAT graph in ONNX layout with quantize and dequantize, what the training graph
            was made from.
        training: the training graph; a fresh classifier replaces the network's.
        state: arrays of `training.state`.

    Raises CompileError when the two do not belong together.
    """
    learned = {_key(n): n for n in training.nodes if _learns(n, training)}
    rewriter = Rewriter(network, NAME)
    rescaled: dict[Value, Quant] = {}
    for node in network.nodes:
        trained = learned.pop(_key(node), None) if node.op.name in ("conv2d", "dense") else None
        if trained is not None:
            arrays = {v: state.get(v, training.initializers[v]) for v in trained.inputs[1:4]}
            _emit_layer(node, trained, arrays, rewriter, rescaled)
        elif any(v in rescaled for v in node.inputs):
            _emit_after(node, rewriter, rescaled)
        else:
            rewriter.keep(node)
    if learned:
        raise CompileError(
            f"the network has no layer {next(iter(learned))!r} that was trained",
            expected="the network that the training project was compiled from",
        )
    return rewriter.finish()


def _learns(node: Node, training: Graph) -> bool:
    state = set(training.state)
    return node.op.name == "conv2d_trainable" and bool(state.intersection(node.inputs))


def _key(node: Node) -> str:
    return node.origin.onnx_name or node.name


def _emit_layer(
    node: Node,
    trained: Node,
    arrays: Mapping[Value, Array],
    rewriter: Rewriter,
    rescaled: dict[Value, Quant],
) -> None:
    """The layer with new int8 weights and int32 bias below dequantize."""
    frozen, weights, bias = (arrays[v] for v in trained.inputs[1:4])
    ohwi = whole_filter(frozen, weights, trained.attrs.trained_channels)
    sums = ohwi.sum(axis=(1, 2, 3), dtype=np.int64)
    quant = trained.inputs[1].type.quant
    assert quant is not None
    unfolded = (bias.astype(np.int64) + trained.x.zero_point * sums).astype(np.int32)
    dense = node.op.name == "dense"
    onnx_layout = ohwi.reshape(len(sums), -1) if dense else ohwi.transpose(0, 3, 1, 2)
    scales = np.broadcast_to(np.asarray(quant.scale) * trained.x.scale, sums.shape)
    bias_quant = Quant(tuple(map(float, scales)), (0,) * len(sums), 0)
    inputs = [
        node.inputs[0],
        _dequantized(node.inputs[1], onnx_layout, quant, node, rewriter),
        _dequantized(node.inputs[2], unfolded, bias_quant, node, rewriter),
    ]
    types = node.op.infer([rewriter.current(v).type for v in inputs], node.attrs)
    if types[0].shape == node.y.shape:
        rewriter.emit(node.op, inputs, node.attrs, origin=node.origin, outputs=node.outputs)
        return
    made = Value(node.outputs[0].name, types[0])
    rewriter.emit(node.op, inputs, node.attrs, origin=node.origin, outputs=[made])
    rewriter.rename(node.outputs[0], made)
    logits = trained.y.quant
    assert logits is not None
    rescaled[node.outputs[0]] = logits


def _dequantized(old: Value, array: Array, quant: Quant, node: Node, rewriter: Rewriter) -> Value:
    constant = rewriter.constant(f"{old.name}.trained", array, quant)
    name = f"{old.name}.learned"
    return rewriter.emit(get("dequantize"), [constant], origin=node.origin, name=name)[0]


def _emit_after(node: Node, rewriter: Rewriter, rescaled: dict[Value, Quant]) -> None:
    """What follows a fresh classifier: other shapes, and its scale up to a softmax."""
    (old,) = [v for v in node.inputs if v in rescaled]
    quant, x = rescaled[old], rewriter.current(old)
    attrs = node.attrs
    if node.op.name == "quantize":
        attrs = QuantizeAttrs.of(quant)
    elif node.op.name == "reshape":
        before, now = old.type.shape, x.type.shape
        ((was, classes),) = {(a, b) for a, b in zip(before, now, strict=True) if a != b}
        attrs = type(attrs)(tuple(classes if d == was else d for d in attrs.shape))
    (type_,) = node.op.infer([x.type], attrs)
    made = Value(node.outputs[0].name, type_)
    rewriter.emit(node.op, [x], attrs, origin=node.origin, outputs=[made])
    rewriter.rename(node.outputs[0], made)
    if node.op.name != "softmax":
        rescaled[node.outputs[0]] = quant
