"""Protected projects over a serial port: the UART is the normal world's, the bits are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.codegen.report import read_report
from tinsmith.errors import Refused
from tinsmith.machine.board import load_board
from tinsmith.pass_manager import PassContext
from tinsmith.runner.compare import seeded_samples, verify
from tinsmith.runner.project import device_samples
from tinsmith.runner.run import run
from tinsmith.runner.training import open_training, train_project
from tinsmith.serial_link.identity import identity_of
from tinsmith.serial_link.link import WrongFirmware
from tinsmith.serial_link.port import using_port
from tinsmith.toolchain.harness import harness_of
from tinsmith.train.scheme import Scheme, Update
from tinsmith.train.simulate import Trainer
from tinsmith.trust.project import Device, Protection, protect_project, write_protected

from .serial_proxy import emulator, proxy
from .trust_projects import key_of, network

DIGITS = paths.GRAPHS / "digits_dscnn"


def _protected(
    folder: Path, board: str, harness: str, device: str = "d1", quota: int | None = None
) -> Path:
    whose = Device(device, key_of(device), Ed25519PrivateKey.from_private_bytes(bytes(32)))
    write_protected(
        folder, network(), load_board(board), Protection("permute", quota=quota), whose,
        PassContext(), pictures=False, harness=harness,
    )  # fmt: skip
    return folder


def _cli(*argv: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [str(a) for a in (*argv, "--json")])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _protected(tmp_path_factory.mktemp("serial"), "mps2-an505", "serial")


def test_verified_and_measured_as_without_a_port(serial: Path, tmp_path: Path) -> None:
    files = _protected(tmp_path, "mps2-an505", "semihosting")
    assert _cli("verify", serial, "--port", "qemu")["bit_exact"]
    found = _cli("bench", serial, "--port", "qemu")
    samples = seeded_samples(network())
    without = run(files, samples[0]).instructions_per_inference
    assert found["instructions_per_inference"] == pytest.approx(without, abs=100)  # code moved
    assert found["secure_flash_bytes"] == read_report(files).secure_flash_bytes
    assert 0 < found["secure_instructions"] < found["instructions_per_inference"]
    assert 0 < found["plain_instructions"] < found["instructions_per_inference"]


def test_the_other_board(tmp_path: Path) -> None:
    folder = _protected(tmp_path, "mps3-an547", "serial")
    assert _cli("verify", folder, "--port", "qemu")["bit_exact"]


def test_sessions_share_a_boot(tmp_path: Path) -> None:
    """A session starts the non-secure world again, and not the boot whose quota it is."""
    folder = _protected(tmp_path, "mps2-an505", "serial", quota=5)
    with proxy(emulator(folder, "mps2-an505")) as line, using_port(line.url):
        assert verify(folder).ok
        with pytest.raises(Refused, match="quota"):
            verify(folder)
        assert line.boots == 1


def test_another_secure_image_is_another_firmware(serial: Path, tmp_path: Path) -> None:
    """The non-secure images of two quotas differ in nothing but what they say of the secure one."""
    other = _protected(tmp_path, "mps2-an505", "serial", quota=100)
    elf = Path("build/firmware.elf")
    assert identity_of(serial / elf) != identity_of(other / elf)
    with (
        proxy(emulator(other, "mps2-an505")) as line,
        using_port(line.url),
        pytest.raises(WrongFirmware, match="secure"),
    ):
        verify(serial)


def test_protect_keeps_the_port_and_training_goes_over_it(tmp_path: Path) -> None:
    tinsmith.compile(
        DIGITS / "model.onnx", board="mps2-an505", out=tmp_path / "plain",
        calibrate=DIGITS / "calibration.npz", harness="serial", baud=921_600, pictures=False,
        train=Scheme(update=(Update(last=1, weights=1.0, bias=True),)),
    )  # fmt: skip
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(40)))
    folder = tmp_path / "device"
    protect_project(tmp_path / "plain", folder, secret=secret, device="d1", pictures=False)
    assert harness_of(folder / "nonsecure") == ("serial", 921_600)
    training = open_training(folder)
    with np.load(DIGITS / "samples.npz") as archive:
        rows = device_samples(training.project.graph, archive["x"][:2])
        labels = archive["label"][:2]
    trainer = Trainer(training.graph)
    losses = [
        trainer.step(trainer.encode([rows[0][i]]), int(label), 0.01)
        for i, label in enumerate(labels)
    ]
    with using_port("qemu", 921_600):
        result = train_project(training, rows, labels, 0.01)
    np.testing.assert_array_equal(result.losses, np.array(losses, np.float32))
    for value, array in trainer.state.items():
        np.testing.assert_array_equal(result.state[value], array)


def test_the_parts_are_not_measured_on_a_board(serial: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(serial, folder)  # which `bench` writes into
    with proxy(emulator(folder, "mps2-an505")) as line:
        assert _cli("bench", folder, "--port", line.url)["instructions_per_inference"]
        done = CliRunner().invoke(app, ["profile", str(folder), "--port", line.url])
    assert done.exit_code == 2
    assert "in the emulator alone" in done.output


def test_refused(tmp_path: Path) -> None:
    model = (DIGITS / "model.onnx", "--calibrate", DIGITS / "calibration.npz", "-o", tmp_path)
    for board, harness, text in (
        ("nucleo-u575zi", "serial", "UART of nucleo-u575zi is not the non-secure world's"),
        ("mps2-an505", "mlperf-tiny", "protected project has no MLPerf Tiny firmware"),
        ("mps2-an386", "serial", "board mps2-an386 has no secure world"),
    ):
        argv = ("compile", *model, "--board", board, "--trust", "permute", "--harness", harness)
        done = CliRunner().invoke(app, [str(a) for a in argv])
        assert done.exit_code == 2
        assert text in done.output
