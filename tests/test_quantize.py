"""Quantising float networks: QDQ insertion, export, and the quality report."""

from __future__ import annotations

from io import StringIO

import numpy as np
import onnx
import pytest
from rich.console import Console

from tinsmith.errors import CompileError
from tinsmith.frontend.onnx_export import export_model
from tinsmith.ir.builder import GraphBuilder
from tinsmith.ir.dtypes import DType, Quant, float32
from tinsmith.ops import get
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import insert_qdq
from tinsmith.quant.batch import fold_weights, run_many
from tinsmith.quant.calibrate import calibrate
from tinsmith.quant.quality import quality, quality_json, quality_table
from tinsmith.quant.ranges import METHODS
from tinsmith.quant.samples import match_samples

from .onnxruntime_reference import assert_every_operator_within_one_lsb, import_float, top1
from .quant_nets import lower, quantize, samples_of, small_cnn


class TestInsertQdq:
    graph = small_cnn()
    samples = samples_of(graph, 24)
    qdq = quantize(graph, samples)

    def quant_of(self, name: str) -> Quant:
        value = next(v for v in self.qdq.values if v.name == f"{name}.q")
        assert value.type.quant
        return value.type.quant

    def test_every_activation_has_a_scale(self) -> None:
        for node in self.graph.nodes:
            assert self.quant_of(node.name).axis is None
        assert [v.name for v in self.qdq.outputs] == [v.name for v in self.graph.outputs]
        assert [v.name for v in self.qdq.inputs] == ["x"]

    def test_weights_and_biases(self) -> None:
        stored = {v.name: v.type for v in self.qdq.initializers}
        assert stored["stem.w.q"].dtype is DType.INT8
        assert stored["stem.w.q"].quant.axis == 0
        assert stored["stem.b.q"].dtype is DType.INT32
        scales = np.float32(stored["stem.w.q"].quant.scale) * np.float32(self.quant_of("x").scale)
        assert np.allclose(stored["stem.b.q"].quant.scale, scales, rtol=1e-6)

    def test_rules_of_the_operators(self) -> None:
        assert self.quant_of("pool") == self.quant_of("residual"), "movement keeps the scale"
        assert self.quant_of("pool") == self.quant_of("swish") == self.quant_of("both")
        assert self.quant_of("probabilities") == Quant.per_tensor(1 / 256, -128)
        assert self.quant_of("stem").zero_point == (-128,)

    def test_without_calibration_nothing_changes(self) -> None:
        assert run_passes(self.graph, [insert_qdq.PASS], PassContext()) == self.graph

    def test_calibration_of_another_graph(self) -> None:
        with pytest.raises(CompileError, match="no calibration for value"):
            run_passes(self.graph, [insert_qdq.PASS], PassContext(calibration={}))

    def test_nan_weights_name_the_node(self) -> None:
        b = GraphBuilder("nan")
        x, w = b.input("x", float32(1, 2)), b.constant("w", np.float32([[1, np.nan]]))
        graph = b.build([b.add(get("dense"), [x, w, b.constant("b", np.zeros(1, np.float32))])])
        context = PassContext(calibration=calibrate(small_cnn(), self.samples))
        context.calibration = dict.fromkeys(("x", "dense1"), context.calibration["x"])
        with pytest.raises(CompileError, match="NaN or infinity") as caught:
            run_passes(graph, [insert_qdq.PASS], context)
        assert caught.value.node == "dense 'dense1'"

    def test_integers_agree_with_the_qdq_graph(self) -> None:
        integer = lower(self.qdq)
        assert not [n for n in integer.nodes if n.op.name in ("quantize", "dequantize")]
        x = samples_of(self.graph, 32, seed=5)
        (want,) = run_many(fold_weights(self.qdq), x)
        (got,) = run_many(integer, match_samples({"x": x[0]}, integer))
        y = integer.outputs[0].type
        difference = np.abs((got.astype(int) - y.zero_point) - np.rint(want / y.scale))
        assert difference.max() <= 2
        assert difference.mean() < 0.2

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_stays_close_to_float(self, method) -> None:
        qdq = quantize(self.graph, self.samples, method)
        (want,) = run_many(self.graph, self.samples)
        (got,) = run_many(fold_weights(qdq), self.samples)
        assert np.abs(got - want).max() < 0.08
        assert (top1(got) == top1(want)).mean() > 0.85

    def test_exported_model_runs_in_onnxruntime(self) -> None:
        model = export_model(self.qdq)
        kinds = {t.name: t.data_type for t in model.graph.initializer}
        assert kinds["stem.w.q"] == onnx.TensorProto.INT8
        assert kinds["stem.b.q"] == onnx.TensorProto.INT32
        integer = lower(self.qdq)
        checked = 0
        for row in self.samples[0][:4]:
            checked += assert_every_operator_within_one_lsb(integer, model, {"x": row})
        assert checked == 4 * len(integer.nodes)

    def test_exported_model_imports_again_to_the_same_integers(self) -> None:
        again = lower(import_float(export_model(self.qdq).SerializeToString()))
        x = samples_of(self.graph, 4, seed=6)
        first, second = (
            run_many(g, match_samples({"x": x[0]}, g))[0] for g in (lower(self.qdq), again)
        )
        assert np.array_equal(first, second)


class TestQuality:
    def test_names_the_layer_that_costs_accuracy(self) -> None:
        graph = small_cnn()
        samples = samples_of(graph, 16)
        found = calibrate(graph, samples, "minmax")
        narrow = dict(found)
        worst = found["pointwise"]
        narrow["pointwise"] = type(worst)(
            worst.scale / 16, worst.zero_point, worst.low / 16, worst.high / 16, *_rest(worst)
        )
        qdq = run_passes(graph, [insert_qdq.PASS], PassContext(calibration=narrow))
        layers = quality(graph, qdq, samples)
        assert layers[0].node == "pointwise"
        assert "--method minmax" in layers[0].hint
        assert layers[0].local_sqnr_db < 20
        after = next(q for q in layers if q.node == "residual")
        assert after.local_sqnr_db > after.sqnr_db
        assert {q.node for q in layers} == {n.name for n in graph.nodes}

    def test_a_good_network_has_no_complaints(self) -> None:
        graph = small_cnn()
        samples = samples_of(graph, 16)
        layers = quality(graph, quantize(graph, samples), samples)
        good = [q for q in layers if not q.hint]
        assert len(good) >= len(layers) - 1
        assert all(q.max_abs_lsb < 3 for q in layers if q.op == "conv2d")

    def test_report_is_a_table_and_json(self) -> None:
        graph = small_cnn()
        samples = samples_of(graph, 4)
        layers = quality(graph, quantize(graph, samples), samples)
        console = Console(width=150, record=True, file=StringIO())
        console.print(quality_table(layers))
        assert "pointwise" in console.export_text()
        rows = quality_json(layers)
        assert {"node", "op", "sqnr_db", "local_sqnr_db", "hint"} <= rows[0].keys()
        assert all(r["sqnr_db"] is None or np.isfinite(r["sqnr_db"]) for r in rows)


def _rest(calibration) -> tuple:
    return calibration.seen_low, calibration.seen_high, calibration.method
