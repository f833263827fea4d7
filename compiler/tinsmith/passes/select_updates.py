"""Turn the layers that learn, or that gradients cross, into their trainable form.

The scheme (`options["scheme"]`) says which biases and which channels of which weights. Channels
that could not learn sensibly, being dead or nearly so, are frozen, and said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Stage, Value
from ..ir.opdef import OpDef
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops._gradient import channel_scales, frozen_channels
from ..ops._window import Pads, Pair
from ..ops.conv2d_trainable import Conv2dTrainableAttrs
from ..pass_manager import Pass, PassContext
from ..train.scheme import Scheme, SchemeError, Selection, resolve

NAME = "select_updates"


def run(graph: Graph, context: PassContext) -> Graph:
    scheme: Scheme = context.options["scheme"]
    scores: Mapping[str, Array] = context.options.get("channel_scores", {})
    # Of a protected model: as in the plain one, whose channels are in another order.
    chosen: Mapping[str, Selection] = context.options.get("selections") or resolve(scheme, graph)
    rewriter = Rewriter(graph, NAME)
    crossed: set[Value] = set()
    for node in graph.nodes:
        selection = chosen.get(node.name, Selection())
        reached = bool(crossed.intersection(node.inputs))
        if selection.trains or reached:
            crossed.update(node.outputs)
        if node.name in chosen and (selection.trains or reached):
            _make_trainable(node, selection, rewriter, context, scores)
        else:
            rewriter.keep(node)
    return rewriter.finish()


PASS = Pass(NAME, run, Stage.QUANTIZED, Stage.TRAINING)


def _make_trainable(
    node: Node,
    selection: Selection,
    rewriter: Rewriter,
    context: PassContext,
    scores: Mapping[str, Array],
) -> None:
    x, w, bias, multiplier, shift = node.inputs
    array = rewriter.array(w)
    constants = [rewriter.array(v) for v in (bias, multiplier, shift)]
    if array is None or any(c is None for c in constants):
        raise SchemeError(
            f"the weights of {node.op.name} are computed", node=str(node.origin),
            expected="constant weights",
        )  # fmt: skip
    dense = node.op.name == "dense"
    filters = array.reshape(array.shape[0], 1, 1, -1) if dense else array
    quant = w.type.quant
    assert quant is not None
    size = np.abs(filters.astype(np.float64)) * quant.broadcast(quant.scale, 4)
    channels, update_channels = choose_channels(node, selection, size, scores)
    kept = [c for c in range(filters.shape[3]) if c not in set(channels)]
    inputs = [
        pixels_of(x, rewriter, node) if dense else x,
        rewriter.constant(f"{w.name}.frozen", filters[..., kept], quant),
        rewriter.constant(f"{w.name}.trained", filters[..., list(channels)], quant),
        _folded_bias(bias, filters, x.type.zero_point, rewriter),
        multiplier,
        shift,
    ]
    attrs = Conv2dTrainableAttrs(
        *window_of(node), channels, update_channels, selection.bias, node.attrs.q_clamp
    )
    if selection.trains:
        _note_frozen(node, inputs[1], rewriter, inputs[3], context)
    emit_layer(node, get("conv2d_trainable"), inputs, attrs, rewriter)


def emit_layer(
    node: Node, op: OpDef, inputs: Sequence[Value], attrs: Any, rewriter: Rewriter
) -> None:
    """`op` in place of a layer; of a dense one over pixels, reshaped to its rows."""
    if node.op.name != "dense":
        rewriter.emit(op, inputs, attrs, origin=node.origin, outputs=node.outputs)
        return
    pixels = (*inputs[0].type.shape[:3], node.y.shape[-1])
    made = Value(rewriter.unique(f"{node.name}.pixels"), node.outputs[0].type.with_shape(pixels))
    rewriter.emit(op, inputs, attrs, origin=node.origin, outputs=[made])
    reshape = get("reshape")
    shape = reshape.attrs(node.y.shape)
    rewriter.emit(reshape, [made], shape, origin=node.origin, outputs=node.outputs)


def pixels_of(x: Value, rewriter: Rewriter, node: Node) -> Value:
    """A dense layer's rows as pixels of one image: [1, 1, rows, channels]."""
    reshape = get("reshape")
    channels = x.type.shape[-1]
    type_ = x.type.with_shape((1, 1, x.type.elements // channels, channels))
    return rewriter.emit(
        reshape, [x], reshape.attrs(type_.shape), origin=node.origin, types=[type_],
        name=f"{x.name}.pixels",
    )[0]  # fmt: skip


def _folded_bias(bias: Value, filters: Array, zero_point: int, rewriter: Rewriter) -> Value:
    """bias − z_x · Σw: what is added when the sums take x itself."""
    array = rewriter.array(bias)
    assert array is not None
    sums = filters.reshape(filters.shape[0], -1).sum(axis=1, dtype=np.int64)
    folded = array.astype(np.int64) - zero_point * sums
    assert np.abs(folded).max(initial=0) < 2**31, "lower_requantize bounds the bias"
    return rewriter.constant(f"{bias.name}.folded", folded.astype(np.int32), bias.type.quant)


def window_of(node: Node) -> tuple[Pair, Pads, Pair, int]:
    """(strides, pads, dilations, groups); a dense layer's are those of one tap."""
    if node.op.name == "dense":
        return (1, 1), (0, 0, 0, 0), (1, 1), 1
    return node.attrs.strides, node.attrs.pads, node.attrs.dilations, node.attrs.groups


def choose_channels(
    node: Node, selection: Selection, size: Array, scores: Mapping[str, Array]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(trained_channels, update_channels): columns of the filter, and of a depthwise one rows.

    size: magnitudes of the real weights, OHWI.
    """
    groups = getattr(node.attrs, "groups", 1)
    depthwise = groups > 1 and size.shape[3] == 1 and size.shape[0] == groups
    columns = size.shape[3]
    count = groups if depthwise else columns
    picked = selection.channels
    if picked is None:
        wanted = int(count * selection.weights)
        picked = _best(node, selection, size, scores, depthwise, wanted)
    if picked and (picked[0] < 0 or picked[-1] >= count):
        raise SchemeError(
            f"the scheme trains channel {picked[-1]}", node=str(node.origin),
            expected=f"0 … {count - 1}",
        )  # fmt: skip
    if depthwise:
        return ((0,) if picked else ()), (picked if len(picked) < count else ())
    if groups > 1 and 0 < len(picked) < count:
        raise SchemeError(
            "a grouped convolution trains in part", node=str(node.origin),
            expected="weights = 1 or 0 for it",
        )  # fmt: skip
    return picked, ()


def _best(
    node: Node,
    selection: Selection,
    size: Array,
    scores: Mapping[str, Array],
    depthwise: bool,
    wanted: int,
) -> tuple[int, ...]:
    """The `wanted` channels with the largest score, ascending."""
    count = size.shape[0] if depthwise else size.shape[3]
    if selection.select == "first" or wanted in (0, count):
        return tuple(range(wanted))
    if selection.select == "contribution":
        if node.name not in scores:
            raise SchemeError(
                'select = "contribution" needs data', node=str(node.origin),
                hint="plan the scheme with data, or select by magnitude",
            )  # fmt: skip
        score = scores[node.name]
    else:
        score = size.sum(axis=(1, 2, 3) if depthwise else (0, 1, 2))
    best = np.argsort(-score, kind="stable")[:wanted]
    return tuple(sorted(int(c) for c in best))


def _note_frozen(
    node: Node, filters: Value, rewriter: Rewriter, bias: Value, context: PassContext
) -> None:
    array = rewriter.array(bias)
    assert array is not None
    dead = int(frozen_channels(channel_scales(filters), array).sum())
    if dead:
        context.note(
            f"{node.origin}: {dead} of {array.size} output channels are dead or nearly so "
            "(weight scale, or bias at its limit); they do not learn"
        )
