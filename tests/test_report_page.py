"""The page of a build: complete, self-contained, true to the plan, and safe from names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.codegen.report import read_report
from tinsmith.report_page.arena_picture import buffers, draw_arena
from tinsmith.report_page.comparison import compare
from tinsmith.report_page.facts import collect
from tinsmith.report_page.graph_picture import _lanes, draw_graph
from tinsmith.report_page.page import render_page


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small network on an emulated board, for speed and for flash."""
    folder = tmp_path_factory.mktemp("report")
    model = paths.GRAPHS / "digits_resnet" / "model.onnx"
    samples = model.with_name("calibration.npz")
    for name, goal in (("fast", "instructions"), ("small", "flash")):
        tinsmith.compile(
            model, board="mps2-an386", out=folder / name, calibrate=samples, pictures=False,
            optimize=goal,
        )  # fmt: skip
    return folder / "fast", folder / "small"


class _Page(HTMLParser):
    """The ids, links and text of a page; fails where elements are not closed in order."""

    VOID = ("meta", "input", "br", "line", "rect", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.uses: list[str] = []
        self.outside: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            elif key in ("href", "src", "data-row", "data-table"):
                inner = (value or "").removeprefix("#")
                (self.outside if ":" in inner or "/" in inner else self.uses).append(inner)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag


def test_the_page_stands_alone(builds: tuple[Path, Path]) -> None:
    page = render_page(*(collect(b, measure=False) for b in builds))
    found = _Page(page)
    assert found.outside == []
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert len(found.ids) == len(set(found.ids))
    assert set(found.uses) <= set(found.ids)


def test_names_of_a_model_are_text(builds: tuple[Path, Path]) -> None:
    facts = collect(builds[0], measure=False)
    evil = '"><script>alert(1)</script>'
    nodes = tuple(msgspec.structs.replace(n, name=evil) for n in facts.report.nodes)
    facts = msgspec.structs.replace(
        facts, report=msgspec.structs.replace(facts.report, nodes=nodes, model=evil)
    )
    page = render_page(facts)
    assert page.count("<script>") == 1
    _Page(page)


def test_measured_layers_add_up(builds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(builds[0].parent)  # a relative path is as good as another
    result = CliRunner().invoke(app, ["report", builds[0].name, "--json"])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    layers = [layer["instructions"] for layer in data["layers"]]
    total = data["report"]["instructions_per_inference"]
    assert len(layers) == len(data["report"]["nodes"])
    assert abs(sum(layers) - total) < 0.02 * total
    assert data["cost_unit"] == "estimated cycles"
    page = builds[0] / "report.html"
    assert CliRunner().invoke(app, ["report", str(builds[0])]).exit_code == 0
    assert f"{max(layers):,}" in page.read_text()


def test_the_arena_is_the_plan(builds: tuple[Path, Path]) -> None:
    report = read_report(builds[0])
    held = buffers(report.nodes, report.inputs, report.outputs)
    assert max(b.offset + b.bytes for b in held) == report.arena_bytes
    peak = max(
        sum(b.bytes for b in held if b.first <= step <= b.last) for step in range(len(report.nodes))
    )
    assert peak >= report.arena_lower_bound_bytes
    kinds = {b.kind for b in held}
    assert {"input", "output", "value"} <= kinds
    for node in report.nodes:  # whatever a node reads is held when it does
        for place in node.inputs:
            assert any(
                b.first <= node.index <= b.last
                and b.offset <= place.offset
                and place.offset + place.bytes <= b.offset + b.bytes
                for b in held
            )
    picture = draw_arena(
        report.nodes, report.inputs, report.outputs, arena_bytes=report.arena_bytes,
        lower_bound_bytes=0,
    )  # fmt: skip
    assert all(b.y >= 0 and b.x + b.width <= picture.width for b in picture.bars)


def test_the_graph_has_every_edge(builds: tuple[Path, Path]) -> None:
    report = read_report(builds[0])
    picture = draw_graph(report.nodes, report.inputs, report.outputs)
    edges = sum(len(n.inputs) for n in report.nodes) + len(report.outputs)
    assert len(picture.wires) == edges
    assert len(picture.boxes) == len(report.nodes) + len(report.inputs) + len(report.outputs)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=25))
