"""Activation ranges from samples: the float network runs over them into histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array, DType, Quant
from ..ir.graph import Graph, Value
from .batch import fold_weights, run_batched
from .ranges import BINS, METHODS, Histogram, Method, choose_range
from .weights import activation_quant

Progress = Callable[[int, int], None]  # samples seen, samples in all


@dataclass(frozen=True)
class Calibration:
    """How to quantise one value.

    Attributes:
        scale, zero_point: int8, asymmetric, 0 exact.
        low, high: the real range they were chosen for.
        seen_low, seen_high: the range seen in the samples.
        method: what chose the range.
    """

    scale: float
    zero_point: int
    low: float
    high: float
    seen_low: float
    seen_high: float
    method: str

    @property
    def quant(self) -> Quant:
        return Quant.per_tensor(self.scale, self.zero_point)


def calibrate(
    graph: Graph,
    samples: Sequence[Array],
    method: Method = "auto",
    progress: Progress | None = None,
) -> Mapping[str, Calibration]:
    """Calibration of every float value of a FLOAT graph, by name.

    Args:
        samples: one float32 array [samples, *shape] per graph input (see `load_samples`).
        method: "minmax", "percentile", "mse", "entropy", or "auto": per value the one with the
            least squared error on these samples.

    Raises BadInput for an unknown method, no samples, or values that overflow to infinity.
    """
    if method not in METHODS:
        raise BadInput(f"unknown calibration method {method!r}", expected=", ".join(METHODS))
    if not samples or any(len(s) == 0 for s in samples):
        raise BadInput("there are no calibration samples", expected="at least one sample")
    graph = fold_weights(graph)
    total = len(samples[0]) * (1 if method == "minmax" else 2)
    seen = _Progress(progress, total)
    limits = _limits(graph, samples, seen)
    if method == "minmax":
        chosen = {name: (limit, "minmax") for name, limit in limits.items()}
    else:
        histograms = _histograms(graph, samples, limits, seen)
        chosen = {name: choose_range(h, method) for name, h in histograms.items()}
    return {name: _calibration(*chosen[name], limits[name]) for name in limits}


@dataclass
class _Progress:
    report: Progress | None
    total: int
    done: int = 0

    def step(self, count: int) -> None:
        self.done += count
        if self.report:
            self.report(self.done, self.total)


def _limits(
    graph: Graph, samples: Sequence[Array], seen: _Progress
) -> dict[str, tuple[float, float]]:
    limits: dict[str, tuple[float, float]] = {}
    for count, values in run_batched(graph, samples):
        for value, array in values:
            if not _is_activation(value):
                continue
            low, high = float(array.min(initial=np.inf)), float(array.max(initial=-np.inf))
            if not (np.isfinite(low) and np.isfinite(high)):
                raise BadInput(
                    f"value {value.name!r} is not finite on the calibration samples",
                    expected="finite activations",
                    hint="check that the samples are scaled as the model expects",
                )
            before = limits.get(value.name, (low, high))
            limits[value.name] = (min(before[0], low), max(before[1], high))
        seen.step(count)
    return limits


def _histograms(
    graph: Graph,
    samples: Sequence[Array],
    limits: Mapping[str, tuple[float, float]],
    seen: _Progress,
) -> dict[str, Histogram]:
    counts = {name: np.zeros(BINS, np.int64) for name in limits}
    for count, values in run_batched(graph, samples):
        for value, array in values:
            if value.name in counts:
                low, high = limits[value.name]
                scale = BINS / (high - low) if high > low else 0.0
                index = ((np.ravel(array) - np.float32(low)) * np.float32(scale)).astype(np.int32)
                counts[value.name] += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)
        seen.step(count)
    return {name: Histogram(*limits[name], c) for name, c in counts.items()}


def _is_activation(value: Value) -> bool:
    return value.type.dtype is DType.FLOAT32


def _calibration(
    range_: tuple[float, float], method: str, seen: tuple[float, float]
) -> Calibration:
    quant = activation_quant(*range_)
    return Calibration(quant.scale[0], quant.zero_point[0], *range_, *seen, method)
