"""Registers of an STM32 as its set-up and its UART's driver see them: a machine of words and rules.

The C of a firmware is compiled for this machine with a `ts_io.h` whose accesses come here. What a
register means is written down from the reference manuals, apart from `board.toml`.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tinsmith.machine.board import Board
from tinsmith.toolchain.harness import OWN, ModelBinding, harness_files

_READ = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)
_WRITE = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32)
_IO = """#pragma once
#include <stdint.h>
extern uint32_t (*reader)(uint32_t);
extern void (*writer)(uint32_t, uint32_t);
static inline uint32_t ts_io_read(uint32_t address) { return reader(address); }
static inline void ts_io_write(uint32_t address, uint32_t value) { writer(address, value); }
static inline void ts_io_barrier(void) {}
"""
_REST = """#include <stdint.h>
#include <stdlib.h>
uint32_t (*reader)(uint32_t);
void (*writer)(uint32_t, uint32_t);
_Noreturn void ts_reset(void) { abort(); }
"""
FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")


@dataclass
class Late:
    """Bits that appear in a word once it has been read so often."""

    where: int
    bits: int
    reads: int


@dataclass
class Machine:
    """words: by address. ready: a write that sets the first bits makes the second appear, in
    (address, bits): (address, bits). clocked: the block at an address (1 KB) answers only when
    these bits are set at that address. at_write: called before a write to an address, with the new
    value. lag: how often a word is read before what is ready appears in it. log: every write."""

    words: dict[int, int] = field(default_factory=dict)
    ready: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    clocked: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    at_write: Mapping[int, Callable[[int], None]] = field(default_factory=dict)
    lag: int = 0
    pending: list[Late] = field(default_factory=list)
    log: list[tuple[int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(self, address: int) -> int:
        self._clock(address)
        for late in [late for late in self.pending if late.where == address]:
            late.reads -= 1
            if not late.reads:
                self._appear(late.where, late.bits)
                self.pending.remove(late)
        return self.words.get(address, 0)

    def write(self, address: int, value: int) -> None:
        self._clock(address)
        if address in self.at_write:
            self.at_write[address](value)
        self.log.append((address, value))
        before = self.words.get(address, 0)
        self.words[address] = value
        for (at, bits), (where, appear) in self.ready.items():
            if at == address and value & bits == bits and before & bits != bits:
                if self.lag:
                    self.pending.append(Late(where, appear, self.lag))
                else:
                    self._appear(where, appear)

    def _appear(self, where: int, bits: int) -> None:
        self.words[where] = self.words.get(where, 0) | bits

    def field(self, address: int, low: int, width: int) -> int:
        return self.words.get(address, 0) >> low & ((1 << width) - 1)

    def expect(self, true: bool, problem: str) -> None:
        """Raised after the C has returned: an exception cannot pass through it."""
        if not true:
            self.problems.append(problem)

    def _clock(self, address: int) -> None:
        gate = self.clocked.get(address & ~0x3FF)
        if gate is not None:
            on = self.words.get(gate[0], 0) & gate[1] == gate[1]
            self.expect(on, f"{address:#010x} is used before it has a clock")


class Firmware:
    """setup.c and the driver of a board's own firmware, on a machine."""

    def __init__(self, folder: Path, board: Board, machine: Machine) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        files = harness_files(board, [ModelBinding("m", 1, 1)], "serial")
        assert board.serial is not None
        driver = f"uart_{board.serial.driver}.c"
        names = {"setup.c": f"{OWN}/setup.c", driver: f"{OWN}/{driver}"}
        names |= {name: name for name in ("ts_board.h", "ts_serial.h")}
        for name, source in names.items():
            (folder / name).write_text(files[source])
        (folder / "ts_io.h").write_text(_IO)
        (folder / "rest.c").write_text(_REST)
        sources = [str(p) for p in sorted(folder.glob("*.c"))]
        library = folder / "firmware.so"
        done = subprocess.run(
            ["gcc", *FLAGS, "-shared", "-fPIC", f"-I{folder}", *sources, "-o", library],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.machine = machine
        self._c = ctypes.CDLL(str(library))
        self._hooks = (_READ(machine.read), _WRITE(machine.write))  # kept as long as the library
        for name, hook in zip(("reader", "writer"), self._hooks, strict=True):
            ctypes.c_void_p.in_dll(self._c, name).value = ctypes.cast(hook, ctypes.c_void_p).value

    def set_up(self) -> None:
        self._checked(self._c.ts_setup)

    def open(self) -> None:
        self._checked(self._c.ts_serial_open)

    def read(self) -> int:
        return int(self._checked(self._c.ts_serial_read))

    def send(self, byte: int) -> None:
        self._checked(self._c.ts_serial_write, byte)

    def _checked(self, function: Callable[..., int], *args: int) -> int:
        result = function(*args)
        assert not self.machine.problems, self.machine.problems
        return result
