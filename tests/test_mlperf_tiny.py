"""Firmware for the MLPerf Tiny runner, driven by a client written to its specification."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.errors import CompileError
from tinsmith.ir.interpret import run_batch
from tinsmith.machine.board import board_names, load_board
from tinsmith.runner.execute import command
from tinsmith.runner.project import device_samples
from tinsmith.serial_link.line import Emulator, SerialPort
from tinsmith.toolchain.harness import ModelBinding, harness_files, with_uart
from tinsmith.train.scheme import Scheme, Update

from .mlperf_client import Runner, RunnerError
from .serial_proxy import proxy

BOARD = "mps2-an386"
COUNT = 4


def _compile(
    folder: Path,
    source: str,
    name: str,
    board: str = BOARD,
    harness: str = "mlperf-tiny",
    **options,
) -> Path:
    model = paths.GRAPHS / source
    tinsmith.compile(
        model / "model.onnx",
        board=board,
        out=folder,
        calibrate=model / "calibration.npz",
        name=name,
        harness=harness,
        pictures=False,
        **options,
    )
    return folder


@pytest.fixture(scope="module")
def kws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compile(tmp_path_factory.mktemp("kws01"), "digits_dscnn", "kws01")


@contextmanager
def _running(project: Path, board: str = BOARD, trace: Path | None = None) -> Generator[Runner]:
    """trace: what is written to the GPIO of the micro:bit goes there; the firmware is of energy
    mode."""
    argv = command(project / "build/firmware.elf", load_board(board))
    if trace is not None:
        argv += ["-trace", "nrf51_gpio_write", "-D", str(trace)]
    line = Emulator(argv)
    try:
        runner = Runner(line, energy=trace is not None)
        runner.started()
        yield runner
    finally:
        line.close()


def _samples(project: Path, source: str = "digits_dscnn") -> np.ndarray:
    with np.load(paths.GRAPHS / source / "samples.npz") as archive:
        x = archive["x"][:COUNT]
    return device_samples(tinsmith.load(project).graph, x)[0]


def _expected(project: Path, samples: np.ndarray) -> np.ndarray:
    """The oracle's outputs as reals, [samples, values]."""
    graph = tinsmith.load(project).graph
    output = graph.outputs[0].type
    values = run_batch(graph, [samples])[0].reshape(len(samples), -1)
    return (values.astype(np.float64) - output.zero_point) * output.scale


@pytest.mark.parametrize("board", [BOARD, "qemu-riscv32", "microbit"])
def test_the_runner_gets_right_results(board: str, tmp_path: Path) -> None:
    project = _compile(tmp_path, "digits_dscnn", "kws01", board)
    samples = _samples(project)
    expected = _expected(project, samples)
    with _running(project, board) as runner:
        assert runner.ask("name") == [f"m-name-dut-[{board}]"]
        profile, model = runner.ask("profile")
        assert profile.startswith("m-profile-[ULPMark for tinyML Firmware")
        assert model == "m-model-[kws01]"
        for sample, want in zip(samples, expected, strict=True):
            runner.load(sample.tobytes())
            assert runner.buffer() == sample.tobytes()
            got, _ = runner.infer(1, 0)
            np.testing.assert_allclose(got, want, atol=0.0005001)
            assert runner.infer(3, 2)[0] == got  # a run may overwrite its input
            assert runner.results() == got


def test_time_is_the_boards(kws: Path) -> None:
    """An emulated instruction takes a nanosecond."""
    with _running(kws) as runner:
        runner.load(_samples(kws)[0].tobytes())
        once = runner.infer(1, 0)[1]
        many = runner.infer(20, 1)[1]
        before = int(runner.ask("timestamp")[0].removeprefix("m-lap-us-"))
        after = int(runner.ask("timestamp")[0].removeprefix("m-lap-us-"))
    assert after > before
    assert abs(once - many) < 0.02 * many + 1
    instructions = 254_800  # of `bench`; with the call around it
    assert 0.2 * instructions / 1000 < many < 3 * instructions / 1000


def test_energy_mode_makes_edges_on_a_pin(tmp_path: Path) -> None:
    """A falling edge for every timestamp: at the start, when asked, before and after inferences."""
    project, trace = tmp_path / "project", tmp_path / "trace"
    _compile(project, "digits_dscnn", "kws01", "microbit", "mlperf-tiny-energy")
    assert "TS_UART_BAUD 9600u" in (project / "harness" / "ts_board.h").read_text()
    sample = _samples(project)[0]
    with _running(project, "microbit", trace) as runner:
        assert runner.ask("timestamp") == []
        runner.load(sample.tobytes())
        got = runner.infer(2, 0)[0]
    np.testing.assert_allclose(got, _expected(project, sample[None])[0], atol=0.0005001)
    written = re.findall(r"offset 0x([0-9a-f]+) value 0x([0-9a-f]+)", trace.read_text())
    high, low = ("508", "8"), ("50c", "8")  # OUTSET, OUTCLR
    assert written[:2] == [high, ("518", "8")]  # then DIRSET: never low before it is asked for
    assert written[2:] == [low, high] * 4


