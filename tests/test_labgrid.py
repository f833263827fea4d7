"""`--labgrid PLACE`: a place is held while its board is used, and let go whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tinsmith
from tinsmith import cli, paths
from tinsmith.errors import CompileError
from tinsmith.lab.connection import Connection, LabUnavailable
from tinsmith.lab.place import Debugger, held, reaching
from tinsmith.runner.compare import verify
from tinsmith.serial_link.line import SerialPort

from .serial_proxy import emulator, proxy

pytest.importorskip("labgrid", reason="needs the extra lab")

from .laboratory import as_somebody, laboratory, rfc2217

BOARD = "mps2-an386"
ME = "desk-3/ada"


@dataclass(frozen=True)
class Setup:
    project: Path
    coordinator: str


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Generator[Setup]:
    model = paths.GRAPHS / "digits_autoencoder"
    folder = tmp_path_factory.mktemp("lab")
    tinsmith.compile(
        model / "model.onnx", board=BOARD, out=folder / "out", harness="serial",
        calibrate=model / "calibration.npz", pictures=False,
    )  # fmt: skip
    words = emulator(folder / "out", BOARD)
    with proxy(words) as board, proxy(words) as second, rfc2217(second.url) as telnet:
        raw = {"host": "127.0.0.1", "port": int(board.url.rsplit(":", 1)[1]), "protocol": "raw"}
        usb = {"host": "far-away", "busnum": 1, "devnum": 7, "path": "1-4.2"}
        usb |= {"vendor_id": 0x0483, "model_id": 0x374B}
        places = {
            "m4": {"NetworkSerialPort": raw, "NetworkUSBDebugger": usb},
            "m4-telnet": {"NetworkSerialPort": raw | {"port": telnet, "protocol": "rfc2217"}},
            "lamp": {"NetworkPowerPort": {"model": "sispmctl", "host": "127.0.0.1", "index": 1}},
        }
        with as_somebody(ME), laboratory(folder, places) as coordinator:
            yield Setup(folder / "out", coordinator)


def holder(lab: Setup, place: str = "m4") -> str | None:
    """Who holds a place, by the coordinator's own word."""
    connection = Connection(lab.coordinator)
    try:
        return connection._session.places[place].acquired
    finally:
        connection.close()


@pytest.mark.parametrize("place", ["m4", "m4-telnet"])
def test_verified_at_a_place(lab: Setup, place: str) -> None:
    with reaching(None, place=place, coordinator=lab.coordinator) as port:
        assert holder(lab, place) == ME
        assert verify(lab.project).ok
    assert port is not None
    assert port.name.startswith("rfc2217" if "telnet" in place else "socket")
    assert port.statistics.payload_bytes > 0
    assert not holder(lab, place)


def test_commands_take_a_place(lab: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_COORDINATOR", lab.coordinator)
    answer = CliRunner().invoke(cli.app, ["bench", str(lab.project), "--labgrid", "m4", "--json"])
    assert answer.exit_code == 0, answer.output
    data = json.loads(answer.stdout)
    assert data["serial"]["port"].startswith("socket://127.0.0.1:")
    assert data["instructions_per_inference"] > 0
    assert not holder(lab)


def test_a_held_place_names_its_holder(lab: Setup) -> None:
    with (
        as_somebody("attic/grace"),
        held("m4", lab.coordinator),
        as_somebody(ME),
        pytest.raises(LabUnavailable, match="held by grace at attic"),
        held("m4", lab.coordinator),
    ):
        pytest.fail("it was had twice")
    assert not holder(lab)


def test_released_after_an_error(lab: Setup) -> None:
    def fail() -> None:
        assert holder(lab) == ME
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), held("m4", lab.coordinator):
        fail()
    assert not holder(lab)


def test_what_was_given_to_somebody_else_stays_theirs(lab: Setup) -> None:
    with held("m4", lab.coordinator) as place:
        place.connection.release("m4")  # as an administrator would
        with as_somebody("attic/grace"):
            theirs = Connection(lab.coordinator)
            theirs.acquire("m4")
    try:
        assert holder(lab) == "attic/grace"
    finally:
        with as_somebody("attic/grace"):
            theirs.release("m4")
            theirs.close()
    assert not holder(lab)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_released_when_stopped(lab: Setup, number: signal.Signals) -> None:
    script = (  # whose parents may ignore interrupts, as those of a job in the background do
        "import signal, sys, time; from tinsmith.lab.place import held\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with held('m4', sys.argv[1]):\n  print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, lab.coordinator]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        started = time.monotonic()
        child.send_signal(number)
        assert child.wait(20) != 0
    assert time.monotonic() - started < 20
    assert not holder(lab)


def test_the_probe_of_a_place(lab: Setup) -> None:
    with held("m4", lab.coordinator) as place:
        assert place.debugger() == Debugger("far-away", "1-4.2")
    with (
        held("m4-telnet", lab.coordinator) as place,
        pytest.raises(LabUnavailable, match="no debug probe"),
    ):
        place.debugger()


def test_flash_at_a_place(lab: Setup, tmp_path: Path) -> None:
    model = paths.GRAPHS / "digits_autoencoder"
    tinsmith.compile(
        model / "model.onnx", board="nucleo-l4r5zi", out=tmp_path,
        calibrate=model / "calibration.npz", pictures=False,
    )  # fmt: skip
    words = ["flash", str(tmp_path), "--labgrid", "m4", "--coordinator", lab.coordinator]
    answer = CliRunner().invoke(cli.app, [*words, "--dry-run", "--json"])
    assert answer.exit_code == 0, answer.output
    data = json.loads(answer.stdout)
    assert data["host"] == "far-away"
    assert data["commands"][0][0] == "ssh"
    assert not data["written"]
    assert not holder(lab)


def test_refused(lab: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabUnavailable, match=r"one of: lamp, m4, m4-telnet"):
        held("m5", lab.coordinator).__enter__()
    monkeypatch.setattr("tinsmith.lab.place._START_SECONDS", 0.1)
    with (
        held("lamp", lab.coordinator) as place,
        pytest.raises(LabUnavailable, match="no NetworkSerialPort"),
    ):
        place.port()
    with pytest.raises(LabUnavailable, match=r"coordinator 127.0.0.1:9 cannot be used"):
        held("m4", "127.0.0.1:9").__enter__()
    with pytest.raises(CompileError, match="--port and --labgrid"):
        reaching("qemu", place="m4").__enter__()
    with pytest.raises(CompileError, match="is of --labgrid"):
        reaching(None, coordinator="x").__enter__()


def test_a_line_is_negotiated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial, unlike labgrid's fork, asks for all settings again when the timeout changes."""

    class Fixed:
        in_waiting = 0

        def __setattr__(self, name: str, value: object) -> None:
            raise AssertionError(f"{name} was changed")

        def read(self, size: int) -> bytes:
            return b""

    monkeypatch.setattr("serial.serial_for_url", lambda name, **settings: Fixed())
    assert SerialPort("rfc2217://bench:4000", 9600).read(0.01) == b""
