"""How far a peer's outputs are from ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, TensorType
from .contender import OFFSET


@dataclass(frozen=True)
class Agreement:
    """largest: difference, in steps of our int8 output, or in its own unit for float32.

    equal: part of the elements that are the same. same_top: part of the samples whose largest
    element is at the same place, of the first output.
    """

    largest: float
    equal: float
    same_top: float
    in_steps: bool


def agreement(
    ours: Sequence[Sequence[Array]], theirs: Sequence[Sequence[Array]], types: Sequence[TensorType]
) -> Agreement:
    """ours, theirs: per sample, per output. types: of our outputs."""
    differences: list[Array] = []
    tops: list[bool] = []
    for mine, other in zip(ours, theirs, strict=True):
        reals = [
            (_as_ours(a, a.dtype, t), _as_ours(b.reshape(a.shape), b.dtype, t))
            for a, b, t in zip(mine, other, types, strict=True)
        ]
        differences += [np.abs(a - b).ravel() for a, b in reals]
        tops.append(bool(reals[0][0].argmax() == reals[0][1].argmax()))
    flat = np.concatenate(differences)
    in_steps = types[0].quant is not None
    return Agreement(float(flat.max()), float((flat == 0).mean()), float(np.mean(tops)), in_steps)


def _as_ours(array: Array, dtype: object, type_: TensorType) -> Array:
    """float64; of an int8 output its integers, from whatever type the peer gives."""
    if dtype == np.uint8:
        return array.astype(np.float64) - OFFSET
    if dtype == np.float32 and type_.quant is not None:
        q = np.rint(array.astype(np.float64) / type_.scale) + type_.zero_point
        return np.clip(q, -128, 127)
    return array.astype(np.float64)
