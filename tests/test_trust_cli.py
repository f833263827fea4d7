"""Protected projects through the command line: compile --trust, protect, run, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tinsmith
from tinsmith import cli, paths
from tinsmith.codegen.project import read_graph
from tinsmith.ir.graph import Stage
from tinsmith.ir.printer import graph_hash
from tinsmith.trust.keys import device_key, permutations_of
from tinsmith.trust.manifest import NONSECURE_IMAGE, read_manifest
from tinsmith.trust.partition import partition

SOURCE = paths.GRAPHS / "digits_dscnn"
MODEL, CALIBRATION = SOURCE / "model.onnx", SOURCE / "calibration.npz"


def call(*argv: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(cli.app, [str(a) for a in argv])
    assert result.exit_code == exit_code, f"{argv}\n{result.stdout}\n{result.stderr}"
    return result


def compile_(folder: Path, *options: object, board: str = "host", exit_code: int = 0) -> Result:
    argv = ("compile", MODEL, "--board", board, "--calibrate", CALIBRATION, "-o", folder)
    return call(*argv, *options, exit_code=exit_code)


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A development pair in `project`, root.key, vendor.pem, and the pair of one device."""
    folder = tmp_path_factory.mktemp("vendor")
    made = call(
        "protect", "--new-secret", folder / "root.key", "--new-signing-key", folder / "vendor.pem"
    )
    assert "whoever has it" in made.stdout
    compile_(folder / "project", "--trust", "withhold", "--quota", 100)
    protect(folder, "sensor-1", folder / "device", "--sign", folder / "vendor.pem")
    return folder


def protect(vendor: Path, device: str, out: Path, *options: object, exit_code: int = 0) -> Result:
    argv = ("protect", vendor / "project", "--secret", vendor / "root.key", "--device", device)
    return call(*argv, "-o", out, *options, exit_code=exit_code)


def test_compile_says_what_it_made(vendor: Path, tmp_path: Path) -> None:
    report = json.loads((vendor / "project" / "report.json").read_text())
    keys = {"secure_flash_bytes", "secure_ram_bytes", "gateway_calls"}
    assert all(report[key] > 0 for key in keys)
    assert report["trust"]["mode"] == "withhold"
    assert report["trust"]["device"] == "development"
    assert report["trust"]["quota"] == 100
    assert report["secure_instructions"] is None
    text = call("bench", vendor / "project").stdout
    assert "simulated, not protection" in text


def test_the_secret_of_a_development_pair_is_not_kept(vendor: Path, tmp_path: Path) -> None:
    """So a second one differs, and no command can make either again."""
    first = read_manifest(vendor / "project")
    compile_(tmp_path / "again", "--trust", "withhold", "--quota", 100)
    second = read_manifest(tmp_path / "again")
    assert first.model_hash == second.model_hash
    assert first.nonsecure_sha256 != second.nonsecure_sha256
    assert first.public_key != second.public_key


def test_a_device_has_the_options_of_its_project(vendor: Path) -> None:
    report = json.loads((vendor / "device" / "report.json").read_text())
    assert report["trust"]["device"] == "sensor-1"
    assert report["source"]["file"] == Path(MODEL).name
    assert (
        report["source"] == json.loads((vendor / "project" / "report.json").read_text())["source"]
    )
    assert report["trust"]["mode"] == "withhold"
    assert report["trust"]["quota"] == 100


def test_the_order_of_channels_comes_from_the_root_secret(vendor: Path) -> None:
    secret = (vendor / "root.key").read_bytes()
    graph = replace(read_graph(vendor / "project"), stage=Stage.QUANTIZED)
    purpose = permutations_of("withhold")
    key = device_key(secret, graph_hash(read_graph(vendor / "project")), "sensor-1", purpose)
    made = read_graph(vendor / "device" / "nonsecure").initializers
    for value, array in partition(graph, "withhold", key).nonsecure.initializers.items():
        assert np.array_equal(array, made[value])


def test_verify_and_run_know_the_signer(vendor: Path, tmp_path: Path) -> None:
    public, device = vendor / "vendor.pub.pem", vendor / "device"
    result = call("verify", device, "--verify-with", public, "--json")
    assert json.loads(result.stdout)["bit_exact"]
    assert "simulated, not protection" in result.stderr
    call("protect", "--new-signing-key", tmp_path / "other.pem")
    other = tmp_path / "other.pub.pem"
    np.savez(tmp_path / "x.npz", x=np.load(SOURCE / "samples.npz")["x"][:2])
    given = ("--verify-with", other)
    for argv in (
        ("verify", device),
        ("run", device, "--input", tmp_path / "x.npz"),
        ("bench", device),
    ):
        assert "signed by another key" in call(*argv, *given, exit_code=1).stderr


