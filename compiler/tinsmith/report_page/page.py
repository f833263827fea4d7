"""Renders facts as one HTML page that needs nothing but itself: no network, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from ..codegen.report_model import FlashReport, NodeReport, Report
from ..codegen.report_text import flash_rows, trust_lines
from .arena_picture import ArenaPicture, draw_arena
from .comparison import Comparison, compare
from .facts import Facts, LayerCost, LayerError
from .graph_picture import GraphPicture, draw_graph

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Row:
    """A layer of the table. share: of the whole cost, 0 to 1."""

    node: NodeReport
    cost: LayerCost | None
    share: float
    per_mac: float | None
    error: LayerError | None


@dataclass(frozen=True)
class Run:
    """One entry point: inference or training step."""

    title: str
    anchor: str
    arena: ArenaPicture
    graph: GraphPicture
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Part:
    """A part of flash. share: of all, 0 to 1."""

    label: str
    bytes: int
    share: float


@dataclass(frozen=True)
class Build:
    """What the template shows of one project."""

    facts: Facts
    runs: tuple[Run, ...]
    flash: tuple[Part, ...]
    trust: tuple[str, ...]


def render_page(facts: Facts, other: Facts | None = None) -> str:
    """The page of a project; with `other`, of what changed from it to the other, then of both."""
    builds = [_build(facts, "a")]
    comparison: Comparison | None = None
    if other is not None:
        builds.append(_build(other, "b"))
        comparison = compare(facts, other)
    template = _environment().get_template("page.html.j2")
    return template.render(builds=builds, comparison=comparison, names=_names(facts, other))


def _names(facts: Facts, other: Facts | None) -> tuple[str, ...]:
    if other is None:
        return (facts.folder,)
    if facts.folder == other.folder:
        return f"{facts.folder} (A)", f"{other.folder} (B)"
    return facts.folder, other.folder


def _build(facts: Facts, key: str) -> Build:
    report = facts.report
    runs = [_inference(facts, f"{key}0")]
    if report.train_nodes:
        runs.append(_training(report, f"{key}1"))
    flash = () if report.flash is None else _flash_parts(report.flash)
    trust = () if report.trust is None else tuple(trust_lines(report.trust))
    return Build(facts, tuple(runs), flash, trust)


def _inference(facts: Facts, anchor: str) -> Run:
    report = facts.report
    arena = draw_arena(
        report.nodes,
        report.inputs,
        report.outputs,
        arena_bytes=report.arena_bytes,
        lower_bound_bytes=report.arena_lower_bound_bytes,
    )
    graph = draw_graph(report.nodes, report.inputs, report.outputs)
    return Run("Inference", anchor, arena, graph, _rows(report.nodes, facts))


def _training(report: Report, anchor: str) -> Run:
    arena = draw_arena(
        report.train_nodes,
        report.train_inputs,
        (),
        arena_bytes=report.train_arena_bytes or 0,
        lower_bound_bytes=report.train_arena_lower_bound_bytes,
    )
    graph = draw_graph(report.train_nodes, report.train_inputs, ())
    return Run("Training step", anchor, arena, graph, _rows(report.train_nodes, None))


def _rows(nodes: Sequence[NodeReport], facts: Facts | None) -> tuple[Row, ...]:
    costs: Sequence[LayerCost | None] = facts.layers if facts else ()
    costs = costs or [None] * len(nodes)
    total = sum(c.cost or 0.0 for c in costs if c is not None) or 1.0
    rows: list[Row] = []
    for node, cost in zip(nodes, costs, strict=True):
        spent = cost.cost if cost is not None else None
        per_mac = spent / node.macs if spent is not None and node.macs else None
        error = facts.errors.get(node.name) if facts else None
        rows.append(Row(node, cost, (spent or 0.0) / total, per_mac, error))
    return tuple(rows)


def _flash_parts(flash: FlashReport) -> tuple[Part, ...]:
    parts = flash_rows(flash)
    total = sum(size for _, size in parts)
    return tuple(Part(label, size, size / total) for label, size in parts)


@cache
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,  # names come from model files
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["figure"] = _figure
    env.filters["signed"] = _signed
    return env


def _figure(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+,.0f}"
