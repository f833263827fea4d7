"""Element types and tensor types."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


class DType(StrEnum):
    """An element type; its text is numpy's name."""

    FLOAT32 = "float32"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.value)

    @property
    def bytes(self) -> int:
        return self.numpy.itemsize

    @property
    def c(self) -> str:
        """The C type of one element."""
        return {"float32": "float", "bool": "bool"}.get(self.value, f"{self.value}_t")

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value of an integer type."""
        info = np.iinfo(self.value)
        return int(info.min), int(info.max)


@dataclass(frozen=True)
class Quant:
    """real = scale · (q − zero_point); one pair per tensor, or one per index of `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.zero_point) or (self.axis is None and len(self.scale) != 1):
            raise ValueError(f"scale and zero_point do not pair up: {self}")

    @staticmethod
    def per_tensor(scale: float, zero_point: int) -> Quant:
        return Quant((float(scale),), (int(zero_point),))

    def along(self, axis: int | None) -> Quant:
        """The same parameters, stored along another axis (after a transpose)."""
        return replace(self, axis=axis)

    def broadcast(self, values: tuple[float, ...] | tuple[int, ...], rank: int) -> Array:
        """Scales or zero points shaped to broadcast against a tensor of `rank`."""
        array = np.asarray(values)
        if self.axis is None:
            return array.reshape((1,) * rank)
        return array.reshape([-1 if i == self.axis else 1 for i in range(rank)])


@dataclass(frozen=True)
class TensorType:
    """shape in elements, static; quant for integers that stand for reals."""

    shape: Shape
    dtype: DType
    quant: Quant | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.bytes

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantised type."""
        return self._per_tensor().scale[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantised type."""
        return self._per_tensor().zero_point[0]

    def _per_tensor(self) -> Quant:
        if self.quant is None or self.quant.axis is not None:
            raise ValueError(f"expected a per-tensor quantised type, got {self}")
        return self.quant

    def with_shape(self, shape: Shape) -> TensorType:
        return replace(self, shape=tuple(int(d) for d in shape))

    def with_dtype(self, dtype: DType, quant: Quant | None = None) -> TensorType:
        return replace(self, dtype=dtype, quant=quant)

    def __str__(self) -> str:
        dims = ",".join(str(d) for d in self.shape)
        return f"{self.dtype.value}[{dims}]" + (" q" if self.quant else "")


def float32(*shape: int) -> TensorType:
    return TensorType(shape, DType.FLOAT32)


def int8(shape: Shape, scale: float, zero_point: int) -> TensorType:
    return TensorType(shape, DType.INT8, Quant.per_tensor(scale, zero_point))
