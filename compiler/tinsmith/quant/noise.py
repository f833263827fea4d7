"""Signal, noise and what kind of noise: the running sums behind the quality report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..ir.dtypes import Array

CLIPPED_LSB = 4.0  # an error of more steps than this is saturation, not rounding


def sqnr_db(signal: float, noise: float) -> float:
    """Of two sums of squares, dB; inf without noise, -inf where the noise is not finite."""
    if noise == 0:
        return math.inf
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(max(signal, 1e-30) / noise)


@dataclass
class Noise:
    """Running sums of a signal and its error."""

    scale: float
    axis: int
    signal: float = 0.0
    noise: float = 0.0
    worst: float = 0.0
    cut: float = 0.0
    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(1))
    largest: Array = field(default_factory=lambda: np.zeros(1))

    def add(self, exact: Array, noisy: Array) -> None:
        real, error = exact.astype(np.float64), noisy.astype(np.float64) - exact
        self.signal += float((real * real).sum())
        self.noise += float((error * error).sum())
        self.cut += float((error * error)[np.abs(error) > CLIPPED_LSB * self.scale].sum())
        self.worst = max(self.worst, float(np.abs(error).max(initial=0.0)) / self.scale)
        axes = tuple(i for i in range(real.ndim) if i != self.axis % real.ndim)
        self.mean = self.mean + error.sum(axis=axes)
        self.largest = np.maximum(self.largest, np.abs(real).max(axis=axes, initial=0.0))
        self.count += error.size

    @property
    def sqnr_db(self) -> float:
        return sqnr_db(self.signal, self.noise)

    @property
    def clipped(self) -> float:
        """The share of the error's energy in errors too large to be rounding."""
        return self.cut / self.noise if self.noise else 0.0

    @property
    def systematic(self) -> float:
        """The share of the error's energy that a corrected bias would remove."""
        per_channel = self.count / max(1, self.mean.size)
        return float((self.mean**2).sum() / per_channel / self.noise) if self.noise else 0.0

    @property
    def unevenness(self) -> float:
        """Largest over median channel: what equalising channels could even out."""
        median = float(np.median(self.largest))
        return float(self.largest.max() / median) if median > 0 else 1.0
