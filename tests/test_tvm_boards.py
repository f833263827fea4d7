"""Boards with kernels from TVM: which target is taken, what does not run here, Android."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinsmith.errors import CompileError, MissingTool
from tinsmith.machine import cpu
from tinsmith.machine.board import load_board
from tinsmith.machine.target import load_target
from tinsmith.runner.bench import bench, profile
from tinsmith.runner.execute import command
from tinsmith.runner.latency import THREADS_VARIABLE, using_threads
from tinsmith.runner.project import open_project
from tinsmith.toolchain.compile_c import firmware
from tinsmith.toolchain.compilers import NDK_VARIABLE

from .own_models import compile_own
from .tvm_projects import compile_for, require

X86 = ("x86_64-avx512-vnni", "x86_64-avx-vnni", "x86_64-avx2")
AARCH64 = ("aarch64-dotprod", "aarch64")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretends to be a machine: its architecture and the flags of its processor."""

    def pretend(architecture: str, flags: set[str]) -> None:
        monkeypatch.setattr(cpu.platform, "machine", lambda: architecture)
        monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset(flags))
        load_board.cache_clear()

    yield pretend
    monkeypatch.undo()
    load_board.cache_clear()


def _needs(target: str) -> set[str]:
    isa = load_target(target).tvm
    assert isa is not None
    return set(isa.cpu_flags)


@pytest.mark.parametrize("target", X86)
def test_the_best_target_that_the_processor_has(target: str, machine) -> None:
    machine("x86_64", _needs(target))
    board = load_board("linux-x86_64")
    assert board.target.name == target
    assert board.is_native
    assert not load_board("linux-aarch64").is_native


def test_a_foreign_board_is_for_its_first_target(machine) -> None:
    machine("x86_64", _needs(X86[0]))
    board = load_board("linux-aarch64")
    assert board.target.name == AARCH64[0]
    assert board.emulator == ("qemu-aarch64-static", "-cpu", "cortex-a76", "{elf}")
    assert load_board("linux-aarch64", "aarch64").emulator[2] == "cortex-a53"


def test_an_arm_machine_runs_its_own_programs(machine, tmp_path: Path) -> None:
    machine("aarch64", _needs("aarch64"))
    board = load_board("linux-aarch64")
    assert board.target.name == "aarch64"
    assert command(tmp_path / "x.elf", board) == [str(tmp_path / "x.elf")]
    with pytest.raises(CompileError, match="no machine like this one"):
        command(tmp_path / "x.elf", load_board("linux-x86_64"))


def test_an_old_processor_has_no_target_but_may_compile(machine, tmp_path: Path) -> None:
    machine("x86_64", {"sse2"})
    board = load_board("linux-x86_64")
    assert board.target.name == X86[0]
    with pytest.raises(CompileError, match="has no avx512f") as error:
        command(tmp_path / "x.elf", board)
    assert "--cpu" in str(error.value.hint)


def test_a_target_that_the_board_does_not_have() -> None:
    with pytest.raises(CompileError) as error:
        load_board("linux-x86_64", "aarch64")
    assert error.value.expected == f"one of {', '.join(X86)}"


def test_the_flags_of_this_machine_are_read() -> None:
    flags = cpu.cpu_flags()
    assert ("sse2" in flags) or ("asimd" in flags)


def test_a_project_keeps_its_target(tmp_path: Path) -> None:
    pytest.importorskip("tvm", reason="needs the tvm extra")
    require("aarch64")
    compile_for("ad", "aarch64", tmp_path)
    project = open_project(tmp_path)
    assert project.board.target.name == "aarch64"
    assert project.board.target.elf == "host"
    if not project.board.is_native:
        assert bench(tmp_path).latency_us is None
        with pytest.raises(CompileError, match="times are not measured"):
            profile(tmp_path)


def test_threads_are_of_what_is_started_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    with using_threads(2):
        assert os.environ[THREADS_VARIABLE] == "2"
        with using_threads(None):
            assert os.environ[THREADS_VARIABLE] == "2"
    assert THREADS_VARIABLE not in os.environ
    with pytest.raises(CompileError, match="0 threads"), using_threads(0):
        pass


def _android(folder: Path) -> None:
    compile_own("digits_autoencoder", folder, "android-arm64")


def test_android_without_the_ndk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tvm", reason="needs the tvm extra")
    monkeypatch.delenv(NDK_VARIABLE, raising=False)
    with pytest.raises(MissingTool, match=NDK_VARIABLE) as error:
        _android(tmp_path)
    assert "CMAKE_TOOLCHAIN_FILE=android-arm64.cmake" in str(error.value.hint)
    toolchain = (tmp_path / "android-arm64.cmake").read_text()
    assert "android.toolchain.cmake" in toolchain
    assert "arm64-v8a" in toolchain
    assert (tmp_path / "build" / "obj" / "model.o").is_file()  # the C compiles
    code = (tmp_path / "model_kernels.o").read_bytes()
    assert code[:4] == b"\x7fELF"
    assert code[18] == 183  # EM_AARCH64


def test_android_with_an_ndk_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a script in the place of the NDK's compiler: the flags and objects are what gcc takes."""
    pytest.importorskip("tvm", reason="needs the tvm extra")
    require("aarch64-dotprod")
    tools = tmp_path / "ndk" / "toolchains" / "llvm" / "prebuilt" / "linux-x86_64" / "bin"
    tools.mkdir(parents=True)
    clang = tools / "aarch64-linux-android24-clang"
    clang.write_text('#!/bin/sh\nexec aarch64-linux-gnu-gcc "$@" -static\n')
    clang.chmod(0o755)
    monkeypatch.setenv(NDK_VARIABLE, str(tmp_path / "ndk"))
    _android(tmp_path / "p")
    assert firmware(tmp_path / "p").is_file()
    with pytest.raises(CompileError, match="has no emulator"):
        bench(tmp_path / "p")


def test_a_wrong_ndk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinsmith.toolchain.compilers import find_linker

    monkeypatch.setenv(NDK_VARIABLE, str(tmp_path))
    with pytest.raises(MissingTool, match="holds no compiler"):
        find_linker(load_board("android-arm64"))
