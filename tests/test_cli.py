"""The command line: what scripts may rely on. Options, JSON keys, exit codes, where text goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

import tinsmith
from tinsmith import cli, paths
from tinsmith.errors import CompileError

DSCNN = paths.GRAPHS / "digits_dscnn" / "model.onnx"
COMMANDS = (
    "check", "analyze", "quantize", "compile", "run", "bench", "verify", "boards", "targets", "ops",
    "doctor", "demo",
)  # fmt: skip


def call(*argv: object) -> Result:
    return CliRunner().invoke(cli.app, [str(a) for a in argv])


@pytest.fixture
def unsupported(tmp_path: Path) -> Path:
    """A model with two nodes that no operator stands for."""
    nodes = [
        helper.make_node("Sin", ["x"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "fine"),
        helper.make_node("Cos", ["b"], ["y"], "second"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "waves", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "waves.onnx"
    onnx.save(model, path)
    return path


def test_version() -> None:
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"tinsmith {tinsmith.__version__}\n")


def test_help_lists_every_command() -> None:
    listed = call("--help").stdout
    assert all(f"  {command} " in listed for command in COMMANDS)
    assert "--install-completion" in listed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: tinsmith {command}") or "Usage: " in result.stdout


def test_check_accepts() -> None:
    result = call("check", DSCNN)
    assert result.exit_code == 0
    assert "every node is supported" in result.stdout


def test_check_lists_every_unsupported_node(unsupported: Path) -> None:
    result = call("check", unsupported)
    assert result.exit_code == 1
    assert "first" in result.stdout
    assert "second" in result.stdout


def test_check_json(unsupported: Path) -> None:
    result = call("check", unsupported, "--json")
    data = json.loads(result.stdout)
    assert result.exit_code == 1
    assert data["supported"] is False
    assert [(n["op"], n["node"]) for n in data["unsupported"]] == [
        ("Sin", "first"),
        ("Cos", "second"),
    ]
    assert all(n["reason"] for n in data["unsupported"])


@pytest.mark.parametrize(
    "argv",
    [
        ("check", "missing.onnx"),
        ("check", DSCNN, "--bind", "height"),
        ("check", DSCNN, "--bind", "height=0"),
        ("check", DSCNN, "--unknown"),
        ("check",),
        ("nonsense",),
        ("compile", DSCNN, "--board", "no-such-board", "-o", "unused"),
        ("compile", DSCNN, "-o", "unused"),
        ("verify", "no-such-folder"),
        ("run", "no-such-folder", "--input", "missing.npz"),
        ("bench", "no-such-folder"),
    ],
    ids=lambda argv: " ".join(str(a).replace(str(DSCNN), "MODEL") for a in argv),
)
def test_bad_usage_is_exit_2_on_stderr(argv: tuple[object, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tinsmith", *map(str, argv)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert "rror: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_defect_is_reported_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("for the test")

    monkeypatch.setattr(cli, "check_model", broken)
    result = call("check", DSCNN)
    assert result.exit_code == 1
    assert "a defect of tinsmith: ZeroDivisionError: for the test" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("TINSMITH_DEBUG", "1")
    assert isinstance(call("check", DSCNN).exception, ZeroDivisionError)


def test_errors_keep_square_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise CompileError("shape [1, 2] is not [bold]", hint="[red]")

    monkeypatch.setattr(cli, "check_model", refuse)
    assert call("check", DSCNN).stderr == "error: shape [1, 2] is not [bold]\n  hint: [red]\n"


@pytest.mark.parametrize("command", ["boards", "targets", "ops"])
def test_lists_name_the_same_as_their_json(command: str) -> None:
    data = json.loads(call(command, "--json").stdout)
    text = call(command).stdout
    assert len(data) > 5
    assert all(entry["name"] in text for entry in data)


def test_boards_json_has_budgets() -> None:
    boards = {b["name"]: b for b in json.loads(call("boards", "--json").stdout)}
    assert boards["stm32f746g-disco"]["ram_bytes"] == 320 * 1024
    assert boards["stm32f746g-disco"]["twin"] == "mps2-an500"
    assert boards["host"]["flash_bytes"] is None


def test_doctor_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    data = json.loads((result := call("doctor", "--json")).stdout)
    assert result.exit_code == 3
    assert data["ok"] is False
    assert all(tool["problem"] for tool in data["tools"])
    for package in ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"):
        assert package in data["install"]
    text = call("doctor")
    assert text.exit_code == 3
    assert data["install"] in " ".join(text.stdout.split())  # a narrow console wraps it


def test_doctor_notices_a_compiler_without_its_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("gcc", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc"):
        (tmp_path / name).write_text('#!/bin/sh\n[ "$1" = --version ] && echo "cc 1.2.3"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    tools = {t["name"]: t for t in json.loads(call("doctor", "--json").stdout)["tools"]}
    assert tools["arm-none-eabi-gcc"]["version"] == "1.2.3"
    assert tools["arm-none-eabi-gcc"]["problem"].startswith("no C library for cortex-")
