"""Layout legalisation on whole models: no transposes left, the same results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinsmith.frontend.onnx_import import import_model
from tinsmith.ir.builder import GraphBuilder
from tinsmith.ir.dtypes import float32
from tinsmith.ir.graph import Graph, Value
from tinsmith.lowering import CANONICALIZE
from tinsmith.ops import get
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import eliminate_dead_nodes, legalize_layout

from .shared import shared_models
from .test_passes import compute, random_input

LAYOUT = (legalize_layout.PASS, eliminate_dead_nodes.PASS)
TOLERANCE = 1e-4  # whole networks: another axis order sums in another order
MODELS = [
    *(f"mlperf_tiny/{n}_{t}" for n in ("ad", "ic", "kws", "vww") for t in ("f32", "int8")),
    *(
        f"mcu_nets/{n}_{t}"
        for n in ("mbv2-w0.35", "mcunet-5fps", "proxyless-w0.3")
        for t in ("f32", "int8")
    ),
]


def legalized(graph: Graph) -> Graph:
    return run_passes(graph, LAYOUT, PassContext())


def assert_same_results(before: Graph, after: Graph, seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    inputs = [random_input(v, rng) for v in before.inputs]
    for want, got in zip(compute(before, inputs), compute(after, inputs), strict=True):
        np.testing.assert_allclose(got, want, atol=TOLERANCE, rtol=TOLERANCE)


def load(name: str) -> Graph:
    path: Path = shared_models() / f"{name}.onnx"
    return run_passes(import_model(path), CANONICALIZE, PassContext())


@pytest.mark.parametrize("name", MODELS)
def test_shared_models_have_no_transposes(name: str) -> None:
    before = load(name)
    after = legalized(before)
    assert [n for n in after.nodes if n.op.name == "transpose"] == []
    assert all(getattr(n.attrs, "layout", "NHWC") == "NHWC" for n in after.nodes)
    assert [v.name for v in after.inputs] == [v.name for v in before.inputs]
    assert [v.name for v in after.outputs] == [v.name for v in before.outputs]
    assert_same_results(before, after)


@pytest.mark.parametrize("name", ["mlperf_tiny/ic_int8", "mlperf_tiny/vww_f32"])
def test_models_that_take_nhwc_keep_it(name: str) -> None:
    before = load(name)
    assert before.nodes[0].op.name == "transpose" or any(
        n.op.name == "transpose" for n in before.nodes
    )
    after = legalized(before)
    assert after.input_layouts == ()
    assert after.inputs == before.inputs


def test_legalizing_twice_changes_nothing() -> None:
    b = GraphBuilder("twice")
    x = b.input("x", float32(1, 3, 6, 6))
    w, bias = _weights(b, 4, 3)
    y = b.add(get("conv2d"), [x, w, bias])
    once = legalized(b.build([y]))
    assert once.input_layouts == ((0, 2, 3, 1),)
    again = run_passes(once, LAYOUT, PassContext())
    assert again.nodes == once.nodes
    assert again.input_layouts == once.input_layouts


def _weights(b: GraphBuilder, out: int, channels: int) -> tuple[Value, Value]:
    rng = np.random.default_rng(out)
    n = len(b._initializers)
    w = b.constant(f"w{n}", rng.normal(size=(out, channels, 1, 1)).astype(np.float32))
    return w, b.constant(f"b{n}", rng.normal(size=out).astype(np.float32))


class _Maker:
    """Grows a random graph: images, and whatever else their values turn into."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.b = GraphBuilder("random")
        self.values = [
            self.b.input("x", float32(1, 3, 4, 6)),
            self.b.input("z", float32(1, 3, 4, 6)),
        ]

    def step(self) -> None:
        x = self.draw(st.sampled_from(self.values))
        kinds = ["relu", "transpose", "reshape", "add_constant", "softmax", "add_same", "dense"]
        if x.type.rank == 4:
            kinds += ["conv2d", "conv2d", "max_pool", "concat", "split", "pad", "mean", "slice"]
        if y := getattr(self, "_" + self.draw(st.sampled_from(kinds)))(x):
            self.values.append(y)

    def _relu(self, x: Value) -> Value:
        return self.b.add(get("relu"), [x])

    def _transpose(self, x: Value) -> Value:
        perm = tuple(self.draw(st.permutations(range(x.type.rank))))
        return self.b.add(get("transpose"), [x], get("transpose").attrs(perm))

    def _reshape(self, x: Value) -> Value:
        shape = list(x.type.shape)
        kind = self.draw(st.sampled_from(["flat", "join", "one", "drop"]))
        if kind == "flat":
            shape = [1, x.type.elements]
        elif kind == "join" and len(shape) > 2:
            shape[-2:] = [shape[-2] * shape[-1]]
        elif kind == "one" and len(shape) < 4:
            shape.insert(self.draw(st.integers(0, len(shape))), 1)
        else:
            shape = [d for d in shape if d != 1] or [1]
        return self.b.add(get("reshape"), [x], get("reshape").attrs(tuple(shape)))

    def _add_constant(self, x: Value) -> Value:
        rank = self.draw(st.integers(0, x.type.rank))
        shape = tuple(
            d if self.draw(st.booleans()) else 1 for d in x.type.shape[x.type.rank - rank :]
        )
        array = np.random.default_rng(rank).normal(size=shape).astype(np.float32)
        constant = self.b.constant(f"k{len(self.b._initializers)}", np.asarray(array))
        pair = [x, constant] if self.draw(st.booleans()) else [constant, x]
        return self.b.add(get("add"), pair)

    def _add_same(self, x: Value) -> Value | None:
        others = [v for v in self.values if _broadcasts(v, x)]
        return self.b.add(get("mul"), [self.draw(st.sampled_from(others)), x])

    def _softmax(self, x: Value) -> Value:
        axis = self.draw(st.integers(0, x.type.rank - 1))
        return self.b.add(get("softmax"), [x], get("softmax").attrs(axis))

    def _dense(self, x: Value) -> Value:
        n, columns = len(self.b._initializers), x.type.shape[-1]
        rng = np.random.default_rng(columns)
        w = self.b.constant(f"w{n}", rng.normal(size=(5, columns)).astype(np.float32))
        bias = self.b.constant(f"b{n}", rng.normal(size=5).astype(np.float32))
        return self.b.add(get("dense"), [x, w, bias])

    def _conv2d(self, x: Value) -> Value:
        w, bias = _weights(self.b, 4, x.type.shape[1])
        return self.b.add(get("conv2d"), [x, w, bias])

    def _max_pool(self, x: Value) -> Value:
        op = get("max_pool")
        kernel = tuple(min(2, d) for d in x.type.shape[2:])
        return self.b.add(op, [x], op.attrs(kernel=kernel, strides=kernel))

    def _concat(self, x: Value) -> Value:
        axis = self.draw(st.integers(0, 3))
        return self.b.add(get("concat"), [x, x], get("concat").attrs(axis))

    def _split(self, x: Value) -> Value | None:
        axis = self.draw(st.integers(0, 3))
        size = x.type.shape[axis]
        if size < 2:
            return None
        return self.b.add_all(get("split"), [x], get("split").attrs(axis, (1, size - 1)))[1]

    def _pad(self, x: Value) -> Value:
        attrs = get("pad").attrs((1, 3), (0, 1), (2, 1))
        return self.b.add(get("pad"), [x], attrs)

    def _slice(self, x: Value) -> Value:
        axis = self.draw(st.integers(0, 3))
        size = x.type.shape[axis]
        attrs = get("slice").attrs((axis,), (size - 1,), (size,), (-1,))
        return self.b.add(get("slice"), [x], attrs)

    def _mean(self, x: Value) -> Value:
        axes = tuple(sorted(self.draw(st.sets(st.integers(1, 3), min_size=1))))
        return self.b.add(
            get("reduce_mean"), [x], get("reduce_mean").attrs(axes, self.draw(st.booleans()))
        )


def _broadcasts(a: Value, x: Value) -> bool:
    try:
        return np.broadcast_shapes(a.type.shape, x.type.shape) == x.type.shape
    except ValueError:
        return False


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_random_graphs_compute_the_same(data: st.DataObject) -> None:
    maker = _Maker(data)
    for _ in range(data.draw(st.integers(1, 10))):
        maker.step()
    made = maker.values[2:]
    outputs = (
        data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=2, unique=True))
        if made
        else []
    )
    if not outputs or any(v.type.elements > 20000 for v in maker.values):
        return
    before = maker.b.build(outputs)
    assert_same_results(before, legalized(before))
