"""`tinsmith lab`: models on boards, side by side; what failed and what was kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tinsmith import cli, paths
from tinsmith.errors import CompileError
from tinsmith.lab.cell import CellResult, digest_of
from tinsmith.lab.matrix import read_matrix
from tinsmith.lab.schedule import run_matrix
from tinsmith.lab.table import as_data, as_markdown

from .serial_proxy import Proxy, emulator, proxy

MODEL = paths.GRAPHS / "digits_autoencoder"
FLASHER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as line:
    line.sendall(sys.argv[2].encode() + b"\\n")
    sys.exit(line.recv(8) != b"done")
"""


@pytest.fixture
def models(tmp_path: Path) -> str:
    for name in ("model.onnx", "calibration.npz"):
        shutil.copy(MODEL / name, tmp_path)
    return """
calibrate = "calibration.npz"
[model.by-speed]
model = "model.onnx"
[model.by-size]
model = "model.onnx"
optimize = "ram"
"""


def read(folder: Path, text: str):
    (folder / "lab.toml").write_text(text)
    return read_matrix(folder / "lab.toml", folder / "out")


@contextmanager
def flashable(board: Proxy, name: str) -> Generator[int]:
    """A port that takes the path of an ELF, and has the board run that."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                line, _ = server.accept()
                with line:
                    elf = line.makefile().readline().strip()
                    if not elf:
                        return
                    board.argv = emulator(Path("/"), name, elf)
                    board._kill()
                    board._boot()
                    line.sendall(b"done")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            socket.create_connection(server.getsockname()).close()
            thread.join()


def test_two_models_on_three_boards(tmp_path: Path, models: str, monkeypatch) -> None:
    """Emulated, over a serial port, and at a place of labgrid whose board is written to."""
    pytest.importorskip("labgrid", reason="needs the extra lab")
    from .laboratory import laboratory

    (tmp_path / "flasher.py").write_text(FLASHER)
    sleeping = ["sleep", "600", "-serial", "none"]
    with proxy(sleeping) as board, flashable(board, "mps2-an386") as flasher:
        port = {"host": "127.0.0.1", "port": int(board.url.rsplit(":", 1)[1]), "protocol": "raw"}
        with laboratory(tmp_path, {"shared": {"NetworkSerialPort": port}}) as coordinator:
            monkeypatch.setenv("LG_COORDINATOR", coordinator)
            command = json.dumps([sys.executable, str(tmp_path / "flasher.py"), str(flasher)])
            (tmp_path / "lab.toml").write_text(
                models
                + "[board.mps2-an386]\n"
                + '[board.serial]\nboard = "mps2-an386"\nport = "qemu"\n'
                + '[board.shared]\nboard = "mps2-an386"\nlabgrid = "shared"\n'
                + f'flash = {command[:-1]}, "{{elf}}"]\n'
            )
            words = ["lab", str(tmp_path / "lab.toml"), "--jobs", "2"]
            answer = CliRunner().invoke(cli.app, [*words, "--json"])
            assert answer.exit_code == 0, answer.output
            again = CliRunner().invoke(cli.app, words)
    data = json.loads(answer.stdout)
    cells = data["cells"]
    assert [(c["model"], c["board"]) for c in cells] == [
        (m, b) for m in ("by-speed", "by-size") for b in ("mps2-an386", "serial", "shared")
    ]
    assert all(c["ok"] and c["samples"] == 4 and c["flash_bytes"] > 0 for c in cells)
    assert [c["port"] is not None for c in cells] == [False, True, True] * 2
    for first in (0, 3):  # the same core, the same instructions, however it is reached
        a, *others = (c["instructions_per_inference"] for c in cells[first : first + 3])
        assert a > 0
        assert all(abs(o - a) / a < 0.01 for o in others)
    assert cells[0]["arena_bytes"] >= cells[3]["arena_bytes"]
    folder = tmp_path / "build" / "lab"
    assert json.loads((folder / "lab.json").read_text()) == data | {
        "cells": [c | {"kept": True} for c in cells]
    }
    assert again.exit_code == 0
    assert again.stdout.count("ok, as before") == 6
    assert "| by-size | shared | ok, as before | 4 |" in (folder / "lab.md").read_text()


def test_a_failing_cell_stops_no_other(tmp_path: Path, models: str) -> None:
    """Not even one whose process is killed; and it is tried again, the others are kept."""
    text = (
        "[model.m]\n"
        'model = "model.onnx"\ncalibrate = "calibration.npz"\n'
        '[board.killed]\nboard = "mps2-an386"\nflash = ["sh", "-c", "kill -9 $PPID"]\n'
        '[board.broken]\nboard = "mps2-an386"\nflash = ["sh", "-c", "echo no; exit 4"]\n'
        '[board.closed]\nboard = "mps2-an386"\nport = "socket://127.0.0.1:9"\n'
        "[board.mps2-an386]\n"
    )
    cells = read(tmp_path, text)
    killed, broken, closed, fine = run_matrix(cells, jobs=2)
    assert (killed.stage, broken.stage, closed.stage) == ("run", "flash", "verify")
    assert killed.error is not None
    assert "was killed" in killed.error
    assert broken.error is not None
    assert "exit status 4\nno" in broken.error
    assert closed.error is not None
    assert "cannot open the port" in closed.error
    assert fine.ok
    told: list[CellResult] = []
    again = run_matrix(cells[2:], jobs=1, done=told.append)
    assert [r.kept for r in again] == [False, True]
    assert again[1].instructions_per_inference == fine.instructions_per_inference
    assert len(told) == 2


def test_digests(tmp_path: Path, models: str) -> None:
    """What a cell's result depends on is in its digest; where it lies is not."""
    text = models + "[board.mps2-an386]\n"
    one, two = (digest_of(c) for c in read(tmp_path, text))
    assert one != two
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("model.onnx", "calibration.npz"):
        shutil.copy(tmp_path / name, other)
    assert [digest_of(c) for c in read(other, text)] == [one, two]
    with (other / "calibration.npz").open("ab") as file:
        file.write(b" ")
    assert one not in [digest_of(c) for c in read(other, text)]
    on_port = read(tmp_path, models + '[board.mps2-an386]\nport = "qemu"\n')[0]
    assert digest_of(on_port) != one


