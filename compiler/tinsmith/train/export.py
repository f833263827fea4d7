"""Trained weights put back into the network they came from: a graph for any ONNX tool, in QDQ form
where it is quantised."""

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
        network: FLOAT graph in ONNX layout that the training graph was made from; with quantize
            and dequantize where it is quantised.
        training: the training graph; a fresh classifier replaces the network's.
        state: arrays of `training.state`.

    Raises CompileError when the two do not belong together.
    """
    learned = {_key(n): n for n in training.nodes if _learns(n, training)}
    rewriter = Rewriter(network, NAME)
    rescaled: dict[Value, Quant | None] = {}
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
    layers = ("conv2d_trainable", "conv2d_float")
    return node.op.name in layers and bool(state.intersection(node.inputs))


def _key(node: Node) -> str:
    return node.origin.onnx_name or node.name


def _emit_layer(
    node: Node,
    trained: Node,
    arrays: Mapping[Value, Array],
    rewriter: Rewriter,
    rescaled: dict[Value, Quant | None],
) -> None:
    """The layer with new weights and bias: float32 ones, or int8 and int32 below dequantize."""
    frozen, weights, bias = (arrays[v] for v in trained.inputs[1:4])
    ohwi = whole_filter(frozen, weights, trained.attrs.trained_channels)
    dense = node.op.name == "dense"
    onnx_layout = ohwi.reshape(len(ohwi), -1) if dense else ohwi.transpose(0, 3, 1, 2)
    _, w, b = node.inputs
    if trained.op.name == "conv2d_float":
        learned = [
            rewriter.constant(f"{w.name}.learned", onnx_layout),
            rewriter.constant(f"{b.name}.learned", bias),
        ]
    else:
        quant, bias_quant, unfolded = _unfolded(trained, ohwi, bias)
        learned = [
            _dequantized(w, onnx_layout, quant, node, rewriter),
            _dequantized(b, unfolded, bias_quant, node, rewriter),
        ]
    inputs = [node.inputs[0], *learned]
    types = node.op.infer([rewriter.current(v).type for v in inputs], node.attrs)
    if types[0].shape == node.y.shape:
        rewriter.emit(node.op, inputs, node.attrs, origin=node.origin, outputs=node.outputs)
        return
    made = Value(node.outputs[0].name, types[0])
    rewriter.emit(node.op, inputs, node.attrs, origin=node.origin, outputs=[made])
    rewriter.rename(node.outputs[0], made)
    rescaled[node.outputs[0]] = trained.y.quant


def _unfolded(trained: Node, ohwi: Array, bias: Array) -> tuple[Quant, Quant, Array]:
    """Of weights and bias how they are quantised, and the int32 bias without z_x · Σw."""
    sums = ohwi.sum(axis=(1, 2, 3), dtype=np.int64)
    quant = trained.inputs[1].type.quant
    assert quant is not None
    scales = np.broadcast_to(np.asarray(quant.scale) * trained.x.scale, sums.shape)
    bias_quant = Quant(tuple(map(float, scales)), (0,) * len(sums), 0)
    unfolded = bias.astype(np.int64) + trained.x.zero_point * sums
    return quant, bias_quant, unfolded.astype(np.int32)


def _dequantized(old: Value, array: Array, quant: Quant, node: Node, rewriter: Rewriter) -> Value:
    constant = rewriter.constant(f"{old.name}.trained", array, quant)
    name = f"{old.name}.learned"
    return rewriter.emit(get("dequantize"), [constant], origin=node.origin, name=name)[0]


def _emit_after(node: Node, rewriter: Rewriter, rescaled: dict[Value, Quant | None]) -> None:
    """What follows a fresh classifier: other shapes, and its scale up to a softmax."""
    (old,) = [v for v in node.inputs if v in rescaled]
    quant, x = rescaled[old], rewriter.current(old)
    attrs = node.attrs
    if node.op.name == "quantize" and quant is not None:
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
