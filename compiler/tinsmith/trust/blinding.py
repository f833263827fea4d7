"""The graphs of both worlds for the mode `coreguard-otp`: one layer runs on blinded integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Graph, Node, Origin, Value
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops._convolution import ConvolutionAttrs
from ..ops.one_time_pad import UnblindAttrs
from .cut import Site
from .keystream import Secret
from .permute_channels import permute_channels, permuted
from .worlds import NAME, Worlds, finish, gate_graph, insert_authorization, locked_order

PAD = "pad"  # the graph input that the secure runtime draws; the last one of both secure graphs


@dataclass(frozen=True)
class BlindedLayer:
    """One convolution or dense layer in the ring.

    pixels: its input as [N,H,W,C]. blind: the natural input channel at every position of the
    blinded input. made: the natural output channel at every position of the blinded sums.
    """

    node: Node
    pixels: Shape
    window: ConvolutionAttrs
    blind: Array
    made: Array

    @staticmethod
    def of(node: Node, order: Array) -> BlindedLayer:
        if node.op.name == "dense":
            rows = node.x.elements // node.x.shape[-1]
            window = ConvolutionAttrs()
            natural = np.arange(node.y.shape[-1])
            return BlindedLayer(node, (1, 1, rows, node.x.shape[-1]), window, order, natural)
        a = node.attrs
        window = ConvolutionAttrs(a.strides, a.pads, a.dilations, a.groups)
        made = np.arange(node.y.shape[3])
        if a.groups > 1:  # depthwise: outputs stand where their input stands
            made = made.reshape(a.groups, -1)[order].ravel()
        return BlindedLayer(node, node.x.shape, window, order, made)

    def filters(self, graph: Graph, rewriter: Rewriter) -> Value:
        """int8 [O,KH,KW,I] in the order of the blinded channels: what both worlds hold."""
        w = self.node.inputs[1]
        if self.window.groups > 1:
            return permuted(graph, w, [self.made, None, None, None], rewriter)
        columns: list[Array | None] = [None] * (w.type.rank - 1)
        locked = permuted(graph, w, [*columns, self.blind], rewriter)
        if w.type.rank == 4:
            return locked
        array = rewriter.initializers[locked]
        shape = (array.shape[0], 1, 1, array.shape[1])
        return rewriter.constant(locked.name, array.reshape(shape), locked.type.quant)


def blinded(graph: Graph, site: Site, secret: Secret) -> Worlds:
    """call 0 blinds the value, the layer runs over the ring, call 1 takes the pad off."""
    assert site.layer is not None
    order = secret.permutation("blind", site.place.value.type.shape[-1])
    layer = BlindedLayer.of(site.layer, order)
    origin, x = site.layer.origin, site.place.value
    rewriter = Rewriter(graph, NAME)
    for node in site.place.above:
        rewriter.keep(node)
    m = Value(rewriter.unique(f"{x.name}.blinded"), TensorType(x.type.shape, DType.INT32))
    insert_authorization(rewriter, 0, [x], m, origin)
    pixels = _reshaped(rewriter, m, layer.pixels, origin)
    w = layer.filters(graph, rewriter)
    sums = rewriter.emit(
        get("ring_conv2d"), [w, pixels], layer.window, origin=origin, name=f"{x.name}.sums"
    )[0]
    insert_authorization(rewriter, 1, [sums], site.locked, origin)
    rest = [n for n in site.place.below if n is not site.layer]
    permute_channels(graph, rest, site.classes, secret.order, rewriter)
    gates = (
        _blind_graph(graph, x, order, origin),
        _unblind_graph(graph, site, layer, sums, locked_order(site, secret)),
    )
    return finish(rewriter), gates


def _blind_graph(graph: Graph, x: Value, order: Array, origin: Origin) -> Graph:
    x = Value("x", x.type)
    pad = Value(PAD, TensorType(x.type.shape, DType.INT32))
    gate = Rewriter(gate_graph(graph, 0, [x, pad]), NAME)
    constant = gate.constant("order", order.astype(np.int32))
    output = gate.emit(get("blind"), [x, pad, constant], origin=origin, name="blinded")
    return gate.finish(outputs=output)


def _unblind_graph(
    graph: Graph, site: Site, layer: BlindedLayer, sums: Value, order: Array
) -> Graph:
    """order: the natural channel at every position of the layer's locked output."""
    node = layer.node
    u = Value("sums", sums.type)
    pad = Value(PAD, TensorType(node.x.shape, DType.INT32))
    gate = Rewriter(gate_graph(graph, 1, [u, pad]), NAME)
    pixels = _reshaped(gate, pad, layer.pixels, node.origin)
    per_channel: Sequence[Value] = [permuted(graph, v, [layer.made], gate) for v in node.inputs[2:]]
    position = np.argsort(layer.made)[order]  # of a natural channel among the sums
    a = layer.window
    attrs = UnblindAttrs(a.strides, a.pads, a.dilations, a.groups, node.attrs.q_clamp)
    constant = gate.constant("order", position.astype(np.int32))
    inputs = [u, pixels, layer.filters(graph, gate), *per_channel, constant]
    y = Value("unblinded", TensorType(u.type.shape, DType.INT8, site.locked.type.quant))
    gate.emit(get("unblind"), inputs, attrs, origin=node.origin, outputs=[y])
    return gate.finish(outputs=(_reshaped(gate, y, site.locked.type.shape, node.origin),))


def _reshaped(rewriter: Rewriter, value: Value, shape: Shape, origin: Origin) -> Value:
    """The value under another shape: itself where it has it."""
    if value.type.shape == shape:
        return value
    reshape = get("reshape")
    name, type_ = f"{value.name}.pixels", value.type.with_shape(shape)
    attrs = reshape.attrs(shape)
    return rewriter.emit(reshape, [value], attrs, origin=origin, name=name, types=[type_])[0]
