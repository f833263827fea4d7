"""The passes into integers on text: `quantized_passes/<pass>/<case>.tin`, as in `test_passes`.

After `# after` comes the graph, or the error the pass ends with. That the integers mean what the
float graph did is tested in `test_fold_qdq`. `pytest --update-goldens` writes the second half.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.parser import parse
from tinsmith.ops import registry
from tinsmith.pass_manager import PassContext, run_passes

from .test_passes import MARK, structure

FOLDER = Path(__file__).resolve().parent / "quantized_passes"
FILES = sorted(FOLDER.glob("*/*.tin"))


def outcome(text: str, name: str) -> str:
    """The graph after the pass, or its error."""
    step = import_module(f"tinsmith.passes.{name}").PASS
    try:
        return structure(run_passes(parse(text, registry()), [step], PassContext()))
    except CompileError as error:
        return error.render() + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_pass(path: Path, request: pytest.FixtureRequest) -> None:
    before, after = path.read_text().split(MARK)
    got = outcome(before, path.parent.name)
    if request.config.getoption("--update-goldens"):
        path.write_text(before + MARK + got)
        after = got
    assert got == after


def test_both_passes_have_results_and_errors() -> None:
    for name in ("fold_qdq", "lower_requantize"):
        results = [p.read_text().split(MARK)[1] for p in FILES if p.parent.name == name]
        assert any(r.startswith("error:") for r in results)
        assert any(r.startswith("graph ") for r in results)
