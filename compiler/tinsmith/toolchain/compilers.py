"""The C compiler of a board: its target's, or for Android that of the NDK."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import MissingTool
from ..machine.board import Board
from .programs import find_program

NDK_VARIABLE = "ANDROID_NDK_HOME"
_ANDROID_API = 24  # Android 7: the first with all of C11's library that a 64-bit program needs


def find_compiler(board: Board) -> str:
    """Path of what compiles C for a board. Without the NDK, Android code is compiled by the
    target's own compiler, which checks it; `find_linker` then says what is missing. Raises
    MissingTool.
    """
    if board.toolchain == "android-ndk" and (ndk := _ndk_compiler()):
        return str(ndk)
    target = board.target
    return find_program(target.cc, target.debian_packages, f"target {target.name}")


def find_linker(board: Board) -> str:
    """Path of what links for a board. Raises MissingTool."""
    if board.toolchain != "android-ndk":
        return find_compiler(board)
    ndk = _ndk_compiler()
    if ndk is None:
        where = os.environ.get(NDK_VARIABLE)
        raise MissingTool(
            f"{NDK_VARIABLE} is not set; board {board.name} is linked by the Android NDK"
            if where is None
            else f"{NDK_VARIABLE}={where} holds no compiler for {board.name}",
            expected="an unpacked NDK, r23 or later",
            hint="the C sources are written and compile: build them elsewhere with "
            "cmake -DCMAKE_TOOLCHAIN_FILE=android-arm64.cmake",
        )
    return str(ndk)


def _ndk_compiler() -> Path | None:
    folder = os.environ.get(NDK_VARIABLE)
    if not folder:
        return None
    name = f"aarch64-linux-android{_ANDROID_API}-clang"
    return next(iter(sorted(Path(folder).glob(f"toolchains/llvm/prebuilt/*/bin/{name}"))), None)
