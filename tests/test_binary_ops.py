"""Sums and products in int8: one operand twice, constants, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.dtypes import Array, DType, Quant, TensorType, int8
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.ops import get
from tinsmith.quant.arithmetic import dequantize_array, quantize_array

from .cases import lowered
from .host_c import Job, program, run_jobs

EVERY = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
X = Value("x", int8((1, 256), 0.05, 11))


def graph(op: str, operands: list[Value], y_scale: float, constants: dict[Value, Array]) -> Graph:
    y = Value("y", int8((1, 256), y_scale, -20))
    node = Node(get(op), tuple(operands), (y,), get(op).attrs(), Origin("y", op))
    made = Graph(f"{op}_twice", (X,), (y,), constants, (node,), Stage.QUANTIZED)
    return lowered(made)


FUNCTIONS = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_one_value_as_both_operands(op: str, tmp_path: Path) -> None:
    made = graph(op, [X, X], 0.3, {})
    real = dequantize_array(EVERY, X.type).astype(np.float64)
    (got,) = run(made, [EVERY])
    want = quantize_array(FUNCTIONS[op](real, real), made.outputs[0].type)
    assert np.abs(got.astype(int) - want).max() <= 1
    (((in_c,),),) = run_jobs(tmp_path, [Job(program(made), [[EVERY]])])
    np.testing.assert_array_equal(in_c, got)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_constant_on_the_left(op: str, tmp_path: Path) -> None:
    c = Value("c", int8((256,), 0.02, -3))
    made = graph(op, [c, X], 0.1, {c: EVERY.ravel()[::-1].copy()})
    (got,) = run(made, [EVERY])
    (((in_c,),),) = run_jobs(tmp_path, [Job(program(made), [[EVERY]])])
    np.testing.assert_array_equal(in_c, got)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_operand_quantised_per_channel_is_refused(op: str) -> None:
    quant = Quant((0.1, 0.2), (0, 0), 0)
    c = Value("c", TensorType((2, 1), DType.INT8, quant))
    with pytest.raises(CompileError, match="not quantised per tensor"):
        graph(op, [X, c], 0.1, {c: np.ones((2, 1), np.int8)})


def test_sum_of_scales_too_far_apart_is_refused() -> None:
    c = Value("c", int8((1,), 1e4, 0))
    with pytest.raises(CompileError, match="too far apart"):
        graph("add", [X, c], 1e-7, {c: np.ones(1, np.int8)})


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="do not broadcast"):
        get("add").infer([int8((2, 3), 1.0, 0), int8((2, 4), 1.0, 0)], get("add").attrs())
