"""Channel equalisation and bias correction: options of the quantiser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import insert_qdq
from tinsmith.pipeline import quantize_model
from tinsmith.quant.batch import fold_weights, run_many
from tinsmith.quant.calibrate import calibrate
from tinsmith.quant.correct_bias import correct_biases
from tinsmith.quant.equalize_channels import equalize_channels

from .onnxruntime_reference import import_float
from .quant_nets import quantize, samples_of, small_cnn
from .shared import shared_models


def with_uneven_channels(graph: Graph) -> Graph:
    """The channels between the depthwise and the pointwise convolution differ 1000-fold.

    Without its upper bound: what a ReLU6 clamps cannot be scaled.
    """
    factors = np.logspace(-1.5, 1.5, 8).astype(np.float32)
    values = {v.name: v for v in graph.initializers}
    arrays = dict(graph.initializers)
    arrays[values["depthwise.w"]] = arrays[values["depthwise.w"]] * factors[:, None, None, None]
    arrays[values["depthwise.b"]] = arrays[values["depthwise.b"]] * factors
    arrays[values["pointwise.w"]] = arrays[values["pointwise.w"]] / factors[None, :, None, None]
    nodes = [
        replace(n, attrs=replace(n.attrs, clamp=(0.0, np.inf))) if n.name == "depthwise" else n
        for n in graph.nodes
    ]
    return replace(graph, initializers=arrays, nodes=tuple(nodes))


def noise_db(graph: Graph, quantized: Graph, samples: list[Array], value: str) -> float:
    """Signal to noise of a value inside."""
    wanted = [next(v for v in g.values if v.name == value) for g in (graph, quantized)]
    exact, noisy = (
        run_many(fold_weights(replace(g, outputs=(v,))), samples)[0]
        for g, v in zip((graph, quantized), wanted, strict=True)
    )
    return float(10 * np.log10((exact**2).sum() / ((exact - noisy) ** 2).sum()))


def test_equalising_changes_nothing_in_float() -> None:
    graph = with_uneven_channels(small_cnn())
    samples = samples_of(graph, 8)
    equalized, pairs = equalize_channels(graph, samples)
    assert pairs == 1
    (want,), (got,) = run_many(graph, samples), run_many(equalized, samples)
    assert np.abs(want - got).max() < 1e-5


def test_equalising_helps_uneven_channels() -> None:
    graph = with_uneven_channels(small_cnn())
    samples = samples_of(graph, 16)
    equalized, _ = equalize_channels(graph, samples)
    before = noise_db(graph, quantize(graph, samples), samples, "residual")
    after = noise_db(equalized, quantize(equalized, samples), samples, "residual")
    assert after > before + 6


def test_a_clamp_above_stops_equalising() -> None:
    graph = small_cnn()
    assert equalize_channels(graph, samples_of(graph, 2))[1] == 0


def test_corrected_bias_has_no_mean_error() -> None:
    """Exact inputs, rounded weights: the mean of every channel is the float one's."""
    graph = small_cnn()
    samples = samples_of(graph, 16)
    context = PassContext(calibration=calibrate(graph, samples, "minmax"))
    plain = run_passes(graph, [insert_qdq.PASS], context)
    corrected = run_passes(correct_biases(graph, plain, samples), [insert_qdq.PASS], context)
    errors = [_mean_error(graph, q, samples) for q in (plain, corrected)]
    assert errors[1] < errors[0] / 3


def _mean_error(graph: Graph, quantized: Graph, samples: list[Array]) -> float:
    """Of the layer `fc`, with its weights alone quantised."""
    folded = fold_weights(quantized)
    twin = next(n for n in folded.nodes if n.name == "fc.real")
    node = next(n for n in graph.nodes if n.name == "fc")
    (x,) = run_many(replace(graph, outputs=(node.inputs[0],)), samples)
    x = x.reshape(len(x), -1)
    w, b = (folded.initializers[v] for v in twin.inputs[1:])
    exact_w, exact_b = (graph.initializers[v] for v in node.inputs[1:])
    return float(np.abs((x @ w.T + b - x @ exact_w.T - exact_b).mean(axis=0)).max())


def test_vww_gains_from_each() -> None:
    path = shared_models() / "mlperf_tiny" / "vww_f32.onnx"
    stored = np.load(shared_models() / "mlperf_tiny" / "vww_golden.npz")["x"]
    samples = {"x": (stored.astype(np.float32) + 128) / 255}
    graph = import_float(path)
    rows = [samples["x"][:, None]]
    (want,) = run_many(graph, rows)

    def error(**options: bool) -> float:
        result = quantize_model(path, samples, method="minmax", **options)
        (got,) = run_many(fold_weights(import_float(result.model.SerializeToString())), rows)
        return float(((got - want) ** 2).sum())

    plain = error()
    assert error(equalize=True) < plain / 2
    assert error(correct_bias=True) < plain
