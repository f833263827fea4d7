"""Accuracy of models that nobody here made: quantised by us, and imported quantised."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tinsmith.frontend.onnx_export import export_model
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import insert_qdq
from tinsmith.quant.batch import run_many
from tinsmith.quant.calibrate import calibrate
from tinsmith.quant.samples import load_samples, match_samples

from .onnxruntime_reference import assert_every_operator_within_one_lsb, import_float, top1
from .quant_nets import lower, quantize
from .shared import shared_data, shared_models

TINY = ("ic", "kws", "vww", "ad")
MCU = ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3")


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_ic_keeps_its_accuracy(method) -> None:
    """int8 within half a point of float on 846 images, calibrated on 200 others."""
    graph = import_float(shared_models() / "mlperf_tiny" / "ic_f32.onnx")
    data = shared_data() / "cifar10_subset.npz"
    context = PassContext(calibration=calibrate(graph, load_samples(data, graph, 200), method))
    integer = lower(run_passes(graph, [insert_qdq.PASS], context))
    with np.load(data) as archive:
        images, labels = archive["x_test"], archive["y_test"].ravel()
    exact = top1(run_many(graph, match_samples({"x": images}, graph))[0]) == labels
    got = top1(run_many(integer, match_samples({"x": images}, integer))[0]) == labels
    assert exact.mean() == pytest.approx(0.877, abs=0.001)
    assert abs(got.mean() - exact.mean()) <= 0.005


def test_ic_exported_qdq_runs_in_onnxruntime() -> None:
    graph = import_float(shared_models() / "mlperf_tiny" / "ic_f32.onnx")
    samples = load_samples(shared_data() / "cifar10_subset.npz", graph, 20)
    qdq = quantize(graph, samples)
    feed = {graph.inputs[0].name: samples[0][7]}
    integer = lower(qdq)
    checked = assert_every_operator_within_one_lsb(integer, export_model(qdq), feed)
    assert checked == len(integer.nodes)


@pytest.mark.parametrize("name", TINY)
def test_imported_operators_agree_with_onnxruntime(name: str) -> None:
    folder = shared_models() / "mlperf_tiny"
    integer = lower(import_float(folder / f"{name}_int8.onnx"))
    x = np.load(folder / f"{name}_golden.npz")["x"][:1]
    model = onnx.load(folder / f"{name}_int8.onnx")
    feed = {model.graph.input[0].name: x}
    assert assert_every_operator_within_one_lsb(integer, model, feed) == len(integer.nodes)


@pytest.mark.parametrize("name", TINY)
def test_imported_end_to_end(name: str) -> None:
    folder = shared_models() / "mlperf_tiny"
    integer = lower(import_float(folder / f"{name}_int8.onnx"))
    golden = np.load(folder / f"{name}_golden.npz")
    (got,) = run_many(integer, match_samples({"x": golden["x"]}, integer))
    agreement = top1(got) == top1(golden["onnxruntime"])
    assert agreement.mean() >= 0.98
    if name != "ic":  # where a softmax near a decision boundary swings
        want = golden["onnxruntime"].astype(int).reshape(got.shape)
        assert np.abs(got.astype(int) - want).max() <= 1


@pytest.mark.parametrize("name", MCU)
def test_mcu_nets(name: str) -> None:
    folder = shared_models() / "mcu_nets"
    graph = import_float(folder / f"{name}_int8.onnx")
    context = PassContext()
    integer = lower(graph, context)
    golden = np.load(folder / f"{name}_golden.npz")
    (got,) = run_many(integer, match_samples({"x": golden["x"]}, integer))
    want = golden["exact_logits_q"]
    assert np.array_equal(top1(got), top1(want))
    difference = np.abs(got.reshape(want.shape).astype(int) - want.astype(int))
    assert difference.max() <= 2
    assert difference.mean() < 0.2
    clamped = [n for n in context.notes if "could overflow" in n]
    assert bool(clamped) == (name != "mbv2-w0.35"), "dead channels saturate their bias"


@pytest.mark.parametrize("name", MCU)
def test_mcu_nets_every_operator(name: str) -> None:
    folder = shared_models() / "mcu_nets"
    integer = lower(import_float(folder / f"{name}_int8.onnx"))
    feed = {"input": np.load(folder / f"{name}_golden.npz")["x"][3:4]}
    model = onnx.load(folder / f"{name}_int8.onnx")
    assert assert_every_operator_within_one_lsb(integer, model, feed) == len(integer.nodes)
