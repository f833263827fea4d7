"""Every operator, every case: float against onnxruntime, int8 against the float operator."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array, DType, TensorType
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Absent, Case, OpDef
from tinsmith.ir.parser import parse
from tinsmith.ir.printer import print_graph
from tinsmith.ir.verify import verify
from tinsmith.ops import registry

from .cases import (
    all_cases,
    case_graph,
    case_inputs,
    cases_of,
    dequantized,
    float_twin,
    lowered,
    onnx_layout_graph,
    op_graph,
    quantized,
    to_nhwc,
)
from .onnx_builder import onnx_model, run_onnx

# float32 sums of a few hundred products in another order
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}
SEEDS = (0, 1, 2, 3)


def _named(dtype: DType) -> list[object]:
    return [pytest.param(o, c, id=f"{o.name}-{c.name}") for o, c in all_cases(dtype)]


@pytest.mark.parametrize(("op", "case"), _named(DType.FLOAT32))
def test_float_reference_matches_onnxruntime(op: OpDef, case: Case) -> None:
    graph = onnx_layout_graph(op, case)
    model = onnx_model(graph)
    for seed in SEEDS[:2]:
        inputs = case_inputs(graph, seed)
        got, want = run(graph, inputs), run_onnx(model, inputs)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, **TOLERANCE)


_WITH_LAYOUT = [
    pytest.param(o, c, id=f"{o.name}-{c.name}")
    for o, c in all_cases(DType.FLOAT32)
    if hasattr(o.attrs(), "layout")
]


@pytest.mark.parametrize(("op", "case"), _WITH_LAYOUT)
def test_layouts_mean_the_same(op: OpDef, case: Case) -> None:
    graph = onnx_layout_graph(op, case)
    moved = to_nhwc(graph)
    inputs = case_inputs(graph, 5)
    nhwc = [x.transpose(0, 2, 3, 1) if x.ndim == 4 else x for x in inputs]
    for got, want in zip(run(moved, nhwc), run(graph, inputs), strict=True):
        back = got.transpose(0, 3, 1, 2) if got.ndim == 4 else got
        np.testing.assert_allclose(back, want, **TOLERANCE)


@pytest.mark.parametrize(("op", "case"), _named(DType.INT8))
def test_int8_is_within_one_lsb_of_float(op: OpDef, case: Case) -> None:
    graph = quantized(to_nhwc(onnx_layout_graph(op, case)), case)
    integer = lowered(graph)
    verify(integer)
    for seed in SEEDS:
        inputs = case_inputs(integer, seed)
        got = run(integer, inputs)
        if isinstance(op.onnx_export, Absent):  # no float form: the formula is all there is
            assert all(np.array_equal(a, b) for a, b in zip(got, run(integer, inputs), strict=True))
            continue
        want = run(float_twin(graph), dequantized(graph, inputs))
        for g, w, value in zip(got, want, graph.outputs, strict=True):
            error = np.abs(g.astype(np.int64) - _rounded(w, value.type))
            assert error.max() <= 1, f"{error.max()} LSB at {np.argmax(error)}, seed {seed}"


def _rounded(real: Array, type_: TensorType) -> Array:
    """real as integers of the type, half up; NaN (a root of a negative) counts as zero."""
    scaled = (
        np.nan_to_num(real.astype(np.float64), nan=0.0, posinf=1e38, neginf=-1e38) / type_.scale
    )
    q = np.floor(np.clip(scaled, -1e6, 1e6) + 0.5) + type_.zero_point
    return np.clip(q, -128, 127).astype(np.int64)


_FORMS = [
    pytest.param(op, dtype, id=f"{op.name}-{dtype}")
    for op in registry().values()
    for dtype in (DType.FLOAT32, DType.INT8)
    if cases_of(op, dtype)
]


@pytest.mark.parametrize(("op", "dtype"), _FORMS)
def test_all_cases_in_one_graph(op: OpDef, dtype: DType) -> None:
    graph = op_graph(op, dtype)
    verify(graph)
    assert parse(print_graph(graph), registry()) == graph
    together = run(graph, case_inputs(graph, 1))
    assert len(together) == len(graph.outputs)


@pytest.mark.parametrize(("op", "case"), _named(DType.INT8))
def test_int8_cases_reach_more_than_one_value(op: OpDef, case: Case) -> None:
    """A case whose output is one constant would test nothing."""
    graph = case_graph(op, case)
    values = [run(graph, case_inputs(graph, seed)) for seed in SEEDS]
    assert len(np.unique(np.concatenate([np.ravel(v) for vs in values for v in vs]))) > 1


@pytest.mark.parametrize(
    "op", [o for o in registry().values() if cases_of(o, DType.INT8)], ids=lambda op: op.name
)
def test_int8_values_reach_both_ends(op: OpDef) -> None:
    """Over all its cases an operator's inputs saturate the output at both ends, or nearly."""
    graph = op_graph(op)
    outputs = [
        np.concatenate([np.ravel(v) for v in run(graph, case_inputs(graph, s))]) for s in SEEDS
    ]
    reached = np.concatenate(outputs)
    assert int(reached.max()) - int(reached.min()) > 200
