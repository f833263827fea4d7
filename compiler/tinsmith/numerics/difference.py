"""How far two sides are apart, layer by layer, over samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Value
from ..quant.noise import sqnr_db
from .match import Pair, computing, match_values
from .sides import Side, real_values


@dataclass
class LayerDifference:
    """b against a at one tensor, summed over the samples; errors are b − a, in reals.

    node, op, onnx_name: of b. shape: of a. by_name: whether the names said that these are the same.
    scale: of b's int8, else None. first: sample and index (a's axes) of the first difference.
    """

    node: str
    op: str
    onnx_name: str
    a_value: str
    shape: tuple[int, ...]
    by_name: bool
    scale: float | None
    signal: float = 0.0
    noise: float = 0.0
    max_error: float = 0.0
    absolute: float = 0.0
    differing: int = 0
    elements: int = 0
    first: tuple[int, tuple[int, ...]] | None = None
    axes: tuple[int, ...] = field(default=(), repr=False)

    @property
    def sqnr_db(self) -> float:
        """Signal to error; inf where nothing differs, -inf where an error is not finite."""
        if self.differing == 0:
            return math.inf
        return sqnr_db(self.signal, self.noise)

    @property
    def mean_error(self) -> float:
        """The mean of |error|."""
        return self.absolute / max(1, self.elements)

    @property
    def max_lsb(self) -> float | None:
        """The largest error in steps of b's int8."""
        return self.max_error / self.scale if self.scale else None

    def add(self, a: Array, b: Array, sample: int) -> None:
        same = (a == b) | (np.isnan(a) & np.isnan(b))  # infinities, too, have no difference
        error = np.subtract(b, a, where=~same, out=np.zeros_like(a))
        size = np.nan_to_num(np.abs(error), nan=np.inf, posinf=np.inf)
        wrong = ~same
        if self.first is None and wrong.any():
            self.first = (sample, tuple(int(i) for i in np.argwhere(wrong)[0]))
        self.signal += float(np.square(a, where=np.isfinite(a), out=np.zeros_like(a)).sum())
        self.noise += float((size * size).sum())
        self.absolute += float(size.sum())
        self.max_error = max(self.max_error, float(size.max(initial=0.0)))
        self.differing += int(np.count_nonzero(wrong))
        self.elements += error.size


@dataclass(frozen=True)
class Difference:
    """layers: in the order of b. unmatched: nodes of b whose tensor a does not have, and why."""

    a: str
    b: str
    samples: int
    layers: tuple[LayerDifference, ...]
    unmatched: tuple[tuple[str, str], ...]

    @property
    def parts_at(self) -> LayerDifference | None:
        """The first layer in which anything differs."""
        return next((layer for layer in self.layers if layer.differing), None)

    @property
    def steepest(self) -> LayerDifference | None:
        """The layer that loses the most dB against the one before it; None for equal sides."""
        best: tuple[float, LayerDifference] | None = None
        for before, layer in itertools.pairwise(self.layers):
            if math.isfinite(before.sqnr_db) and math.isfinite(layer.sqnr_db):
                loss = before.sqnr_db - layer.sqnr_db
                if best is None or loss > best[0]:
                    best = (loss, layer)
        return best[1] if best and best[0] > 0 else None