@pytest.mark.parametrize("board", [b for b in board_names() if load_board(b).pin])
def test_every_pin_is_set_up(board: str) -> None:
    """High before it is an output, and the last of the set-up."""
    machine = with_uart(load_board(board), "mlperf-tiny-energy")
    pin = machine.pin
    assert pin is not None
    assert machine.setup == (*load_board(board).setup, *pin.setup)
    high, output = pin.setup[-2:]
    assert (high.address, high.set) == (pin.high.address, pin.high.value)
    assert output.set
    files = harness_files(machine, [ModelBinding("kws01", 1, 1)], "mlperf-tiny-energy")
    assert f"TH_PIN_LOW {pin.low.address:#010x}u, {pin.low.value:#x}u" in files["th_config.h"]


def test_a_board_without_a_pin_has_no_energy_mode() -> None:
    with pytest.raises(CompileError, match="mps2-an386 has no pin for timestamps"):
        with_uart(load_board(BOARD), "mlperf-tiny-energy")


def test_images_are_bytes(tmp_path: Path) -> None:
    """ic01 and vww01 get their pixels as unsigned bytes."""
    project = _compile(tmp_path, "digits_dscnn", "vww01")
    samples = _samples(project)
    with _running(project) as runner:
        runner.load((samples[0].view(np.uint8) ^ 0x80).tobytes())
        got = runner.infer(1, 0)[0]
    np.testing.assert_allclose(got, _expected(project, samples)[0], atol=0.0005001)


def test_anomalies_are_squared_errors(tmp_path: Path) -> None:
    """ad01 gets float32 features; its result is the mean squared error of their copy."""
    project = _compile(tmp_path, "digits_autoencoder", "ad01")
    with np.load(paths.GRAPHS / "digits_autoencoder" / "samples.npz") as archive:
        x = archive["x"][:COUNT].astype(np.float32)
    copies = _expected(project, device_samples(tinsmith.load(project).graph, x)[0])
    with _running(project) as runner:
        for features, copy in zip(x, copies, strict=True):
            runner.load(features.astype("<f4").tobytes())
            (error,) = runner.infer(1, 0)[0]
            assert error == pytest.approx(((copy - features.reshape(-1)) ** 2).mean(), abs=0.0006)


ERRORS = {
    "nonsense": "Unknown command: nonsense",
    "": "Unknown command: ",
    "db": "requires a subcommand",
    "db load": "requires the # of bytes",
    "db load 0": "must be >0",
    "db load -4": "must be >0",
    "db load 99999999999999": "must be >0",
    "db load 100000": "exceeds maximum of 256",
    "infer 0": "iterations must be >0",
    "infer x": "iterations must be >0",
    "infer 1 -1": "warmup must be >=0",
    "infer 1 0": "0 bytes are loaded, the model takes 256",
    "n" * 200: "Unknown command: nnnn",
}


def test_errors_are_said_and_do_no_harm(kws: Path) -> None:
    sample = _samples(kws)[0]
    with _running(kws) as runner:
        for asked, text in ERRORS.items():
            with pytest.raises(RunnerError, match=text):
                runner.ask(asked)
        runner.ask("db load 256")
        for wrong in ("db 123", "db 12zz", "db xx"):
            with pytest.raises(RunnerError, match="hex digit"):
                runner.ask(wrong)
        with pytest.raises(RunnerError, match="1 bytes are loaded"):
            runner.ask("infer 1 0")
        runner.load(sample.tobytes())
        assert runner.ask("db " + "00" * 30) == []  # past the end: not taken
        assert runner.buffer() == sample.tobytes()
        got = runner.infer(1, 0)[0]
        np.testing.assert_allclose(got, _expected(kws, sample[None])[0], atol=0.0005001)


def test_over_a_port_at_115200_baud(kws: Path) -> None:
    sample = _samples(kws)[0]
    argv = command(kws / "build/firmware.elf", load_board(BOARD))
    with proxy(argv, baud=115_200) as line:
        port = SerialPort(line.url, 115_200)
        runner = Runner(port)
        while port.read(0.5):  # what it said when it started
            pass
        runner.ask("name")
        runner.load(sample.tobytes())
        got = runner.infer(1, 0)[0]
        port.close()
    np.testing.assert_allclose(got, _expected(kws, sample[None])[0], atol=0.0005001)


def test_it_is_no_firmware_for_run(kws: Path) -> None:
    with pytest.raises(CompileError, match="MLPerf Tiny runner alone"):
        tinsmith.verify(kws)


def test_a_model_that_learns_is_refused(tmp_path: Path) -> None:
    scheme = Scheme(update=(Update(last=1, weights=1.0),))
    with pytest.raises(CompileError, match="one input and one output that does not"):
        _compile(tmp_path, "digits_dscnn", "kws01", train=scheme)


def test_the_command(tmp_path: Path) -> None:
    model = paths.GRAPHS / "digits_dscnn"
    argv = ["compile", str(model / "model.onnx"), "--board", BOARD, "-o", str(tmp_path)]
    argv += ["--calibrate", str(model / "calibration.npz"), "--name", "ic01"]
    done = CliRunner().invoke(app, [*argv, "--harness", "mlperf-tiny", "--baud", "921600"])
    assert done.exit_code == 0, done.output
    assert "TS_UART_BAUD 921600u" in (tmp_path / "harness" / "ts_board.h").read_text()
    assert "TH_INPUT_UINT8" in (tmp_path / "harness" / "th_config.h").read_text()
