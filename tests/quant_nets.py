"""A small float network in ONNX layout, and the passes that quantise it, for tests."""

from __future__ import annotations

import math

import numpy as np

from tinsmith.ir.builder import GraphBuilder
from tinsmith.ir.dtypes import Array, float32
from tinsmith.ir.graph import Graph
from tinsmith.lowering import TO_INT8
from tinsmith.ops import get
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import insert_qdq
from tinsmith.quant.calibrate import calibrate
from tinsmith.quant.ranges import Method

RELU = (0.0, math.inf)


def small_cnn(seed: int = 0) -> Graph:
    """conv → depthwise → residual add → max pool → hard_swish → concat → mean → dense → softmax."""
    random = np.random.default_rng(seed)
    b = GraphBuilder("small_cnn")

    def weights(*shape: int) -> Array:
        return random.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape).astype(np.float32)

    def constant(name: str, array: Array):
        return b.constant(name, array)

    def conv(x, name: str, out: int, per_group: int, k: int, **attrs: object):
        w = constant(f"{name}.w", weights(out, per_group, k, k))
        bias = constant(f"{name}.b", random.normal(0, 0.2, out).astype(np.float32))
        pads = (k // 2,) * 4
        return b.add(get("conv2d"), [x, w, bias], Conv2dAttrs(pads=pads, **attrs), name)

    x = b.input("x", float32(1, 3, 12, 12))
    stem = conv(x, "stem", 8, 3, 3, clamp=RELU)
    depthwise = conv(stem, "depthwise", 8, 1, 3, groups=8, clamp=(0.0, 6.0))
    total = b.add(get("add"), [stem, conv(depthwise, "pointwise", 8, 8, 1)], name="residual")
    max_pool = get("max_pool")
    pooled = b.add(max_pool, [total], max_pool.attrs((2, 2), (2, 2)), "pool")
    swish = b.add(get("hard_swish"), [pooled], name="swish")
    concat = get("concat")
    both = b.add(concat, [pooled, swish], concat.attrs(axis=1), "both")
    mean = get("reduce_mean")
    vector = b.add(mean, [both], mean.attrs((2, 3), False), "mean")
    bias = constant("fc.b", random.normal(0, 0.2, 10).astype(np.float32))
    logits = b.add(get("dense"), [vector, constant("fc.w", weights(10, 16)), bias], name="fc")
    softmax = get("softmax")
    return b.build([b.add(softmax, [logits], name="probabilities")])


def samples_of(graph: Graph, count: int = 16, seed: int = 1) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.normal(0, 1, (count, *v.type.shape)).astype(np.float32) for v in graph.inputs]


def quantize(graph: Graph, samples: list[Array], method: Method = "minmax") -> Graph:
    """The QDQ graph."""
    context = PassContext(calibration=calibrate(graph, samples, method))
    return run_passes(graph, [insert_qdq.PASS], context)


def lower(graph: Graph, context: PassContext | None = None) -> Graph:
    """A QDQ graph in integers."""
    return run_passes(graph, TO_INT8, context or PassContext())
