"""Passes on text: `passes/<pass>/<case>.tin` holds a graph, a line `# after`, and the result.

The word `unchanged` stands for the same graph. Each pair is also run on random inputs: a pass must
not change what a graph computes. `pytest --update-goldens` writes the second half: read it.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array, DType
from tinsmith.ir.graph import Graph, Node, Origin, Value
from tinsmith.ir.interpret import run
from tinsmith.ir.parser import parse
from tinsmith.ir.printer import print_graph
from tinsmith.ops import registry
from tinsmith.pass_manager import PassContext, run_passes

FOLDER = Path(__file__).resolve().parent / "passes"
FILES = sorted(FOLDER.glob("*/*.tin"))
MARK = "# after\n"
UNCHANGED = "unchanged"
TOLERANCE = 1e-5  # folding changes the order of float32 sums


def transformed(graph: Graph, name: str) -> Graph:
    step = import_module(f"tinsmith.passes.{name}").PASS
    return run_passes(graph, [step], PassContext())


def random_input(value: Value, rng: np.random.Generator) -> Array:
    if value.type.dtype is DType.FLOAT32:
        return rng.uniform(-2, 2, value.type.shape).astype(np.float32)
    return rng.integers(-128, 128, value.type.shape, np.int64).astype(np.int8)


def compute(graph: Graph, inputs: list[Array]) -> list[Array]:
    """Inputs and outputs in the axis order of the ONNX model."""
    layouts = graph.input_layouts or (None,) * len(inputs)
    fed = [
        x if perm is None else np.ascontiguousarray(x.transpose(perm))
        for x, perm in zip(inputs, layouts, strict=True)
    ]
    outputs = run(graph, fed)
    layouts = graph.output_layouts or (None,) * len(outputs)
    return [
        y if perm is None else y.transpose(np.argsort(perm))
        for y, perm in zip(outputs, layouts, strict=True)
    ]


def structure(graph: Graph) -> str:
    """The text without what is only a name: inner values are numbered, origins dropped."""
    names = {v: v for v in (*graph.inputs, *graph.outputs)}
    for node in graph.nodes:
        for value in (*node.inputs, *node.outputs):
            names.setdefault(value, Value(f"v{len(names)}", value.type))
    nodes = [
        Node(
            n.op,
            tuple(names[v] for v in n.inputs),
            tuple(names[v] for v in n.outputs),
            n.attrs,
            Origin(),
        )
        for n in graph.nodes
    ]
    order = [v for v in names if v in graph.initializers]
    arrays = {names[v]: np.round(graph.initializers[v], 6) for v in order}
    return print_graph(replace(graph, nodes=tuple(nodes), initializers=arrays))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_pass(path: Path, request: pytest.FixtureRequest) -> None:
    before_text, after_text = path.read_text().split(MARK)
    before = parse(before_text, registry())
    result = transformed(before, path.parent.name)
    if request.config.getoption("--update-goldens"):
        same = structure(result) == structure(before)
        after_text = f"{UNCHANGED}\n" if same else structure(result)
        path.write_text(before_text + MARK + after_text)
    expected = before if after_text.strip() == UNCHANGED else parse(after_text, registry())
    assert structure(result) == structure(expected)
    rng = np.random.default_rng(7)
    for _ in range(3):
        inputs = [random_input(v, rng) for v in before.inputs]
        for want, got in zip(compute(before, inputs), compute(result, inputs), strict=True):
            np.testing.assert_allclose(got, want, atol=TOLERANCE, rtol=TOLERANCE)


def test_every_pass_has_unchanged_cases() -> None:
    by_pass: dict[str, list[str]] = {}
    for path in FILES:
        by_pass.setdefault(path.parent.name, []).append(path.read_text().split(MARK)[1].strip())
    assert by_pass, "no .tin files"
    for name, results in by_pass.items():
        assert UNCHANGED in results, f"{name} has no case that it leaves alone"
        assert any(r != UNCHANGED for r in results), f"{name} never does anything"