def difference(a: Side, b: Side, progress: Callable[[int, int], None] | None = None) -> Difference:
    """Run both sides on their samples and compare every tensor that both have.

    Raises CompileError when the sides have different numbers of samples or nothing in common.
    """
    if a.samples != b.samples:
        raise CompileError(
            f"{a.label} got {a.samples} samples, {b.label} {b.samples}",
            expected="the same samples for both",
            hint="give them with --input F.npz",
        )
    _same_inputs(a, b)
    pairs = match_values(a.graph, b.graph)
    layers: dict[Value, list[LayerDifference]] = {}
    skipped: dict[Value, str] = {}
    for sample in range(a.samples):
        exact = _values(a, sample, {p.a for p in pairs})
        got = _values(b, sample, {p.b for p in pairs})
        for pair in pairs:
            if pair.a in exact and pair.b in got:
                real, ours = _of_one_rank(exact[pair.a], got[pair.b])
                orders = layers.setdefault(pair.b, _orders(pair, real, ours))
                if not orders:
                    skipped[pair.b] = _other_shape(exact[pair.a], got[pair.b])
                for layer in orders:
                    layer.add(real, ours.transpose(layer.axes), sample)
        if progress is not None:
            progress(sample + 1, a.samples)
    # Where extents are equal several orders of axes fit, and no wrong one is nearer than the right.
    found = [max(orders, key=lambda x: x.sqnr_db) for orders in layers.values() if orders]
    if not found:
        raise CompileError(
            f"{a.label} and {b.label} have no tensor in common",
            expected="two forms of the same network",
        )
    known = {p.node.name: skipped.get(p.b, "") for p in pairs}
    rest = [
        (n.name, known.get(n.name) or "no tensor of this name, or at this place alone")
        for n in computing(b.graph)
        if known.get(n.name, "-") and not n.op.is_view
    ]
    return Difference(a.label, b.label, a.samples, tuple(found), tuple(rest))


def _same_inputs(a: Side, b: Side) -> None:
    """Raises CompileError when one side reads codes where the other reads what they stand for."""
    for index, (read_a, read_b) in enumerate(zip(a.inputs(0), b.inputs(0), strict=False)):
        if read_a.size != read_b.size:
            continue  # another batch or crop: the layers will say so
        x, y = np.sort(read_a, None), np.sort(read_b, None)  # layouts may differ
        apart = float(np.square(x - y).sum())
        if apart > min(float(np.square(x).sum()), float(np.square(y).sum())):
            raise CompileError(
                f"input {index} is {x[0]:.4g} to {x[-1]:.4g} for {a.label}, "
                f"{y[0]:.4g} to {y[-1]:.4g} for {b.label}",
                expected="the same real values for both",
                hint="give them as float32 with --input F.npz; int8 arrays are codes, which only a "
                "quantised side can read",
            )


def _values(side: Side, sample: int, wanted: set[Value]) -> Mapping[Value, Array]:
    found: dict[Value, Array] = {}
    for node, outputs in side.layers(sample):
        for index, array in enumerate(outputs):
            if node.outputs[index] in wanted:
                found[node.outputs[index]] = real_values(node, index, array)
    return found


def _of_one_rank(a: Array, b: Array) -> tuple[Array, Array]:
    """Both without axes of length 1 after the batch, where only one of them has some."""
    if a.ndim == b.ndim or not a.ndim or not b.ndim:
        return a, b
    short = [(x.shape[0], *(extent for extent in x.shape[1:] if extent != 1)) for x in (a, b)]
    return a.reshape(short[0]), b.reshape(short[1])


def _orders(pair: Pair, a: Array, b: Array) -> list[LayerDifference]:
    """An empty difference per order of b's axes that makes a's shape: a device has channels last, a
    model file first."""
    if a.ndim != b.ndim:
        return []
    orders = [tuple(range(b.ndim))]
    if b.ndim > 2:
        orders += [(0, b.ndim - 1, *range(1, b.ndim - 1)), (0, *range(2, b.ndim), 1)]
    node, type_ = pair.node, pair.b.type
    return [
        LayerDifference(
            node.name, node.op.name, node.origin.onnx_name, pair.a.name, a.shape, pair.by_name,
            type_.scale if type_.quant else None, axes=order,
        )
        for order in dict.fromkeys(orders)
        if tuple(b.shape[i] for i in order) == a.shape
    ]  # fmt: skip


def _other_shape(a: Array, b: Array) -> str:
    text = f"{list(b.shape)} here, {list(a.shape)} there"
    fewer = a.ndim == b.ndim and b.size < a.size
    return f"{text}: channels that never change go" if fewer else text
