"""Which compilers and emulators are installed, and how to get the others.

What is needed comes from the targets and boards themselves, so a new one needs no change here.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from ..machine.board import board_names, load_board
from ..machine.target import Target, load_target, target_names

# Python packages that only some uses need, and the extra that brings each.
EXTRAS = {
    "onnxruntime": "dev",
    "torch": "train",
    "apache-tvm": "tvm",
    "nvidia-cuda-nvcc": "cuda",
    "ortools": "plan",
    "ai-edge-litert": "peers",
    "executorch": "peers",
}


@dataclass(frozen=True)
class Tool:
    """A program that something needs.

    problem: why it cannot be used; empty when it can. packages: of Debian and Ubuntu.
    """

    name: str
    path: str
    version: str
    needed_by: tuple[str, ...]
    packages: tuple[str, ...]
    problem: str


@dataclass(frozen=True)
class Diagnosis:
    """What `tinsmith doctor` found. extras: optional Python packages, with versions or ""."""

    tools: tuple[Tool, ...]
    python: str
    extras: dict[str, str]

    @property
    def missing(self) -> tuple[Tool, ...]:
        return tuple(t for t in self.tools if t.problem)

    @property
    def install(self) -> str:
        """The command that installs what is missing; empty when nothing is."""
        packages = dict.fromkeys(p for tool in self.missing for p in tool.packages)
        return f"sudo apt-get install {' '.join(packages)}" if packages else ""


def diagnose() -> Diagnosis:
    """Look for every compiler of a target and every emulator of a board."""
    targets: dict[str, list[Target]] = {}
    for name in target_names():
        target = load_target(name)
        targets.setdefault(target.cc, []).append(target)
    tools = [_compiler(cc, users) for cc, users in targets.items()]
    boards: dict[str, list[str]] = {}
    packages: dict[str, tuple[str, ...]] = {}
    for name in board_names():
        board = load_board(name)
        if board.emulator:
            boards.setdefault(board.emulator[0], []).append(name)
            packages[board.emulator[0]] = board.debian_packages
    tools += [_emulator(program, users, packages[program]) for program, users in boards.items()]
    python = f"{platform.python_version()} ({sys.executable})"
    return Diagnosis(tuple(tools), python, {p: _package_version(p) for p in EXTRAS})


def _compiler(cc: str, users: Sequence[Target]) -> Tool:
    """A C compiler, with the C library that each target's flags ask for."""
    path = shutil.which(cc) or ""
    problem = "" if path else "not installed"
    for target in users if path else ():
        flags = [*target.cflags, *target.ldflags]
        probe = [path, *flags, "-E", "-x", "c", "-o", "-", "-"]
        source = "#include <string.h>\n#include <stdint.h>\n"
        done = subprocess.run(probe, input=source, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            problem = f"no C library for {target.name}"
            break
    packages = dict.fromkeys(p for t in users for p in t.debian_packages)
    names = tuple(t.name for t in users)
    return Tool(cc, path, _program_version(path), names, tuple(packages), problem)


def _emulator(program: str, boards: Sequence[str], packages: tuple[str, ...]) -> Tool:
    path = shutil.which(program) or ""
    problem = "" if path else "not installed"
    return Tool(program, path, _program_version(path), tuple(boards), packages, problem)


def _program_version(path: str) -> str:
    """The first line of `--version`, from its last bracket on."""
    if not path:
        return ""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    first = done.stdout.splitlines()[0] if done.stdout else ""
    numbers = [w.strip("(),") for w in first.split() if w.strip("(),")[:1].isdigit()]
    return numbers[0] if numbers else first


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