def test_wires_of_one_lane_do_not_cross(raw: list[tuple[int, int]]) -> None:
    spans = [(a, a + length) for a, length in raw]
    lanes = _lanes(spans)
    for i, (first, last) in enumerate(spans):
        assert (lanes[i] == 0) == (last - first == 1)
        for j in range(i):
            if lanes[i] and lanes[i] == lanes[j]:
                assert last <= spans[j][0] or spans[j][1] <= first


def test_two_builds_are_compared(builds: tuple[Path, Path]) -> None:
    fast, small = (collect(b, measure=False) for b in builds)
    same = compare(fast, fast)
    assert all(c.delta == 0 for c in same.figures)
    changes = {c.label: c.delta for c in compare(fast, small).figures}
    assert changes["flash, bytes"] == small.report.flash_bytes - fast.report.flash_bytes < 0  # type: ignore[operator]
    result = CliRunner().invoke(app, ["report", *map(str, builds), "--text", "--no-measure"])
    assert result.exit_code == 0, result.output
    assert re.search(r"flash, bytes .* -[\d,]+ \(-\d", result.stdout)


def test_stripes_are_compared_as_their_layer(builds: tuple[Path, Path]) -> None:
    """A layer in stripes has the MACs of all of them, its constants once."""
    whole = collect(builds[0], measure=False)
    nodes = list(whole.report.nodes)
    index = next(i for i, n in enumerate(nodes) if n.op == "conv2d")
    layer = nodes[index]
    change = msgspec.structs.replace
    stripes = [
        change(layer, name=f"{layer.name}.rows{end}", macs=layer.macs // 2) for end in ("", ".1")
    ]
    joined = change(layer, op="concat", kernel="", macs=0, bytes=0)
    nodes[index : index + 1] = [*stripes, joined]
    striped = change(whole, report=change(whole.report, nodes=tuple(nodes)))
    layers = {x.name: x for x in compare(whole, striped).layers}
    same = layers[layer.name]
    assert (same.macs.delta, same.bytes.delta, same.kernels[0]) == (0, 0, same.kernels[1])
    assert layers[f"{layer.name} (joined)"].kernels == (None, "")
    assert len(layers) == len(whole.report.nodes) + 1


def test_a_folder_has_a_name(builds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(builds[0])
    facts = collect(Path(), measure=False)
    assert facts.folder == "fast"
    assert "<h1>fast (A) → fast (B)</h1>" in render_page(facts, facts)


def test_a_board_that_cannot_run_is_said_so(tmp_path: Path) -> None:
    model = paths.GRAPHS / "digits_autoencoder" / "model.onnx"
    samples = model.with_name("calibration.npz")
    tinsmith.compile(model, board="host", out=tmp_path / "p", calibrate=samples, pictures=False)
    facts = collect(tmp_path / "p", measure=True)
    assert facts.layers == ()
    assert facts.unmeasured in render_page(facts)
    assert "does not count" in facts.unmeasured


def test_no_project_no_page(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a compiled project" in result.stderr


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_runs_it_without_complaint(builds: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    text = render_page(*(collect(b, measure=False) for b in builds))
    keys = """<script>
    const heads = document.querySelectorAll("#tablea0 th");
    const press = (h, key) => h.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    const column = n => [...document.querySelectorAll(`#tablea0 tbody tr:not([hidden])`)]
      .map(r => r.cells[n].textContent.replace(/,/g, ""));
    press(heads[6], "Enter");
    document.body.dataset.down = column(6).join(" ");
    press(heads[6], " ");
    document.body.dataset.up = column(6).join(" ");
    const filter = document.querySelector("input[data-table=tablea0]");
    filter.value = "CONV2D";
    filter.dispatchEvent(new Event("input"));
    document.body.dataset.ops = column(2).join(" ");
    </script></body>"""
    page.write_text(text.replace("</body>", keys))
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --enable-logging"
    done = subprocess.run(
        ["chromium", *flags.split(), "--v=0", f"--user-data-dir={tmp_path / 'u'}",
         "--virtual-time-budget=2000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert 'class="sortable"' in done.stdout
    assert "CONSOLE" not in done.stderr
    found = dict(re.findall(r'data-(down|up|ops)="([^"]*)"', done.stdout))
    constants = [int(c or 0) for c in found["down"].split(" ")]
    assert constants == sorted(constants, reverse=True)
    assert constants[0] > constants[-1]
    assert [int(c or 0) for c in found["up"].split(" ")] == constants[::-1]
    assert set(found["ops"].split()) == {"conv2d"}
