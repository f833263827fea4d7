"""Calibration: ranges from histograms, statistics from samples, and files of samples."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.errors import BadInput
from tinsmith.ir.builder import GraphBuilder
from tinsmith.ir.dtypes import float32, int8
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run_batch, trace
from tinsmith.ops import get
from tinsmith.quant.batch import batch_step, run_many
from tinsmith.quant.calibrate import calibrate
from tinsmith.quant.ranges import BINS, METHODS, Histogram, choose_range, minmax, squared_error
from tinsmith.quant.samples import load_samples, match_samples
from tinsmith.quant.weights import activation_quant, quantize_bias, quantize_weights

from .quant_nets import samples_of, small_cnn


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


@pytest.fixture
def heavy_tailed() -> Histogram:
    random = np.random.default_rng(0)
    return histogram(np.concatenate([random.normal(0, 1, 1_000_000), [60.0, -40.0]]))


@pytest.mark.parametrize("method", METHODS)
def test_ranges_contain_zero_and_stay_inside(method, heavy_tailed) -> None:
    for h in (heavy_tailed, histogram(np.linspace(3.0, 9.0, 5000))):
        (low, high), _ = choose_range(h, method)
        assert min(h.low, 0) <= low <= 0 <= high <= max(h.high, 0)
        assert high > low


def test_methods_cut_outliers_and_minmax_does_not(heavy_tailed) -> None:
    assert minmax(heavy_tailed) == (-40.0, 60.0)
    for method in ("percentile", "mse", "entropy", "auto"):
        (low, high), _ = choose_range(heavy_tailed, method)
        assert max(high, -low) < 30, method


def test_auto_has_the_least_error(heavy_tailed) -> None:
    best, name = choose_range(heavy_tailed, "auto")
    errors = {m: squared_error(heavy_tailed, choose_range(heavy_tailed, m)[0]) for m in METHODS}
    assert name != "minmax"
    assert squared_error(heavy_tailed, best) == min(errors.values())


def test_auto_keeps_minmax_when_nothing_is_gained() -> None:
    """Pixels 0…255 are exact at scale 1."""
    h = histogram(np.repeat(np.arange(256.0), 50))
    assert choose_range(h, "auto") == ((0.0, 255.0), "minmax")


def test_entropy_ignores_the_zeros_of_a_relu() -> None:
    random = np.random.default_rng(0)
    active = np.abs(random.normal(0, 1, 50_000))
    sparse = np.concatenate([active, np.zeros(400_000)])
    dense_range, _ = choose_range(histogram(active), "entropy")
    sparse_range, _ = choose_range(histogram(sparse), "entropy")
    assert sparse_range[1] > 0.8 * dense_range[1]


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-1, 1), (-3, 0), (0.1, 5), (-1e-3, 70)])
def test_activation_quant_is_exact_at_zero_and_covers(low: float, high: float) -> None:
    quant = activation_quant(low, high)
    scale, zero_point = quant.scale[0], quant.zero_point[0]
    assert -128 <= zero_point <= 127
    assert scale * (-128 - zero_point) <= min(low, 0) + scale / 2
    assert scale * (127 - zero_point) >= high - scale / 2


def test_activation_quant_of_nothing() -> None:
    assert activation_quant(0, 0).zero_point == (0,)
    assert activation_quant(0, 0).scale[0] > 0


def test_weights_are_symmetric_per_channel() -> None:
    random = np.random.default_rng(0)
    real = (
        random.normal(0, 1, (4, 3, 3, 2)).astype(np.float32)
        * np.float32([1, 10, 0.1, 0])[:, None, None, None]
    )
    q, quant = quantize_weights(real, 0)
    assert q.min() >= -127
    assert np.abs(q[:3]).reshape(3, -1).max(axis=1).tolist() == [127] * 3
    assert not q[3].any()
    assert quant.scale[3] == pytest.approx(np.median(quant.scale[:3]))
    assert np.abs(q * np.float32(quant.scale)[:, None, None, None] - real).max() <= (
        max(quant.scale) / 2 + 1e-6
    )


def test_large_bias_widens_the_weight_scale() -> None:
    real = np.full((2, 4), 1e-9, np.float32)
    bias = np.float32([100.0, 0.0])
    _, quant = quantize_weights(real, 0, bias, x_scale=0.01)
    q, clamped = quantize_bias(bias, np.float64(quant.scale) * 0.01)
    assert clamped == 0
    assert q[0] * quant.scale[0] * 0.01 == pytest.approx(100.0, rel=1e-6)


def test_statistics_are_those_of_every_sample() -> None:
    graph = small_cnn()
    samples = samples_of(graph, 9)
    found = calibrate(graph, samples, "minmax")
    seen: dict[str, list[np.ndarray]] = {}
    for row in samples[0]:
        for node, outputs in trace(graph, [row]):
            seen.setdefault(node.name, []).append(outputs[0])
    for name, arrays in seen.items():
        assert found[name].seen_low == pytest.approx(np.min(arrays), rel=1e-5, abs=1e-6)
        assert found[name].seen_high == pytest.approx(np.max(arrays), rel=1e-5, abs=1e-6)
    assert found["stem"].zero_point == -128, "calibrated after the fused relu"


def test_batched_run_equals_one_by_one() -> None:
    graph = small_cnn()
    assert batch_step(graph) > 1
    samples = samples_of(graph, 5)
    got, want = run_many(graph, samples)[0], run_batch(graph, samples)[0]
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-5


def test_a_graph_that_mixes_its_first_axis_runs_one_by_one() -> None:
    b = GraphBuilder("mixes")
    reshape, x = get("reshape"), b.input("x", float32(1, 4))
    graph = b.build([b.add(reshape, [x], reshape.attrs((2, 2)))])
    assert batch_step(graph) == 1
    samples = samples_of(graph, 3)
    assert np.array_equal(run_many(graph, samples)[0], samples[0].reshape(3, 2, 2))


def test_progress_counts_both_passes() -> None:
    graph, steps = small_cnn(), []
    calibrate(graph, samples_of(graph, 4), "mse", lambda done, total: steps.append((done, total)))
    assert steps[-1] == (8, 8)


def test_unknown_method() -> None:
    graph = small_cnn()
    with pytest.raises(BadInput, match="unknown calibration method 'best'"):
        calibrate(graph, samples_of(graph, 1), "best")


def test_values_that_overflow_are_named() -> None:
    b = GraphBuilder("overflow")
    x = b.input("x", float32(1, 2))
    big = b.constant("big", np.float32([3e38]))
    graph = b.build([b.add(get("mul"), [x, big], name="product")])
    with (
        np.errstate(over="ignore"),
        pytest.raises(BadInput, match="'product' is not finite") as caught,
    ):
        calibrate(graph, [np.full((1, 1, 2), 100, np.float32)])
    assert "scaled as the model expects" in caught.value.render()


class TestLoadSamples:
    graph = small_cnn()

    def save(self, folder: Path, **arrays: object) -> Path:
        path = folder / "samples.npz"
        np.savez(path, **arrays)
        return path

    @pytest.mark.parametrize("name", ["x", "x_train"])
    @pytest.mark.parametrize("shape", [(7, 3, 12, 12), (7, 1, 3, 12, 12), (7, 12, 12, 3)])
    def test_layouts(self, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
        x = np.arange(7 * 3 * 144, dtype=np.float32).reshape(shape)
        (got,) = load_samples(self.save(tmp_path, **{name: x}), self.graph)
        assert got.shape == (7, 1, 3, 12, 12)
        assert got.dtype == np.float32
        want = x.transpose(0, 3, 1, 2) if shape[-1] == 3 else x
        assert np.array_equal(got.reshape(7, 3, 12, 12), want.reshape(7, 3, 12, 12))

    def test_legalized_graph_takes_both_layouts(self) -> None:
        b = GraphBuilder("nhwc")
        graph = b.build([b.add(get("relu"), [b.input("x", float32(1, 4, 5, 3))])])
        graph = replace(graph, input_layouts=((0, 2, 3, 1),))
        onnx = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
        device = onnx.transpose(0, 2, 3, 1)
        for given in (onnx, device):
            assert np.array_equal(match_samples({"x": given}, graph)[0][:, 0], device)

    def test_integers_are_real_values(self, tmp_path: Path) -> None:
        x = np.full((2, 3, 12, 12), 200, np.uint8)
        (got,) = load_samples(self.save(tmp_path, x=x), self.graph)
        assert got.dtype == np.float32
        assert got.max() == 200

    def test_int8_input_quantises_real_values_only(self) -> None:
        b = GraphBuilder("int8")
        graph = b.build([b.input("x", int8((1, 4), 0.5, 3))])
        stored = np.array([[1, 2, 3, 4]], np.int8)
        assert np.array_equal(match_samples({"x": stored}, graph)[0][:, 0], stored)
        real = np.float32([[0, 0.5, -1, 100]])
        assert match_samples({"x": real}, graph)[0].ravel().tolist() == [3, 4, 1, 127]

    def test_integers_that_are_no_real_values_are_refused(self) -> None:
        pixels = np.array([[0, 7, 80, 255]], np.uint8)
        for scale, fits in ((1.0, True), (0.9, True), (1 / 255, False)):
            b = GraphBuilder("int8")
            graph = b.build([b.input("x", int8((1, 4), scale, -128))])
            if fits:
                assert match_samples({"x": pixels}, graph)[0].dtype == np.int8
            else:
                with pytest.raises(BadInput, match="uint8 from 0 to 255, and the input holds 0 to"):
                    match_samples({"x": pixels}, graph)

    def test_limit_spreads_over_the_file(self, tmp_path: Path) -> None:
        x = np.arange(10, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 12, 12))
        (got,) = load_samples(self.save(tmp_path, x=x), self.graph, limit=4)
        assert got[:, 0, 0, 0, 0].tolist() == [0, 3, 6, 9]

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"y": np.zeros((2, 3, 12, 12))}, "no array for model input 'x'; it has 'y'"),
            ({}, "it has none"),
            ({"x": np.zeros((2, 3, 12, 13))}, r"have shape \[2, 3, 12, 13\]"),
            ({"x": np.zeros((3, 12, 12))}, r"have shape \[3, 12, 12\]"),
            ({"x": np.zeros(())}, "have shape"),
            ({"x": np.zeros((0, 3, 12, 12))}, "holds no samples"),
            ({"x": np.full((2, 3, 12, 12), np.nan)}, "sample 0 of 'x' contains NaN"),
            ({"x": np.full((2, 3, 12, 12), np.inf)}, "contains NaN or infinity"),
            ({"x": np.full((2, 3, 12, 12), "a")}, "the samples of 'x' are <U1"),
            ({"x": np.full((2, 3, 12, 12), 1j)}, "are complex128"),
            ({"x": np.full((2, 3, 12, 12), None)}, "cannot be read"),
        ],
    )
    def test_bad_arrays(self, tmp_path: Path, arrays: dict, message: str) -> None:
        with pytest.raises(BadInput, match=message) as caught:
            load_samples(self.save(tmp_path, **arrays), self.graph)
        assert caught.value.expected

    def test_bad_files(self, tmp_path: Path) -> None:
        good = self.save(tmp_path, x=np.zeros((2, 3, 12, 12))).read_bytes()
        path = tmp_path / "bad.npz"
        for content in (b"", b"not a zip file", good[: len(good) // 2]):
            path.write_bytes(content)
            with pytest.raises(BadInput, match="cannot be read"):
                load_samples(path, self.graph)
        np.save(tmp_path / "single.npy", np.zeros((2, 3, 12, 12)))
        with pytest.raises(BadInput, match="single array without a name"):
            load_samples(tmp_path / "single.npy", self.graph)
        with pytest.raises(BadInput, match="does not exist"):
            load_samples(tmp_path / "absent.npz", self.graph)
        with pytest.raises(BadInput, match="cannot be read"):
            load_samples(tmp_path, self.graph)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"junk")
        with pytest.raises(BadInput):
            load_samples(path, self.graph)

    def test_unequal_counts(self, tmp_path: Path) -> None:
        b = GraphBuilder("two")
        inputs = [b.input(n, float32(1, 2)) for n in ("a", "b")]
        graph: Graph = b.build([b.add(get("add"), inputs)])
        path = self.save(tmp_path, a=np.zeros((3, 2)), b=np.zeros((4, 2)))
        with pytest.raises(BadInput, match="same number of samples"):
            load_samples(path, graph)
