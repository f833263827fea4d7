"""Small pairs of images for tests: two secure graphs behind the gateway, a non-secure program."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tinsmith import paths
from tinsmith.codegen.project import write_project
from tinsmith.ir.graph import Graph
from tinsmith.machine.board import Board, load_board
from tinsmith.machine.trust_zone import TrustZone, load_trust_zone, non_secure_board
from tinsmith.runner.execute import command
from tinsmith.toolchain.compile_c import build
from tinsmith.toolchain.firmware import Firmware
from tinsmith.toolchain.harness import harness_files
from tinsmith.toolchain.secure_image import link_secure, seal_pair, write_secure_harness
from tinsmith.toolchain.sizes import measure_sizes
from tinsmith.toolchain.update_view import UpdateView

from .host_c import program
from .int8_nets import Int8Net

PROBE = Path(__file__).resolve().parent / "c" / "gateway_probe.c"
BOARDS = ("mps2-an505", "mps3-an547")
OK, REFUSED = 0, 8  # ts_status.h
ANSWERED = 0x5AC3961E  # of call 0, ts_gateway.h
GAVE_UP, WRONG_IMAGE = 15, 16  # exit statuses of a debug image
READ, WRITE, JUMP, CALL, DUMP, PUSH, INTERRUPT = range(7)
BYTES = 64  # of every tensor of the test's graphs


@dataclass(frozen=True)
class Pair:
    """folder/build holds the images. graphs: of the secure one."""

    folder: Path
    board: Board
    zone: TrustZone
    graphs: Sequence[Graph]

    @property
    def secure(self) -> Path:
        return self.folder / "build" / "secure.elf"

    @property
    def nonsecure(self) -> Path:
        return self.folder / "build" / "firmware.elf"

    @cached_property
    def symbols(self) -> Mapping[str, int]:
        """Of the non-secure program."""
        return symbols(self.nonsecure)

    @cached_property
    def secrets(self) -> Mapping[str, int]:
        """Symbols of the secure image."""
        return symbols(self.secure)

    def argv(self, *options: str) -> list[str]:
        return [*command(self.nonsecure, self.board), *options]


@dataclass(frozen=True)
class Outcome:
    """status: of the emulator. log: what the secure world said. data: of result.bin."""

    status: int
    log: str
    data: bytes

    @property
    def words(self) -> tuple[int, ...]:
        return struct.unpack(f"<{len(self.data) // 4}I", self.data[: len(self.data) // 4 * 4])


def symbols(elf: Path) -> dict[str, int]:
    with elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {s.name: int(s["st_value"]) & ~1 for s in table.iter_symbols() if s.name}


def two_gates() -> list[Graph]:
    """Call 0 adds two tensors, call 1 filters one; all of BYTES bytes."""
    first = Int8Net("probe_gate0", 5)
    a, b = first.input(1, 4, 4, 4), first.input(1, 4, 4, 4)
    second = Int8Net("probe_gate1", 6)
    return [
        first.build(first.add("add", [a, b])),
        second.build(second.conv(second.input(1, 4, 4, 4), 4, 1)),
    ]


def build_probe(
    folder: Path,
    board_name: str,
    *,
    quota: int | None = None,
    debug: bool = True,
    zone: TrustZone | None = None,
    edit: Callable[[Path], None] | None = None,
    update: UpdateView | None = None,
    probe: Path = PROBE,
) -> Pair:
    """The pair of `two_gates` and a non-secure program, `probe`.

    zone: how the secure image divides memory; the images stay where the board's zone puts them.
    edit: changes the secure image's C before it is compiled. update: as of a model that learns.
    """
    board = load_board(board_name)
    real = load_trust_zone(board_name)
    graphs = [program(graph, board.target) for graph in two_gates()]
    secure = folder / "secure"
    for graph in graphs:
        write_project(secure / graph.graph.name, graph)
    planned = [graph.graph for graph in graphs]
    write_secure_harness(
        secure, board, zone or real, planned, quota=quota, debug=debug, update=update
    )
    if edit is not None:
        edit(secure)
    secure_firmware = link_secure(secure, board, zone or real, planned, debug=debug)
    other = build_program(folder / "nonsecure", non_secure_board(board, real), probe)
    seal_pair(folder, real, secure_firmware, other)
    return Pair(folder, board, real, planned)


def build_program(folder: Path, board: Board, probe: Path = PROBE) -> Firmware:
    """The non-secure program `probe`, for the non-secure half of a board."""
    (folder / "harness").mkdir(parents=True)
    files = harness_files(board, [])
    for name in ("harness.h", "startup.c", "semihosting.c", "link.ld"):
        (folder / "harness" / name).write_text(files[name])
    shutil.copy(probe, folder)
    shutil.copytree(paths.RUNTIME_C / "include", folder / "runtime" / "include")
    elf = build(folder, board, objects=[Path("../secure/build/gateway.o")])
    return Firmware(elf, measure_sizes(elf, ()), None)


def run_steps(pair: Pair, folder: Path, steps: Sequence[Sequence[int]], *options: str) -> Outcome:
    """Run the program on steps (action and up to four words) in a new folder."""
    folder.mkdir()
    packed = [struct.pack("<5I", *step, *[0] * (5 - len(step))) for step in steps]
    (folder / "probe.bin").write_bytes(b"".join(packed))
    done = subprocess.run(
        pair.argv(*options), cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    result = folder / "result.bin"
    data = result.read_bytes() if result.exists() else b""
    return Outcome(done.returncode, done.stdout + done.stderr, data)


def set_request(pair: Pair, *inputs: int, output: int | None = None) -> list[tuple[int, ...]]:
    """Steps that fill `probe_request`; without an address its own buffers."""
    buffers = [pair.symbols["probe_input"] + BYTES * i for i in range(2)]
    words = [*inputs, *buffers[len(inputs) :], 0]
    words.append(pair.symbols["probe_output"] if output is None else output)
    at = pair.symbols["probe_request"]
    return [(WRITE, at + 4 * i, word) for i, word in enumerate(words)]


def set_bytes(at: int, data: bytes) -> list[tuple[int, ...]]:
    """Steps that write `data`, a multiple of 4 bytes, at an address."""
    words = struct.unpack(f"<{len(data) // 4}I", data)
    return [(WRITE, at + 4 * i, word) for i, word in enumerate(words)]


def edit_source(path: Path, edits: Mapping[str, str]) -> None:
    """Put other texts in place of some that a source has."""
    text = path.read_text()
    for old, new in edits.items():
        assert old in text, f"{path.name}: {old}"
        text = text.replace(old, new)
    path.write_text(text)