def test_a_changed_image_is_refused(vendor: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    shutil.copytree(vendor / "device", device)
    shutil.copy(vendor / "project" / NONSECURE_IMAGE, device / NONSECURE_IMAGE)
    for command in ("verify", "bench"):
        assert "is not the image of the manifest" in call(command, device, exit_code=1).stderr


def test_a_plain_compile_leaves_nothing_of_the_pair(vendor: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(vendor / "project", folder)
    compile_(folder)
    for gone in ("secure", "nonsecure", "manifest.json", "build/secure.elf"):
        assert not (folder / gone).exists()
    assert "bit-exact" in call("verify", folder).stdout


def test_an_unprotected_project_can_be_protected_later(vendor: Path, tmp_path: Path) -> None:
    compile_(tmp_path / "plain")
    secret = ("--secret", vendor / "root.key", "--device", "d")
    out = tmp_path / "out"
    call("protect", tmp_path / "plain", *secret, "--trust", "permute", "-o", out)
    assert read_manifest(out).mode == "permute"
    assert "bit-exact" in call("verify", out).stdout


@pytest.mark.parametrize(
    ("options", "board", "expected"),
    [
        (("--trust", "hide"), "host", "unknown mode 'hide'"),
        (("--trust", "withhold"), "mps2-an500", "no secure world"),
        (("--trust", "withhold", "--dtype", "float32"), "host", "float32 network cannot"),
        (("--trust", "coreguard-otp", "--train", SOURCE / "update.toml"), "host", "a pad cannot"),
        (("--trust", "withhold", "--trust-cut", "nowhere"), "host", "cannot be cut at 'nowhere'"),
        (("--quota", 3), "host", "--trust-cut and --quota are of a protected model"),
    ],
    ids=["mode", "board", "float32", "train", "cut", "quota"],
)
def test_what_cannot_be_protected(
    tmp_path: Path, options: tuple[object, ...], board: str, expected: str
) -> None:
    result = compile_(tmp_path / "out", *options, board=board, exit_code=2)
    assert expected in result.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), "protect needs DIR, --secret, --device, -o"),
        (("{project}", "--device", "d"), "protect needs --secret, -o"),
        (("{project}", "--secret", "{none}", "--device", "d", "-o", "{out}"), "cannot read"),
        (("{project}", "--secret", "{key}", "--device", "a b", "-o", "{out}"), "device id"),
        (("{project}", "--secret", "{key}", "--device", "d", "-o", "{project}"), "another folder"),
        (("{out}", "--secret", "{key}", "--device", "d", "-o", "{none}"), "not a compiled project"),
        (("--new-secret", "{key}"), "exists already"),
    ],
)
def test_protect_says_what_is_wrong(
    vendor: Path, tmp_path: Path, argv: tuple[str, ...], expected: str
) -> None:
    names = {"project": vendor / "project", "key": vendor / "root.key"}
    names |= {"out": tmp_path / "out", "none": tmp_path / "none"}
    result = call("protect", *(a.format(**names) for a in argv), exit_code=2)
    assert expected in result.stderr


def test_the_same_from_python(vendor: Path, tmp_path: Path) -> None:
    report = tinsmith.protect(
        str(vendor / "project"),
        str(tmp_path / "out"),
        secret=str(vendor / "root.key"),
        device="sensor-1",
        sign=vendor / "vendor.pem",
        pictures=False,
    )
    assert report.trust is not None
    assert report.trust.device == "sensor-1"
    assert read_manifest(tmp_path / "out") == read_manifest(vendor / "device")


def test_no_output_shows_a_secret(vendor: Path, tmp_path: Path) -> None:
    secret = (vendor / "root.key").read_bytes()
    result = protect(vendor, "sensor-1", tmp_path / "again", "--json")
    data = json.loads(result.stdout)
    assert data["trust"]["device"] == "sensor-1"
    for text in (result.stdout, result.stderr):
        assert secret.hex() not in text
    assert read_manifest(tmp_path / "again").secure_sha256 == (
        read_manifest(vendor / "device").secure_sha256
    )