def test_resources(tmp_path: Path, models: str) -> None:
    """Emulated boards are free; a port, a place and a probe serve one cell at a time."""
    boards = (
        '[board.a]\nboard = "mps2-an386"\n[board.b]\nboard = "mps2-an386"\nport = "qemu"\n'
        '[board.c]\nboard = "mps2-an386"\nport = "COM3"\n'
        '[board.d]\nboard = "mps2-an386"\nlabgrid = "x"\ncoordinator = "h:1"\n'
        '[board.e]\nboard = "nucleo-l4r5zi"\nflash = true\nprobe = "77"\n'
    )
    cells = read(tmp_path, models + boards)[:5]
    wanted = [None, None, "port COM3", "place x of h:1", "probe 77"]
    assert [c.station.resource for c in cells] == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[board.mps2-an386]", "has no models"),
        ('[model.m]\nmodel = "m"', "has no boards"),
        ('[model.m]\nmodel = "m"\nboard = "x"\n[board.microbit]', r"belongs to \[board.NAME\]"),
        ('[model.m]\nmodel = "m"\nverify = true\n[board.microbit]', "every cell is compiled"),
        ('[model.m]\nmodell = "m"\n[board.microbit]', "perhaps 'model'"),
        ('[model.m]\nmodel = "m"\n[board.microbit]\nprot = "x"', "perhaps 'port'"),
        ('[model.m]\nmodel = "m"\n[board.microbit]\nbaud = "x"', "Expected `int"),
        ('[model.m]\nmodel = "m"\n[board.microbit]\nbaud = 9600', "baud rate and no port"),
        ('[model.m]\nmodel = "m"\n[board.microbit]\nflash = true', "board.toml does not say"),
        ('[model.m]\nmodel = "m"\n[board.microbit]\nport = "a"\nlabgrid = "b"', "both a port"),
        ('[model.m]\nmodel = "m"\n[board.desk]', "unknown board 'desk'"),
        ('[model."a/b"]\nmodel = "m"\n[board.microbit]', "no name of a model"),
        ('model = "m"\n[board.microbit]', "`model` is no table"),
        ("[model", "cannot be read"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CompileError, match=words):
        read(tmp_path, text)


def test_tables() -> None:
    good = CellResult("a|b", "m4", "", ok=True, flash_bytes=12_345, latency_us=1.5)
    bad = CellResult("c", "m4", "", stage="flash", error="no probe\n  hint: connect it")
    text = as_markdown([good, bad])
    assert "| a\\|b | m4 | ok |  | 12,345 |" in text
    assert "| c | m4 | flash failed |" in text
    assert "    no probe\n      hint: connect it" in text
    assert len({line.count("|") for line in text.replace("\\|", "").splitlines()[:4]}) == 1
    assert as_data([good, bad])["ok"] is False


def test_interrupted(tmp_path: Path, models: str) -> None:
    """Ctrl-C ends it, with the exit code of the shell and no traceback."""
    (tmp_path / "lab.toml").write_text(
        models + '[board.slow]\nboard = "mps2-an386"\nflash = ["sh", "-c", "touch '
        f'{tmp_path}/started; sleep 60"]\n'
    )
    command = [sys.executable, "-m", "tinsmith", "lab", str(tmp_path / "lab.toml"), "--jobs", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as child:
        while not (tmp_path / "started").exists():
            assert child.poll() is None
            threading.Event().wait(0.05)
        os.killpg(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert b"Traceback" not in said
