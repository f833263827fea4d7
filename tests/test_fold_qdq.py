"""fold_qdq: QDQ graphs become int8 graphs that mean the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.dtypes import DType, Quant, float32, int8
from tinsmith.ir.graph import Graph, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.ops import get
from tinsmith.ops.dense import DenseAttrs
from tinsmith.ops.reshape import ReshapeAttrs
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import fold_qdq, insert_qdq
from tinsmith.quant.calibrate import calibrate

from .qdq_builder import Qdq, fold

RELU = (0.0, math.inf)


def assert_close(before: Graph, after: Graph, seed: int = 1, lsb: int = 1) -> None:
    """The int8 graph computes what the QDQ graph does, within `lsb`."""
    random = np.random.default_rng(seed)
    for _ in range(3):
        fed, device = [], []
        for old, new in zip(before.inputs, after.inputs, strict=True):
            q = random.integers(-128, 128, old.type.shape).astype(np.int8)
            real = ((q.astype(np.float32)) - new.type.zero_point) * np.float32(new.type.scale)
            fed.append(q if old.type.dtype is DType.INT8 else real)
            device.append(q)
        for new, want, got in zip(after.outputs, run(before, fed), run(after, device), strict=True):
            real = want.dtype != np.int8
            q = np.rint(want / np.float32(new.type.scale)) + new.type.zero_point if real else want
            error = np.abs(q.astype(int) - got.astype(int)).max()
            assert error <= lsb, f"{new.name} differs by {error}"


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def test_conv_and_dense_fold() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 8, 8, 3)), 0.02, 5)
    y = b.qdq(b.conv(x, 0.02, 4, clamp=RELU), 0.1, -128, "conv.q")
    flat = b.add(get("reshape"), [y], ReshapeAttrs((1, 144)))
    w = b.weights("fc", (10, 144))
    z = b.add(get("dense"), [flat, w, b.bias("fc.b", w, 0.1)], DenseAttrs())
    graph = b.build([b.dq(b.q(z, 0.7, 3))])
    folded = fold(graph)
    assert folded.stage is Stage.QUANTIZED
    assert names(folded) == ["conv2d", "reshape", "dense"]
    assert [v.name for v in folded.inputs] == ["x"]
    assert [v.name for v in folded.outputs] == [v.name for v in graph.outputs]
    assert folded.nodes[0].name == "conv.q"
    assert folded.nodes[0].attrs.q_clamp == (-128, 127)
    assert_close(graph, folded)


def test_several_readers_of_one_quantize() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 6, 6, 4)), 0.02, 0)
    q = b.q(b.conv(x, 0.02, 4, pads=(1, 1, 1, 1)), 0.05, 0)
    one = b.qdq(b.conv(b.dq(q), 0.05, 4, pads=(1, 1, 1, 1)), 0.2, 4)
    total = b.q(b.add(get("add"), [b.dq(q), one]), 0.2, -3)
    graph = b.build([total])
    folded = fold(graph)
    assert names(folded) == ["conv2d", "conv2d", "add"]
    assert_close(graph, folded, lsb=2)


def test_movement_between_dequantize_and_output() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 4, 4, 2)), 0.5, 1)
    graph = b.build([b.add(get("reshape"), [x], ReshapeAttrs((1, 32)), "flat")])
    folded = fold(graph)
    assert names(folded) == ["reshape"]
    assert folded.outputs[0] == Value("flat", int8((1, 32), 0.5, 1))


def test_movement_on_int8_and_before_quantize() -> None:
    """A reshape of the int8 input, and one between a convolution and its quantize."""
    b = Qdq()
    x = b.input("x", int8((1, 96), 0.02, 7))
    x = b.dq(b.add(get("reshape"), [x], ReshapeAttrs((1, 4, 8, 3))))
    flat = b.add(get("reshape"), [b.conv(x, 0.02, 4)], ReshapeAttrs((1, 48)))
    graph = b.build([b.q(flat, 0.1, 2)])
    folded = fold(graph)
    assert names(folded) == ["reshape", "conv2d", "reshape"]
    assert folded.nodes[1].y.quant == Quant.per_tensor(0.1, 2)
    assert_close(graph, folded)


def test_graph_input_read_through_movement() -> None:
    b = Qdq()
    x = b.add(get("reshape"), [b.input("x", float32(1, 12))], ReshapeAttrs((1, 2, 6)))
    graph = b.build([b.q(x, 0.25, -7)])
    folded = fold(graph)
    assert folded.inputs[0].type == int8((1, 12), 0.25, -7)
    assert_close(graph, folded, lsb=0)


def test_requantise_is_a_table_and_equal_scales_vanish() -> None:
    b = Qdq()
    q = b.q(b.input("x", float32(1, 9)), 0.25, 0)
    other = b.q(b.dq(q), 0.1, 20, "other")
    again = b.q(b.dq(other), 0.1, 20)
    graph = b.build([again])
    folded = fold(graph)
    assert names(folded) == ["lookup"]
    assert_close(graph, folded)


def test_movement_with_another_scale_after_it() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 12)), 0.25, 0)
    moved = b.add(get("reshape"), [x], ReshapeAttrs((3, 4)))
    graph = b.build([b.q(moved, 0.5, 3)])
    folded = fold(graph)
    assert names(folded) == ["reshape", "lookup"]
    assert_close(graph, folded)


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_constant_operand(op: str) -> None:
    """A float constant is quantised per tensor; the result is as exact as that constant."""
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 5, 5, 4)), 0.02, 3)
    constant = b.constant("c", np.linspace(-1.27, 1.28, 4).astype(np.float32))
    graph = b.build([b.q(b.add(get(op), [x, constant]), 0.04, 0)])
    folded = fold(graph)
    assert names(folded) == [op]
    assert folded.nodes[0].y.dtype is DType.INT8
    assert_close(graph, folded, lsb=2)


def test_dequantised_constant_operand_per_channel() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 3, 4)), 0.02, 3)
    c = b.constant("c", np.array([10, -20, 30, 40], np.int8), Quant((0.01,) * 4, (0,) * 4, 0))
    graph = b.build([b.q(b.add(get("mul"), [x, b.dq(c)]), 0.01, 0)])
    assert_close(graph, fold(graph), lsb=2)


def test_unary_between_dequantize_and_quantize() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 50)), 0.05, 0)
    graph = b.build([b.q(b.add(get("relu"), [x]), 0.02, -128)])
    folded = fold(graph)
    assert names(folded) == ["lookup"]
    assert_close(graph, folded)


def test_bias_of_another_scale_is_rescaled_and_said() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 8)), 0.02, 0)
    w = b.weights("w", (4, 8))
    y = b.add(get("dense"), [x, w, b.bias("b", w, 0.02, factor=3.0)], DenseAttrs())
    graph = b.build([b.q(y, 0.05, 0)])
    context = PassContext()
    folded = fold(graph, context)
    assert any("rescaled" in note for note in context.notes)
    assert_close(graph, folded)


def test_float_weights_and_bias_are_quantised() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 8)), 0.02, 0)
    w = b.constant("w", b.random.normal(0, 1, (4, 8)).astype(np.float32))
    bias = b.constant("b", b.random.normal(0, 1, 4).astype(np.float32))
    context = PassContext()
    graph = b.build([b.q(b.add(get("dense"), [x, w, bias], DenseAttrs()), 0.1, 0)])
    folded = fold(graph, context)
    assert folded.nodes[0].inputs[1].type.quant.axis == 0
    assert any("weights are float" in note for note in context.notes)
    assert_close(graph, folded, lsb=2)


def test_asymmetric_weights_are_requantised() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 8)), 0.02, 0)
    q = b.random.integers(-128, 128, (4, 8)).astype(np.int8)
    w = b.dq(b.constant("w", q, Quant.per_tensor(0.01, -40)))
    bias = b.constant("b", np.zeros(4, np.float32))
    graph = b.build([b.q(b.add(get("dense"), [x, w, bias], DenseAttrs()), 0.1, 0)])
    folded = fold(graph)
    assert set(folded.nodes[0].inputs[1].type.quant.zero_point) == {0}
    assert_close(graph, folded, lsb=2)


def test_shared_weights_stay_shared() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 4)), 0.02, 0)
    w = b.weights("w", (4, 4))
    y = x
    for _ in range(2):
        bias = b.constant(f"zero{b._count}", np.zeros(4, np.float32))
        y = b.qdq(b.add(get("dense"), [y, w, bias]), 0.02, 0)
    folded = fold(b.build([y]))
    assert folded.nodes[0].inputs[1] == folded.nodes[1].inputs[1]


def test_fixed_output_needs_no_quantize() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 10)), 0.1, 0)
    folded = fold(b.build([b.add(get("softmax"), [x])]))
    assert folded.outputs[0].type.quant == Quant.per_tensor(1 / 256, -128)


def test_missing_quantize_names_the_nodes() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 6, 6, 3)), 0.02, 0)
    y = b.add(get("add"), [b.conv(x, 0.02, 3, pads=(1, 1, 1, 1)), x], name="sum")
    graph = b.build([b.q(b.add(get("reshape"), [y], ReshapeAttrs((1, 108))), 0.1, 0)])
    with pytest.raises(CompileError) as caught:
        fold(graph)
    text = caught.value.render()
    assert "1 node of the quantised model would stay float" in text
    assert "conv2d" in text
    assert "no QuantizeLinear follows it" in text
    assert "--calibrate" in text


def test_calibration_fills_the_gap() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 6, 6, 3)), 0.02, 0)
    y = b.add(get("add"), [b.conv(x, 0.02, 3, pads=(1, 1, 1, 1)), x], name="sum")
    graph = b.build([b.q(y, 0.1, 0)])
    assert insert_qdq.gaps(graph) == ["conv2d 'conv2d5'"]
    samples = [np.random.default_rng(0).uniform(-2, 2, (8, 1, 6, 6, 3)).astype(np.float32)]
    context = PassContext(calibration=calibrate(graph, samples, "minmax"))
    filled = run_passes(graph, [insert_qdq.PASS], context)
    assert insert_qdq.gaps(filled) == []
    folded = fold(filled)
    assert names(folded) == ["conv2d", "add"]
    assert_close(filled, folded, lsb=2)


def test_float_graph_is_refused() -> None:
    b = Qdq()
    graph = b.build([b.add(get("relu"), [b.input("x", float32(1, 4))])])
    with pytest.raises(CompileError, match="nothing says how to quantise"):
        fold(graph)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_outputs_of_equal_integers_keep_their_names(order: tuple[int, ...]) -> None:
    b = Qdq()
    held = b.q(b.input("x", float32(1, 6)), 0.1, 3, "q")
    relu = b.q(b.add(get("relu"), [b.dq(held)]), 0.1, -128, "r")
    outputs = [b.dq(relu), b.add(get("dequantize"), [relu], name="twice"), b.dq(held)]
    before = b.build([outputs[i] for i in order])
    after = run_passes(before, [fold_qdq.PASS], PassContext())
    assert [v.name for v in after.outputs] == [v.name for v in before.outputs]
    x = np.array([[-60, -4, 2, 3, 4, 90]], np.int8)
    clipped = np.clip(x.astype(int) - 3, 0, None) - 128
    want = [clipped, clipped, x]
    for i, array in zip(order, run(after, [x]), strict=True):
        assert array.tolist() == want[i].tolist()
