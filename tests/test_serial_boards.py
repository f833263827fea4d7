"""Projects on emulated boards over their UART: run, verify, train, profile; every fault on the way.

Long: what happens on a line, for every command, on shared builds.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.codegen.project import write_project
from tinsmith.codegen.report import make_report, write_report
from tinsmith.errors import CompileError
from tinsmith.machine.board import board_names, load_board
from tinsmith.runner.compare import find_first_difference, seeded_samples, verify
from tinsmith.runner.project import open_project
from tinsmith.runner.run import run, run_project
from tinsmith.runner.store import DeviceStore
from tinsmith.runner.training import open_training, train_project
from tinsmith.serial_link.identity import identity_of
from tinsmith.serial_link.line import NoAnswer
from tinsmith.serial_link.link import WrongFirmware
from tinsmith.serial_link.port import using_port
from tinsmith.toolchain.compile_c import build
from tinsmith.toolchain.firmware import build_firmware
from tinsmith.train.scheme import Scheme, Update
from tinsmith.train.simulate import Trainer

from .host_c import program
from .int8_nets import residual_net
from .serial_proxy import Faults, emulator, proxy

BOARD = "mps2-an386"
# Twins, which run in place of physical boards, are emulated boards.
WITH_UART = [b for b in board_names() if load_board(b).serial and not load_board(b).twin]
BAD = Faults(corrupted=0.01)


def _build(folder: Path, board_name: str, name: str = "residual") -> Path:
    board = load_board(board_name)
    planned = program(residual_net(name), board.target)
    write_project(folder, planned)
    write_report(folder, make_report(planned, board))
    build_firmware(folder, planned.graph, board, harness="serial")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("serial"), BOARD)


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = paths.GRAPHS / "digits_dscnn"
    folder = tmp_path_factory.mktemp("learning")
    tinsmith.compile(
        model / "model.onnx",
        board=BOARD,
        out=folder,
        calibrate=model / "calibration.npz",
        train=Scheme(update=(Update(last=1, weights=1.0, bias=True),)),
        harness="serial",
        pictures=False,
    )
    return folder


@pytest.mark.parametrize("board", WITH_UART)
def test_every_uart(board: str, tmp_path: Path) -> None:
    """Two sessions: the second finds the firmware started again."""
    folder = _build(tmp_path, board)
    with proxy(emulator(folder, board)) as line, using_port(line.url) as port:
        assert verify(folder).ok
        assert verify(folder).ok
        assert line.boots == 1
    assert port is not None
    assert port.statistics.traffic.damaged == 0


@pytest.mark.parametrize("baud", [115_200, 921_600])
def test_verified_on_a_bad_line(project: Path, baud: int) -> None:
    """1 % of bytes corrupted, both ways: every result is right."""
    with (
        proxy(emulator(project, BOARD), baud=baud, faults=BAD, seed=baud) as line,
        using_port(line.url, baud) as port,
    ):
        assert verify(project).ok
    assert port is not None
    assert port.statistics.traffic.damaged > 0


@pytest.mark.parametrize(
    "faults",
    [Faults(dropped=0.005), Faults(duplicated=0.005), Faults(truncated=0.002)],
    ids=["dropped", "duplicated", "truncated"],
)
def test_other_faults(project: Path, faults: Faults) -> None:
    with proxy(emulator(project, BOARD), faults=faults) as line, using_port(line.url):
        assert verify(project).ok


def test_resets_and_pulled_cables_cost_no_result(project: Path) -> None:
    """A board that starts again goes on with the sample it was at; a cable, where it was."""
    samples = seeded_samples(open_project(project).graph)
    want = run_project(open_project(project), samples)
    with (
        proxy(emulator(project, BOARD), resets=[150, 420], hang_ups=[80, 300]) as line,
        using_port(line.url) as port,
    ):
        got = run_project(open_project(project), samples)
    np.testing.assert_array_equal(got.device_outputs[0], want.device_outputs[0])
    assert port is not None
    assert (line.boots, port.statistics.resets, port.statistics.sessions) == (3, 2, 3)
    np.testing.assert_array_equal(got.instructions, want.instructions)


def test_a_board_that_always_resets_is_an_error(project: Path) -> None:
    with (
        proxy(emulator(project, BOARD), resets=list(range(60, 6000, 60))) as line,
        using_port(line.url),
        pytest.raises(NoAnswer, match="was reset 6 times in a row"),
    ):
        verify(project)


def test_the_firmware_of_another_project_is_refused(project: Path, tmp_path: Path) -> None:
    other = _build(tmp_path, BOARD, "other")
    with (
        proxy(emulator(other, BOARD)) as line,
        using_port(line.url),
        pytest.raises(WrongFirmware, match=r"another firmware: 'other on mps2-an386'"),
    ):
        verify(project)


def test_any_change_of_the_code_is_another_firmware(project: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(project, changed)
    source = changed / "residual_weights.c"
    first, _, rest = source.read_text().partition("{")
    source.write_text(first + "{" + rest.replace("1", "2", 1))
    before = identity_of(project / "build/firmware.elf")
    assert before is not None
    assert len(before) == 20
    with using_port("qemu"):
        assert not verify(changed).ok  # built again: the difference is found, with its node
    assert identity_of(changed / "build/firmware.elf") != before


def test_the_first_node_that_differs_is_found_over_the_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_project(project)
    inputs = [s[0] for s in seeded_samples(opened.graph)]
    assert find_first_difference(opened, inputs, 0) is None
    with proxy(emulator(project, BOARD)) as line, using_port(line.url):
        assert find_first_difference(opened, inputs, 0) is None  # not the trace firmware


def test_semihosting_firmware_has_no_port(tmp_path: Path) -> None:
    board = load_board("host")
    planned = program(residual_net(), board.target)
    write_project(tmp_path, planned)
    write_report(tmp_path, make_report(planned, board))
    build_firmware(tmp_path, planned.graph, board)
    with using_port("qemu"), pytest.raises(CompileError, match="does not speak over a serial port"):
        run(tmp_path, seeded_samples(planned.graph)[0])


def _steps(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    with np.load(paths.GRAPHS / "digits_dscnn" / "samples.npz") as archive:
        x, y = 1 - archive["x"][:count], archive["label"][:count]
    return x, y


def test_a_training_run_is_the_simulators_bit_for_bit(learning: Path) -> None:
    """With corrupted bytes and a reset in the middle; what it commits comes back."""
    training = open_training(learning)
    x, labels = _steps(4)
    rows = tinsmith.runner.project.device_samples(training.project.graph, x)
    trainer = Trainer(training.graph)
    losses = [
        trainer.step(trainer.encode([rows[0][i]]), int(labels[i]), 0.01) for i in range(len(labels))
    ]
    with (
        proxy(emulator(learning, BOARD), baud=921_600, faults=BAD, resets=[1500]) as line,
        using_port(line.url, 921_600) as port,
    ):
        result = train_project(training, rows, labels, 0.01)
    store = DeviceStore(training)
    store.erase()
    with using_port("qemu"):
        assert store.commit(result.state).counter == 1
        state, counter = store.load()
        delta = store.export_delta(result.state)
    assert port is not None
    assert port.statistics.resets == 1
    assert counter == 1
    np.testing.assert_array_equal(result.losses, np.array(losses, np.float32))
    for value, array in trainer.state.items():
        np.testing.assert_array_equal(result.state[value], array)
        np.testing.assert_array_equal(state[value], array)
    assert len(delta) > 0


def test_a_commit_that_a_reset_interrupts_is_made_once(learning: Path) -> None:
    training = open_training(learning)
    store = DeviceStore(training)
    start = Trainer(training.graph).state
    store.erase()
    for resets in ([900], [4000]):
        with (
            proxy(emulator(learning, BOARD), resets=resets) as line,
            using_port(line.url),
        ):
            before = store.load()[1]
            assert store.commit(start).counter == before + 1


def _cli(*argv: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in argv])


def test_the_commands(learning: Path, tmp_path: Path) -> None:
    x, y = _steps(2)
    data, samples = tmp_path / "data.npz", tmp_path / "x.npz"
    np.savez(data, x=x, y=y, x_test=x, y_test=y)
    np.savez(samples, x=x)
    with proxy(emulator(learning, BOARD)) as line:
        at = ("--port", line.url, "--json")
        ran = _cli("run", learning, "--input", samples, *at)
        assert ran.exit_code == 0, ran.output
        found = json.loads(ran.stdout)
        assert found["samples"] == 2
        assert found["serial"]["payload_bytes"] > 0
        assert found["serial"]["damaged_frames"] == 0
        verified = json.loads(_cli("verify", learning, "--fresh", *at).stdout)
        assert verified["bit_exact"]
        trained = _cli("train", learning, "--data", data, "--epochs", 1, "--fresh", *at)
        assert trained.exit_code == 0, trained.output
        learnt = json.loads(trained.stdout)
        assert learnt["commits"] == 1
        assert len(learnt["losses"]) == 1  # of the epoch
        wrong = _cli("profile", learning, "--port", line.url)
        assert wrong.exit_code == 2
        assert "build/trace/firmware.elf" in wrong.output


def test_profile_counts_on_the_board(project: Path) -> None:
    done = _cli("profile", project, "--port", "qemu", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["unit"] == "instructions"
    total = sum(n["instructions"] for n in data["nodes"])
    measured = _cli("bench", project, "--port", "qemu", "--json")
    assert abs(total - json.loads(measured.stdout)["instructions_per_inference"]) < 2000


REFUSED = {
    "unknown": (BOARD, ("--harness", "telepathy"), "unknown harness"),
    "no uart": ("host", ("--harness", "serial"), "has no UART"),
    "baud": (BOARD, ("--baud", "9600"), "--baud is of a serial firmware"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_compile_refuses(case: str, tmp_path: Path) -> None:
    board, options, text = REFUSED[case]
    model = paths.GRAPHS / "digits_dscnn"
    argv: Sequence[object] = ("compile", model / "model.onnx", "--board", board, "-o", tmp_path)
    done = _cli(*argv, "--calibrate", model / "calibration.npz", *options)
    assert done.exit_code == 2
    assert text in done.output


def test_a_pseudo_terminal_is_a_port(project: Path) -> None:
    """As a USB adapter is: opened by its path, at a rate."""
    argv = emulator(project, BOARD)
    argv[argv.index("-serial") + 1] = "pty"
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        assert qemu.stdout is not None
        path = next(
            found[0] for line in qemu.stdout if (found := re.search(r"/dev/pts/\d+", str(line)))
        )
        try:
            with using_port(path, 115_200):
                assert verify(project).ok
        finally:
            qemu.kill()


def test_a_physical_board_counts_cycles(tmp_path: Path) -> None:
    """At a port that is not QEMU's; here its twin stands at the other end."""
    folder, board = _build(tmp_path, "nucleo-l4r5zi"), "nucleo-l4r5zi"
    with proxy(emulator(folder, board, "build/twin.elf")) as line:
        measured = _cli("bench", folder, "--port", line.url, "--json")
        assert measured.exit_code == 0, measured.output
    data = json.loads(measured.stdout)
    assert data["instructions_per_inference"] is None
    here = json.loads(_cli("bench", folder, "--port", "qemu", "--json").stdout)
    assert here["cycles_per_inference"] is None
    ticks = load_board("mps2-an386").counter.ticks / load_board("mps2-an386").counter.instructions
    expected = here["instructions_per_inference"] * ticks
    assert data["cycles_per_inference"] == pytest.approx(expected, rel=0.01)
    build(folder, load_board(board), trace=True)
    with proxy(emulator(folder, board, "build/trace/twin.elf")) as line:
        profiled = _cli("profile", folder, "--port", line.url, "--json")
        assert profiled.exit_code == 0, profiled.output
    found = json.loads(profiled.stdout)
    assert found["unit"] == "cycles"
    assert all(n["instructions"] is n["estimated_cycles"] is None for n in found["nodes"])
    total = sum(n["cycles"] for n in found["nodes"])
    assert total == pytest.approx(data["cycles_per_inference"], rel=0.25)
