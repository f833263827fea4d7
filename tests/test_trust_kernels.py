"""The kernels of blinded layers: the C gives what the oracle gives, sums that wrap included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array, DType, Quant, TensorType, int8
from tinsmith.ir.graph import Graph, Origin, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.ir.parser import parse
from tinsmith.ir.printer import print_graph
from tinsmith.ir.rewrite import Rewriter
from tinsmith.ir.verify import verify
from tinsmith.ops import get, registry
from tinsmith.ops._convolution import ConvolutionAttrs
from tinsmith.ops.one_time_pad import UnblindAttrs, ring_conv2d, wrap
from tinsmith.quant.arithmetic import quantize_multipliers
from tinsmith.trust.partition import join, partition

from .host_c import Job, program, run_jobs
from .test_trust_partition import readers_net

KEY = bytes(range(32))


PLAIN = ConvolutionAttrs()


@dataclass(frozen=True)
class Layer:
    """size: of the input, H, W, C."""

    name: str
    size: tuple[int, int, int]
    out: int
    kernel: tuple[int, int] = (1, 1)
    window: ConvolutionAttrs = PLAIN
    batch: int = 1


SAME3 = (1, 1, 1, 1)
LAYERS = (
    Layer("pointwise", (4, 5, 7), 9),
    Layer("batch", (3, 2, 4), 5, (2, 2), batch=3),
    Layer("same_3x3", (6, 5, 4), 6, (3, 3), ConvolutionAttrs(pads=SAME3)),
    Layer("stride2", (7, 8, 3), 4, (3, 3), ConvolutionAttrs((2, 2), (0, 0, 1, 1))),
    Layer("dilated", (9, 8, 3), 4, (3, 3), ConvolutionAttrs((1, 2), (2,) * 4, (2, 2))),
    Layer("depthwise", (6, 7, 8), 8, (3, 3), ConvolutionAttrs(pads=SAME3, groups=8)),
    Layer("depthwise_two", (5, 4, 3), 6, (3, 3), ConvolutionAttrs((2, 1), SAME3, groups=3)),
    Layer("grouped", (4, 4, 6), 8, (3, 3), ConvolutionAttrs(pads=SAME3, groups=2)),
)


def blinded(layer: Layer) -> Graph:
    """blind, the layer over the ring and unblind, the pad a graph input, with both middles out."""
    rng = np.random.default_rng(len(layer.name))
    h, w, c = layer.size
    x = Value("x", int8((layer.batch, h, w, c), 0.05, -11))
    pad = Value("pad", TensorType(x.type.shape, DType.INT32))
    graph = Graph(f"ring_{layer.name}", (x, pad), (), {}, (), Stage.QUANTIZED)
    b = Rewriter(graph, "test")
    shape = (layer.out, *layer.kernel, c // layer.window.groups)
    filters = b.constant("w", rng.integers(-127, 128, shape).astype(np.int8))
    multiplier, shift = quantize_multipliers(rng.uniform(0.5, 2, layer.out) / 40 / shape[-1])
    constants = [
        filters,
        b.constant("bias", rng.integers(-2000, 2000, layer.out).astype(np.int32)),
        b.constant("multiplier", multiplier),
        b.constant("shift", shift),
        b.constant("order", rng.permutation(layer.out).astype(np.int32)),
    ]
    mix = b.constant("mix", rng.permutation(c).astype(np.int32))
    origin = Origin(layer.name)
    (m,) = b.emit(get("blind"), [x, pad, mix], origin=origin, name="m")
    (u,) = b.emit(get("ring_conv2d"), [filters, m], layer.window, origin=origin, name="u")
    a = layer.window
    attrs = UnblindAttrs(a.strides, a.pads, a.dilations, a.groups, (-100, 120))
    y = Value("y", u.type.with_dtype(DType.INT8, Quant.per_tensor(0.1, 5)))
    b.emit(get("unblind"), [u, pad, *constants], attrs, origin=origin, outputs=[y])
    return b.finish(outputs=(m, u, y))


def samples_of(graph: Graph, count: int = 3) -> list[list[Array]]:
    """int8 and int32 over their whole ranges; the last sample at their ends."""
    rng = np.random.default_rng(7)
    drawn: list[list[Array]] = []
    for i in range(count):
        arrays: list[Array] = []
        for value in graph.inputs:
            low, high = value.type.dtype.range
            dtype = value.type.dtype.numpy
            if i == count - 1:
                arrays.append(rng.choice(np.array([low, high], dtype), value.type.shape))
            else:
                arrays.append(rng.integers(low, high, value.type.shape, dtype, endpoint=True))
        drawn.append(arrays)
    return drawn


def test_c_is_the_oracle(tmp_path: Path) -> None:
    graphs = [blinded(layer) for layer in LAYERS]
    graphs.append(with_pad_input(join(partition(readers_net(), "coreguard-otp", KEY))))
    jobs = [Job(program(g), samples_of(g)) for g in graphs]
    rows = run_jobs(tmp_path, jobs)
    for job, outputs in zip(jobs, rows, strict=True):
        for sample, row in zip(job.samples, outputs, strict=True):
            want = run(job.program.graph, sample)
            for got, expected in zip(row, want, strict=True):
                np.testing.assert_array_equal(got, expected, err_msg=job.program.graph.name)


def with_pad_input(graph: Graph) -> Graph:
    """The pad, a constant of a joined graph, as one more input."""
    pads = tuple(v for v in graph.initializers if v.name == "pad")
    left = {v: a for v, a in graph.initializers.items() if v not in pads}
    return replace(graph, inputs=(*graph.inputs, *pads), initializers=left)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_the_pad_cancels(layer: Layer) -> None:
    graph = blinded(layer)
    verify(graph)
    assert parse(print_graph(graph), registry()) == graph
    (first, second) = samples_of(graph, 2)
    results = [run(graph, [first[0], pad]) for pad in (first[1], second[1], first[1] * 0)]
    assert not np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][2], results[1][2])
    assert np.array_equal(results[0][2], results[2][2])
    assert len(np.unique(results[0][2])) > 3


def test_sums_wrap() -> None:
    """Against Python integers."""
    layer = LAYERS[2]
    graph = blinded(layer)
    node = next(n for n in graph.nodes if n.op.name == "ring_conv2d")
    w = graph.constant(node.inputs[0])
    m = np.full((1, *layer.size), 2**31 - 1, np.int32)
    (got,) = ring_conv2d(node, [w, m])
    centre = sum(int(v) * (2**31 - 1) for v in w[1].ravel())
    assert abs(centre) > 2**31
    assert got[0, 2, 2, 1] == (centre + 2**31) % 2**32 - 2**31
    assert wrap(np.array([2**31, -(2**31) - 1, 2**40 + 3])).tolist() == [-(2**31), 2**31 - 1, 3]


def test_blinded_values_are_uniform() -> None:
    """Over random pads every byte of the blinded input is as likely, for the worst input."""
    graph = blinded(LAYERS[0])
    x = np.full((1, 4, 5, 7), 127, np.int8)
    rng = np.random.default_rng(0)
    pads = (rng.integers(-(2**31), 2**31, x.shape, np.int32) for _ in range(60))
    drawn = np.concatenate([run(graph, [x, p])[0].ravel() for p in pads])
    counts = np.bincount(drawn.view(np.uint8).reshape(-1, 4)[:, 0], minlength=256)
    expected = drawn.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 347  # 0.01 % point, 255 degrees
