"""How far two sides are apart, layer by layer, over samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Value
from .match import Pair, match_values
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
    axes: tuple[int, ...] | None = field(default=None, repr=False)

    @property
    def sqnr_db(self) -> float:
        """Signal to error; inf where nothing differs."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(max(self.signal, 1e-30) / self.noise)

    @property
    def mean_error(self) -> float:
        """The mean of |error|."""
        return self.absolute / max(1, self.elements)

    @property
    def max_lsb(self) -> float | None:
        """The largest error in steps of b's int8."""
        return self.max_error / self.scale if self.scale else None

    def add(self, a: Array, b: Array, sample: int) -> None:
        error = b - a
        size = np.abs(error)
        wrong = size > 0
        if self.first is None and wrong.any():
            self.first = (sample, tuple(int(i) for i in np.argwhere(wrong)[0]))
        self.signal += float((a * a).sum())
        self.noise += float((error * error).sum())
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
    pairs = match_values(a.graph, b.graph)
    layers: dict[Value, LayerDifference] = {}
    skipped: dict[Value, str] = {}
    for sample in range(a.samples):
        wanted = {p.a for p in pairs}
        exact = _values(a, sample, wanted)
        got = _values(b, sample, {p.b for p in pairs})
        for pair in pairs:
            if pair.b not in skipped and pair.a in exact and pair.b in got:
                reason = _compare(layers, pair, exact[pair.a], got[pair.b], sample)
                if reason:
                    skipped[pair.b] = reason
        if progress is not None:
            progress(sample + 1, a.samples)
    if not layers:
        raise CompileError(
            f"{a.label} and {b.label} have no tensor in common",
            expected="two forms of the same network",
        )
    known = {p.node.name: skipped.get(p.b, "") for p in pairs}
    rest = [
        (n.name, known.get(n.name) or "no tensor of this name, or at this place")
        for n in b.graph.nodes
        if known.get(n.name, "-") and not n.op.is_view
    ]
    return Difference(a.label, b.label, a.samples, tuple(layers.values()), tuple(rest))


def _values(side: Side, sample: int, wanted: set[Value]) -> Mapping[Value, Array]:
    found: dict[Value, Array] = {}
    for node, outputs in side.layers(sample):
        for index, array in enumerate(outputs):
            if node.outputs[index] in wanted:
                found[node.outputs[index]] = real_values(node, index, array)
    return found


def _compare(
    layers: dict[Value, LayerDifference], pair: Pair, a: Array, b: Array, sample: int
) -> str:
    """Adds a sample; says why it cannot."""
    if pair.b not in layers:
        axes = _axes(a, b)
        if axes is None:
            return f"{list(b.shape)} here, {list(a.shape)} there: channels that never change go"
        type_ = pair.b.type
        layers[pair.b] = LayerDifference(
            pair.node.name, pair.node.op.name, pair.node.origin.onnx_name, pair.a.name, a.shape,
            pair.by_name, type_.scale if type_.quant else None, axes=axes,
        )  # fmt: skip
    layer = layers[pair.b]
    layer.add(a, b.transpose(layer.axes), sample)
    return ""


def _axes(a: Array, b: Array) -> tuple[int, ...] | None:
    """The order of b's axes that makes it a's: of those that fit the shape, the one of least error.

    A device has channels last, a model file first; where extents are equal, both orders fit, and a
    wrong one cannot be nearer than the right one.
    """
    if a.ndim != b.ndim:
        return None
    orders: Sequence[tuple[int, ...]] = [tuple(range(b.ndim))]
    if b.ndim > 2:
        last, first = (0, b.ndim - 1, *range(1, b.ndim - 1)), (0, *range(2, b.ndim), 1)
        orders = [*orders, last, first]
    fitting = [o for o in orders if tuple(b.shape[i] for i in o) == a.shape]
    if not fitting:
        return None
    return min(fitting, key=lambda o: float(np.square(b.transpose(o) - a).sum()))
