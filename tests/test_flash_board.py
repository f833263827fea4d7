"""`tinsmith flash`: what is written, with which words, and what failures of the tools mean."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import tinsmith
from tinsmith import cli
from tinsmith.errors import CompileError, MissingTool, NotAuthentic
from tinsmith.lab.flash import at_debugger, plan_writing, remote_commands, write
from tinsmith.lab.flash_tools import FlashFailed, NoProbe, ProbeName, flash_command
from tinsmith.lab.place import Debugger
from tinsmith.machine.board import BoardFile, Flash, board_names, load_board
from tinsmith.paths import GRAPHS
from tinsmith.trust.manifest import NONSECURE_IMAGE, SECURE_IMAGE

MODEL = GRAPHS / "digits_autoencoder" / "model.onnx"
SAMPLES = GRAPHS / "digits_autoencoder" / "calibration.npz"
PHYSICAL = [name for name in board_names() if load_board(name).flash is not None]


@pytest.fixture(scope="module")
def l4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("l4")
    tinsmith.compile(MODEL, board="nucleo-l4r5zi", calibrate=SAMPLES, out=folder)
    return folder


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`stand_in(name, text, status)`: a program on PATH that records its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    record = tmp_path / "calls"

    def make(name: str, text: str = "", status: int = 0) -> Path:
        program = folder / name
        program.write_text(
            f'#!{sys.executable}\nimport json, sys\nopen({str(record)!r}, "a").write('
            f'json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")\n'
            f"print({text!r}, file=sys.stderr)\nsys.exit({status})\n"
        )
        program.chmod(0o755)
        return record

    return make


def calls(record: Path) -> list[list[str]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def test_every_physical_board_can_be_written_to() -> None:
    twins = [name for name in board_names() if load_board(name).twin]
    assert sorted(twins) == sorted(PHYSICAL)
    for name in PHYSICAL:
        flash = load_board(name).flash
        assert flash is not None
        assert flash.pyocd
        assert flash.openocd


@pytest.mark.parametrize("board", PHYSICAL)
@pytest.mark.parametrize("tool", ["pyocd", "openocd"])
def test_command(board: str, tool, golden) -> None:
    flash = load_board(board).flash
    words = flash_command(tool, flash, ["a b.elf"], ProbeName("066C"))
    assert "066C" in " ".join(words)
    golden(f"flash_board/{board}-{tool}.txt", "\n".join(words) + "\n")


def test_resets() -> None:
    base = Flash(tool="pyocd", pyocd="chip", openocd=["x.cfg"])
    stays, line = (msgspec.structs.replace(base, reset=r) for r in ("none", "hardware"))
    nobody = ProbeName()
    assert "--no-reset" in flash_command("pyocd", stays, ["a"], nobody)
    assert "load.post_reset=hardware" in flash_command("pyocd", line, ["a"], nobody)
    assert "reset run" not in flash_command("openocd", stays, ["a"], nobody)
    assert "reset_config srst_only" in flash_command("openocd", line, ["a"], nobody)
    with pytest.raises(CompileError, match="what openocd needs"):
        flash_command("openocd", Flash(tool="pyocd", pyocd="chip"), ["a"], nobody)


def test_the_boards_own_elf_is_written(l4: Path, stand_in) -> None:
    record = stand_in("openocd")
    answer = CliRunner().invoke(cli.app, ["flash", str(l4), "--json"])
    assert answer.exit_code == 0, answer.output
    data = json.loads(answer.stdout)
    elf = str((l4 / "build" / "firmware.elf").resolve())
    assert data["images"] == [elf]
    assert data["written"]
    assert data["tool"] == "openocd"
    [words] = calls(record)
    assert words[:3] == ["openocd", "-f", "board/st_nucleo_l4.cfg"]
    assert f"program {{{elf}}} verify" in words
    assert (l4 / "build" / "twin.elf").is_file()  # which is not what is written


def test_dry_run_calls_nothing(l4: Path, stand_in) -> None:
    record = stand_in("pyocd")
    answer = CliRunner().invoke(
        cli.app, ["flash", str(l4), "--tool", "pyocd", "--probe", "07", "--dry-run"]
    )
    assert answer.exit_code == 0
    assert not record.exists()
    assert "pyocd load" in answer.stdout
    assert "--probe 07" in answer.stdout


@pytest.mark.parametrize(
    ("tool", "said", "kind", "words"),
    [
        ("openocd", "Error: open failed", NoProbe, "finds no debug probe"),
        ("pyocd", "No connected debug probe matches unique ID '9'", NoProbe, "no debug probe 9"),
        ("pyocd", "Target type stm32l4r5zitx not recognized. Use", MissingTool, "pack install"),
        ("openocd", "Warn : UNEXPECTED idcode: 0x2ba01477", FlashFailed, "is no nucleo-l4r5zi"),
        ("openocd", "LIBUSB_ERROR_BUSY", FlashFailed, "is in use"),
        ("openocd", "** Verify Failed **", FlashFailed, "Verify Failed"),
    ],
)
def test_failures(l4: Path, stand_in, tool, said: str, kind, words: str) -> None:
    stand_in(tool, said, 1)
    with pytest.raises(kind) as error:
        write(plan_writing(l4, tool=tool, probe="9"))
    assert words in str(error.value)
    assert said.split(maxsplit=1)[0] in str(error.value)


def test_missing_tools(l4: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for tool, words in (("pyocd", r"tinsmith\[lab\]"), ("openocd", "apt-get install openocd")):
        with pytest.raises(MissingTool, match=words):
            write(plan_writing(l4, tool=tool))


def test_refused(l4: Path, tmp_path: Path) -> None:
    tinsmith.compile(MODEL, board="mps2-an386", calibrate=SAMPLES, out=tmp_path / "m4")
    with pytest.raises(CompileError, match="QEMU runs it"):
        plan_writing(tmp_path / "m4")
    with pytest.raises(CompileError, match=r"trace/firmware\.elf does not exist"):
        plan_writing(l4, trace=True)
    answer = CliRunner().invoke(cli.app, ["flash", str(l4), "--tool", "dd"])
    assert answer.exit_code == 2
    assert "pyocd, openocd" in answer.stderr
    answer = CliRunner().invoke(cli.app, ["flash", str(l4), "--coordinator", "x:1"])
    assert answer.exit_code == 2
    assert "--labgrid" in answer.stderr


def test_unknown_keys_are_refused() -> None:
    text = 'name = "b"\ndescription = ""\n[flash]\ntool = "pyocd"\npyocd = "x"\nbauds = 1\n'
    with pytest.raises(msgspec.ValidationError, match="bauds"):
        msgspec.toml.decode(text, type=BoardFile)


def test_protected_images_in_order(tmp_path: Path, stand_in) -> None:
    folder = tmp_path / "pair"
    tinsmith.compile(
        MODEL, board="nucleo-u575zi", calibrate=SAMPLES, out=folder,
        trust=tinsmith.trust.project.Protection("withhold"),
    )  # fmt: skip
    record = stand_in("pyocd")
    write(plan_writing(folder))
    [words] = calls(record)
    pair = [str((folder / name).resolve()) for name in (SECURE_IMAGE, NONSECURE_IMAGE)]
    assert words[-2:] == pair
    one, two = (w for w in plan_writing(folder, tool="openocd").command() if "program" in w)
    assert pair[0] in one
    assert pair[1] in two
    shutil.copy(folder / NONSECURE_IMAGE, folder / SECURE_IMAGE)
    with pytest.raises(NotAuthentic, match="not the image of the manifest"):
        plan_writing(folder)


def test_through_a_probe_elsewhere(l4: Path, stand_in) -> None:
    """Copied there with scp; the tool runs under ssh, and its folder is taken away."""
    for name in ("ssh", "scp"):
        record = stand_in(name)
    plan = at_debugger(plan_writing(l4), Debugger("bench-7", "1-4.2"))
    write(plan)
    make, copy, run = calls(record)
    assert make[:4] == ["ssh", "-o", "BatchMode=yes", "bench-7"]
    assert "mkdir" in make[-1]
    assert copy[0] == "scp"
    assert copy[-1].startswith("bench-7:/tmp/tinsmith-")
    assert copy[-1].removeprefix("bench-7:") in run[-1]
    assert "adapter usb location 1-4.2" in run[-1]
    assert "rm -rf /tmp/tinsmith-" in run[-1]
    assert remote_commands(plan)[-1][1:] == run[1:]
    shown = subprocess.run(["sh", "-n", "-c", run[-1]], check=False)
    assert shown.returncode == 0
    stand_in("ssh", "sh: openocd: not found", 127)
    with pytest.raises(FlashFailed, match="could not be copied"):
        write(plan)


def test_pyocd_itself(l4: Path) -> None:
    """The words are ones that it takes: without a probe it gets as far as looking for one."""
    pytest.importorskip("pyocd", reason="needs the extra lab")
    with pytest.raises(NoProbe, match="finds no debug probe 1234567"):
        write(plan_writing(l4, tool="pyocd", probe="1234567"))


def test_pyocd_knows_the_targets() -> None:
    """Built in, or of a pack whose index is on this machine."""
    pytest.importorskip("pyocd", reason="needs the extra lab")
    from pyocd.target import TARGET
    from pyocd.target.pack.pack_target import ManagedPacks

    known = {name.lower() for name in TARGET} | {
        t.part_number.lower() for t in ManagedPacks.get_installed_targets()
    }
    wanted = {load_board(name).flash.pyocd for name in PHYSICAL}
    if not wanted <= known:
        pytest.skip(f"pyocd needs packs for {', '.join(sorted(wanted - known))}")
    assert wanted <= known
