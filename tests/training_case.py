"""What the cases of the training operators share: a case, its drawn inputs and state."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinsmith.ir.dtypes import Array, DType, Quant, TensorType
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ops import get


@dataclass(frozen=True)
class TrainingCase:
    name: str
    graph: Graph

    def inputs(self, seed: int = 0) -> list[Array]:
        """Odd seeds are extreme: int8 at its ends, gradients over many magnitudes, zeros."""
        rng = np.random.default_rng(seed + zlib.crc32(self.name.encode()))
        return [_draw(v, rng, seed) for v in self.graph.inputs]

    def state(self, seed: int = 0) -> dict[Value, Array]:
        """Of the initializers that are updated; the residual is drawn too."""
        rng = np.random.default_rng(seed + 1 + zlib.crc32(self.name.encode()))
        start = self.graph.initializers
        return {v: _draw_state(v, start[v], rng, seed) for v in self.graph.state}


def make_case(
    op: str,
    name: str,
    inputs: Sequence[Value],
    constants: dict[Value, Array],
    attrs: Any = None,
    *,
    quant: Quant | None = None,
    updates: Sequence[Value] = (),
) -> TrainingCase:
    record = get(op)
    attrs = record.attrs() if attrs is None else attrs
    types = record.infer([v.type for v in inputs], attrs)
    outputs = tuple(
        Value(f"y{i}", TensorType(t.shape, t.dtype, quant)) for i, t in enumerate(types)
    )
    node = Node(record, tuple(inputs), outputs, attrs, Origin(name, op))
    graph = Graph(
        f"{op}_{name}",
        tuple(v for v in inputs if v not in constants),
        outputs if not updates else outputs[len(updates) :],
        constants,
        (node,),
        Stage.TRAINING,
        updates=tuple(zip(updates, outputs, strict=False)),
    )
    return TrainingCase(f"{op}.{name}", graph)


def _draw(value: Value, rng: np.random.Generator, seed: int) -> Array:
    shape, extreme = value.type.shape, seed % 2 == 1
    if value.name == "label":
        return rng.integers(0, 2, 1, np.int32)
    if value.name == "exponent":
        return rng.integers(-24, -8, 1, np.int32)
    if value.name == "learning_rate":
        return np.array([10.0 ** rng.uniform(-6, 0 if extreme else -3)], np.float32)
    if value.type.dtype is DType.UINT8:
        return rng.integers(0, 256, shape, np.uint8)
    if value.type.dtype is DType.INT8:
        if extreme:
            return rng.choice(np.array([-127, 127, 0, 127], np.int8), shape)
        return rng.integers(-127, 128, shape, np.int8)
    spread = 10.0 ** rng.uniform(-8, 2, shape) if extreme else 1.0
    dense = rng.normal(0, 1, shape) * spread
    if seed % 4 == 3:
        dense = dense * 0
    return dense.astype(np.float32)


def _draw_state(value: Value, start: Array, rng: np.random.Generator, seed: int) -> Array:
    if value.name == "position":  # of a batch of up to five: its ends, its middle, and none
        return np.array([(0, 4, 3, 2, 7, -1)[seed % 6]], np.int32)
    if value.name != "residual":
        return start
    if value.type.dtype is DType.UINT32:
        return rng.integers(1, 2**32, 1, np.uint32)
    low, high = value.type.dtype.range
    drawn = rng.integers(low, high + 1, value.type.shape, value.type.dtype.numpy)
    if value.type.dtype is DType.UINT8 and value.type.elements:
        drawn[-1] &= 15  # the high nibble past the end stays 0
    return drawn


def rng_of(op: str, name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{op}.{name}".encode()))
