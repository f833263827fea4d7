"""Turn the layers of a float32 network into the form in which they learn: see select_updates.

Every convolution and dense layer becomes a conv2d_float and every mean an ordered one, learning or
not: their sums are then the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Stage
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops._gradient import Optimizer
from ..ops.conv2d_float import Conv2dFloatAttrs
from ..pass_manager import Pass, PassContext
from ..train.scheme import Scheme, SchemeError, Selection, resolve
from .select_updates import choose_channels, emit_layer, pixels_of, window_of

NAME = "select_float_updates"
_ORDERED = {"reduce_mean": "ordered_reduce_mean", "average_pool": "ordered_average_pool"}


def run(graph: Graph, context: PassContext) -> Graph:
    scheme: Scheme = context.options["scheme"]
    if scheme.optimizer != Optimizer():
        raise SchemeError(
            "a float32 network learns by plain SGD, one sample at a time",
            expected="no batch, momentum or weight_decay",
            hint="leave them out of the scheme",
        )
    scores: Mapping[str, Array] = context.options.get("channel_scores", {})
    chosen = resolve(scheme, graph)
    rewriter = Rewriter(graph, NAME)
    for node in graph.nodes:
        if node.name in chosen:
            _make_trainable(node, chosen[node.name], rewriter, scores)
        elif node.op.name in _ORDERED:
            op = get(_ORDERED[node.op.name])
            rewriter.emit(op, node.inputs, node.attrs, origin=node.origin, outputs=node.outputs)
        else:
            rewriter.keep(node)
    return rewriter.finish()


PASS = Pass(NAME, run, Stage.FLOAT, Stage.TRAINING)


def _make_trainable(
    node: Node, selection: Selection, rewriter: Rewriter, scores: Mapping[str, Array]
) -> None:
    x, w, bias = node.inputs
    filters, array = rewriter.array(w), rewriter.array(bias)
    if filters is None or array is None:
        raise SchemeError(
            f"the weights of {node.op.name} are computed", node=str(node.origin),
            expected="constant weights",
        )  # fmt: skip
    dense = node.op.name == "dense"
    ohwi = filters.reshape(filters.shape[0], 1, 1, -1) if dense else filters
    size = np.abs(ohwi).astype(np.float64)
    channels, update_channels = choose_channels(node, selection, size, scores)
    kept = [c for c in range(ohwi.shape[3]) if c not in set(channels)]
    inputs = [
        pixels_of(x, rewriter, node) if dense else x,
        rewriter.constant(f"{w.name}.frozen", ohwi[..., kept]),
        rewriter.constant(f"{w.name}.trained", ohwi[..., list(channels)]),
        rewriter.constant(f"{bias.name}.own", array),
    ]
    attrs = Conv2dFloatAttrs(
        *window_of(node), channels, update_channels, selection.bias, node.attrs.clamp
    )
    emit_layer(node, get("conv2d_float"), inputs, attrs, rewriter)
