"""Sliding windows: which taps of which output rows and columns lie inside the input."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ...ir.dtypes import TensorType
from ...ir.graph import Node
from ..import_tvm import T, tirx
from ._emit import Expr


@dataclass(frozen=True)
class Run:
    """`count` neighbouring outputs from `first` on, all with the taps [low, high) inside."""

    first: int
    count: int
    low: int
    high: int


@dataclass(frozen=True)
class Windows:
    """Windows along one axis: input and output length, kernel, stride, leading pad, dilation."""

    size: int
    out: int
    kernel: int
    stride: int
    pad: int
    dilation: int

    def origin(self, output: Expr) -> Expr:
        """The input position of tap 0; negative in the leading pad."""
        return output * self.stride - self.pad

    def taps(self, output: int) -> tuple[int, int]:
        """[low, high): the taps inside the input; empty ones are (0, 0)."""
        first = self.origin(output)
        inside = [t for t in range(self.kernel) if 0 <= first + t * self.dilation < self.size]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    def runs(self) -> list[Run]:
        """The outputs, in order, grouped by their taps."""
        found: list[Run] = []
        for output in range(self.out):
            low, high = self.taps(output)
            last = found[-1] if found else None
            if last and (last.low, last.high) == (low, high):
                found[-1] = Run(last.first, last.count + 1, low, high)
            else:
                found.append(Run(output, 1, low, high))
        return found

    @contextmanager
    def each_tap(self, output: Expr) -> Generator[Expr]:
        """A loop over the taps of `output` that lie inside the input."""
        if all(self.taps(o) == (0, self.kernel) for o in range(self.out)):
            low, high = 0, self.kernel
        else:
            first = self.origin(output)
            low = tirx.max(tirx.floordiv(self.dilation - 1 - first, self.dilation), 0)
            beyond = tirx.floordiv(self.size - 1 - first, self.dilation) + 1
            high = tirx.max(tirx.min(beyond, self.kernel), low)
        if (low, high) == (0, 1):
            yield 0
            return
        with T.serial(low, high) as tap:
            yield tap


def window_pair(
    node: Node, kernel: Sequence[int], x: TensorType | None = None
) -> tuple[Windows, Windows]:
    """Of a convolution or pooling over NHWC, of the node's first input unless `x` is given: along
    the height and the width."""
    a, size = node.attrs, (x or node.x).shape
    down, across = (
        Windows(
            size[i + 1],
            node.y.shape[i + 1],
            kernel[i],
            a.strides[i],
            a.pads[i],
            a.dilations[i],
        )
        for i in (0, 1)
    )
    return down, across
