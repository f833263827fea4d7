"""Two builds side by side: figures, and layers matched by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from ..plan.model import short_name
from .facts import Facts

_STRIPE = ".rows"  # in the names of a layer's stripes
_COPIES = ("slice", "concat")
FIGURES: tuple[tuple[str, str], ...] = (
    ("flash_bytes", "flash, bytes"),
    ("model_flash_bytes", "of it the model"),
    ("ram_bytes", "RAM, bytes"),
    ("arena_bytes", "arena, bytes"),
    ("stack_bytes", "stack, bytes"),
    ("instructions_per_inference", "instructions per inference"),
    ("latency_us", "latency, µs"),
    ("macs", "MACs"),
    ("weights_bytes", "weights, bytes"),
    ("state_bytes", "state, bytes"),
    ("train_arena_bytes", "training arena, bytes"),
    ("train_ram_bytes", "training RAM, bytes"),
    ("train_macs", "MACs of a training step"),
    ("train_step_instructions", "instructions of a training step"),
    ("secure_flash_bytes", "secure flash, bytes"),
    ("secure_ram_bytes", "secure RAM, bytes"),
    ("secure_instructions", "instructions in the gateway"),
    ("overhead_instructions", "overhead of protection, instructions"),
)


class Change(msgspec.Struct, frozen=True):
    """A figure of both builds; None where one lacks it."""

    label: str
    before: float | None
    after: float | None

    @property
    def delta(self) -> float | None:
        if self.before is None or self.after is None:
            return None
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """after / before − 1."""
        return self.delta / self.before if self.delta is not None and self.before else None


class LayerChange(msgspec.Struct, frozen=True):
    """A layer of both builds, or of one: then the other's fields are None."""

    name: str
    op: str
    kernels: tuple[str | None, str | None]
    macs: Change
    bytes: Change
    cost: Change


class Comparison(msgspec.Struct, frozen=True):
    """figures: those that at least one build has. layers: in the order of the first build, then
    those that only the second has. cost_unit: "" where the builds were not measured alike."""

    figures: tuple[Change, ...]
    layers: tuple[LayerChange, ...]
    cost_unit: str


def compare(before: Facts, after: Facts) -> Comparison:
    """What changed from one build to another."""
    pairs = ((label, _figure(before, key), _figure(after, key)) for key, label in FIGURES)
    figures = tuple(Change(*row) for row in pairs if row[1:] != (None, None))
    unit = before.cost_unit if before.cost_unit == after.cost_unit else ""
    return Comparison(figures, tuple(_layers(before, after, measured=bool(unit))), unit)


def comparison_text(comparison: Comparison, names: tuple[str, str]) -> str:
    """The figures for people, then the layers whose kernel, MACs, bytes or cost differ."""
    rows = [("", names[0], names[1], "change"), *(_cells(c) for c in comparison.figures)]
    for layer in comparison.layers:
        parts = ((layer.macs, "MACs"), (layer.bytes, "bytes"), (layer.cost, comparison.cost_unit))
        rows += [
            _cells(c, f"{short_name(layer.name, 40)}, {what}")
            for c, what in parts
            if c.before != c.after
        ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:>{widths[3]}}".rstrip()
        + "\n"
        for row in rows
    )


def _figure(facts: Facts, key: str) -> float | None:
    return getattr(facts.report, key)


def _layers(before: Facts, after: Facts, *, measured: bool) -> Iterator[LayerChange]:
    sides = [_merged(facts, measured=measured) for facts in (before, after)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = (side.get(name) for side in sides)
        some = a or b
        assert some is not None
        yield LayerChange(
            name,
            some.op,
            (" + ".join(a.kernels) if a else None, " + ".join(b.kernels) if b else None),
            Change("MACs", a.macs if a else None, b.macs if b else None),
            Change("bytes", a.bytes if a else None, b.bytes if b else None),
            Change("cost", a.cost if a else None, b.cost if b else None),
        )


@dataclass
class _Layer:
    """A node, or all stripes of one: `bytes` once, as they read the same constants."""

    op: str
    kernels: dict[str, None]
    macs: int = 0
    bytes: int = 0
    cost: float | None = None


def _merged(facts: Facts, *, measured: bool) -> dict[str, _Layer]:
    """The layers by name; the stripes of a layer stand under the name that it has as a whole."""
    costs = [layer.cost for layer in facts.layers] if measured else []
    costs = costs or [None] * len(facts.report.nodes)
    found: dict[str, _Layer] = {}
    for node, cost in zip(facts.report.nodes, costs, strict=True):
        name, stripe, _ = node.name.partition(_STRIPE)
        if stripe and node.op in _COPIES:
            name = f"{name} (rows)"
        elif not stripe and name in found:
            name = f"{name} (joined)"  # puts the stripes together
        layer = found.setdefault(name, _Layer(node.op, {}))
        layer.kernels[node.kernel] = None
        layer.macs += node.macs
        layer.bytes = max(layer.bytes, node.bytes)
        if cost is not None:
            layer.cost = (layer.cost or 0.0) + cost
    return found


def _cells(change: Change, label: str = "") -> tuple[str, str, str, str]:
    def text(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}"

    delta = "" if change.delta is None else f"{change.delta:+,.0f}"
    if change.ratio is not None:
        delta += f" ({change.ratio:+.1%})"
    return label or change.label, text(change.before), text(change.after), delta
