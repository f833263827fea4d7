"""The demonstration of learning, on the host."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tinsmith.cli import app


def test_the_world_changes_and_the_device_learns_it(tmp_path: Path) -> None:
    argv = ["demo-training", "--board", "host", "-o", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    outcome = json.loads(done.stdout)
    first, last = outcome["points"][0], outcome["points"][-1]
    assert first["earlier"] > 0.95
    assert first["now"] < 0.25
    assert last["now"] > 0.85
    assert outcome["recovered"] == last["now"]
    assert outcome["old"] > 0
    assert outcome["new"] > 0
    assert outcome["cuts"] == outcome["old"] + outcome["new"] == 9
    assert Path(outcome["picture"]).read_bytes().startswith(b"\x89PNG")
    assert (Path(outcome["folder"]) / "trained.onnx").is_file()
