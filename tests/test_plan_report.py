"""What a user sees of a plan: the map, the timeline, the refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plan_graphs import MIX, call, chain, node, random_case, value
from tinsmith.errors import CompileError, DoesNotFit
from tinsmith.ir.graph import Graph
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.fit import fit
from tinsmith.plan.model import MemoryPlan, short_name
from tinsmith.plan.prove import Proof
from tinsmith.plan.report import arena_map
from tinsmith.plan.timeline import draw_arena, write_timeline


def residual() -> MemoryPlan:
    """A block with a skip connection; its second node needs scratch, the addition is in place."""
    x, a, b, y = (value(n, s) for n, s in zip("xaby", (64, 32, 64, 64), strict=True))
    nodes = (node(MIX, [x], [a]), node(MIX, [a], [b]), node(MIX, [b, x], [y]))
    calls = [call(nodes[0]), call(nodes[1], {}, 20), call(nodes[2], {0: 0, 1: 0})]
    return plan_arena(Graph("g", (x,), (y,), {}, nodes), calls, 4)


def test_arena_map_golden():
    assert arena_map(residual(), rows=8) == (
        """\
arena 180 B, proved optimal; peak at b
layer by layer; proved optimal: the lower bound counts what is live while b runs, scratch and legal
overlaps included

      157 │····BBBB####········
      135 │····BBBBBBBB········
      112 │····BBBBCCCCCCCC····
       90 │········CCCCCCCC····
       67 │········CCCCCCCC····
       45 │AAAAAAAAAAAAAADDDDDD
       22 │AAAAAAAAAAAAAADDDDDD
        0 │AAAAAAAAAAAAAADDDDDD
          └────────────────────
     step      0       2

  bytes offset steps  buffer
A    64      0  in–2  x
B    32    128   0–1  a
#    20    160     1  b (scratch)
C    64     64   1–2  b
D    64      0 2–out  y
· free   two letters in a step: an output over its node's dying input"""
    )


@pytest.mark.parametrize("seed", range(6))
def test_arena_map_shows_every_byte_band_truly(seed: int):
    """With a row per byte the map is the plan: each cell is free, one buffer, or an overlap."""
    plan = plan_arena(*random_case(seed, most=8), 1)
    width = 11 + (1 + seed % 2) * (len(plan.order) + 2)
    lines = arena_map(plan, rows=10_000, width=width, legend=False).splitlines()
    bands = [line.split("│")[1] for line in lines if "│" in line]
    assert len(bands) == plan.arena_bytes
    cell = len(bands[0]) // (len(plan.order) + 2)
    for offset, band in enumerate(reversed(bands)):
        for column, step in enumerate(range(-1, len(plan.order) + 1)):
            live = [p for p in plan.live_at(step) if p.offset <= offset < p.end]
            shown = set(band[column * cell : (column + 1) * cell])
            assert (shown == {"·"}) == (not live)
            assert ("%" in shown or len(shown) > 1) == (len(live) > 1)
            if len(live) == 1:
                assert ("#" in shown) == live[0].buffer.is_scratch


@pytest.mark.parametrize("width", [50, 80, 100])
def test_arena_map_keeps_its_width(width: int):
    plan = plan_arena(*random_case(3, most=200), 4)
    text = arena_map(plan, width=width)
    assert max(map(len, text.splitlines()[1:])) <= width
    assert all(p.buffer.name in text for p in plan.placed)


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [
        ("conv1", 8, "conv1"),
        ("model/conv1/Relu;model/conv1/BiasAdd", 24, "model/conv1/Relu"),
        ("features.12.block.expand.conv", 16, "featu…xpand.conv"),
    ],
)
def test_short_name(name: str, width: int, short: str):
    assert short_name(name, width) == short
    assert len(short) <= width


def test_fit_says_what_peaks_and_what_is_live():
    plan = residual()
    fit(plan, 180)
    fit(plan, 300, other_ram_bytes=120)
    with pytest.raises(DoesNotFit) as caught:
        fit(plan, 250, other_ram_bytes=100, board="microbit")
    assert caught.value.render() == (
        """\
error: the arena needs 180 B, 30 B more than microbit has for it
  live while b runs:
           64 B  b (from mix '/b', until y)
           64 B  x (graph input, until y)
           32 B  a (from mix '/a', until b)
           20 B  scratch of b
  node: mix '/b'
  expected: at most 150 B of 250 B RAM, 100 B being data and stack; no plan of this schedule is \
smaller
  hint: take a board with more RAM; give b fewer channels, or its input a lower resolution"""
    )


def test_fit_tells_of_the_exact_planner_when_it_might_help(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "tinsmith.plan.arena.prove",
        lambda problem, offsets, arena, bound, **limits: Proof(offsets, arena, bound),
    )
    plan = plan_arena(*random_case(71, most=8), 1)
    assert (plan.lower_bound_bytes, plan.arena_bytes) == (90, 98)
    with pytest.raises(DoesNotFit) as caught:
        fit(plan, 95)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("look for a smaller plan with --exact-plan; ")
    assert (
        caught.value.expected == "at most 95 B of 95 B RAM; no plan of this schedule is below 90 B"
    )


def test_fit_sums_up_what_is_small():
    x = [value(f"x{i}", 10 + i) for i in range(20)]
    y = value("y", 100)
    made = node(MIX, x, [y])
    plan = plan_arena(Graph("g", tuple(x), (y,), {}, (made,)), [call(made)], 1)
    with pytest.raises(DoesNotFit, match=r"\n +126 B  in 9 smaller ones"):
        fit(plan, 100)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_timeline_is_the_same_file_every_time(tmp_path: Path, suffix: str):
    plan = residual()
    paths = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for path in paths:
        write_timeline(plan, path, budget=300, title="residual")
    first, second = (p.read_bytes() for p in paths)
    assert first == second
    assert len(first) > 2000


def test_timeline_shows_names_lines_and_overlap(tmp_path: Path):
    path = tmp_path / "arena.svg"
    write_timeline(residual(), path, budget=300, title="residual")
    text = path.read_text()
    for shown in (
        "residual: arena 180 B, proved optimal; peak at b",
        "lower bound 180 B",
        "budget 300 B",
        "0 a",
        "2 y",
        "inputs",
        "output over dying input",
    ):
        assert f">{shown}<" in text
    assert "<dc:date>" not in text


def test_timeline_refuses_other_formats(tmp_path: Path):
    with pytest.raises(CompileError, match=r"arena\.gif"):
        write_timeline(plan_arena(*chain([4, 4]), 4), tmp_path / "arena.gif")


def test_draw_arena_writes_the_pictures_and_the_map(tmp_path: Path):
    plan = residual()
    draw_arena(tmp_path, plan, budget=1000, title="residual")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arena.png", "arena.svg", "arena.txt"]
    assert (tmp_path / "arena.txt").read_text() == arena_map(plan) + "\n"
    assert ">budget 1,000 B, above this picture<" in (tmp_path / "arena.svg").read_text()
