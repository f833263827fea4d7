"""Builds the two images of a protected project for a board with TrustZone-M (docs/trust.md).

The secure image is linked first: it gives the address of the gateway. The non-secure one is linked
against that, and its hash is written into the secure image, which starts no other.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import paths
from ..codegen.c_text import c_model_name
from ..codegen.environment import render
from ..codegen.project import NONSECURE_FOLDER, SECURE_FOLDER
from ..errors import CompileError, DoesNotFit
from ..ir.graph import Graph
from ..machine.board import Board
from ..machine.trust_zone import TrustZone, load_trust_zone, non_secure_board, secure_board
from .compile_c import build, compile_sources, firmware, link_elf
from .firmware import Firmware, build_firmware
from .gate_view import GateView, gate_views, memory_bytes, sealed_bytes
from .harness import ModelBinding, write_harness
from .image_record import write_record
from .sizes import check_budget, measure_sizes
from .stack import StackUse, worst_case_stack
from .update_view import SOURCES as _FOR_UPDATES
from .update_view import UpdateView

SECURE_ELF = "secure.elf"
NO_QUOTA = 0xFFFF_FFFF
SEALS = "-DTS_SECURE_SEALS"  # of an image whose layers learn
_SOURCES = paths.RUNTIME_C / "secure"
_GATEWAY = "gateway.o"  # the import library: the address of the gateway, nothing else
_STREAM = ("chacha20.c", "chacha20.h")
_TO_DRAW_PADS = (*_STREAM, "pad.c")
_TO_SEAL = ("sealed.c", "sealed.h")
_FOR_DEBUG = "debug.c"
_INCLUDED = ("backward_binding.c.j2", "sealed_binding.c.j2")  # in gateway_binding.c
_MODEL = ("", "_weights")  # sources of a graph
# Functions of the gateway that undefined instructions follow in the image.
_GATEWAY_FUNCTIONS = (
    "ts_gateway_call",
    "ts_serve",
    "ts_compute",
    "ts_release",
    "ts_spoil",
    "ts_take_request",
    "ts_take_again",
    "ts_pointers_by_hardware",
    "ts_pointers_by_table",
    "ts_state_by_value",
    "ts_state_by_inverse",
    "ts_request_by_hardware",
    "ts_request_by_table",
    "ts_refused_by_hardware",
    "ts_refused_by_table",
    "ts_copy",
    "ts_wipe",
    "ts_update",
    "ts_update_serve",
    "ts_update_finish",
    "ts_update_take",
    "ts_update_place_by_hardware",
    "ts_update_place_by_table",
    "ts_update_by_difference",
    "ts_update_by_count",
    "ts_update_code",
)
# The frame of an interrupt with its floating-point registers, and the gateway's entry.
_ENTRY_STACK_BYTES = 256


@dataclass(frozen=True)
class PairFirmware:
    """The two images. The ELFs lie side by side in the project's build folder."""

    secure: Firmware
    nonsecure: Firmware


def build_pair(
    project_dir: Path,
    board: Board,
    nonsecure: Graph,
    secure: Sequence[Graph],
    *,
    quota: int | None,
    debug: bool,
    trace: bool = False,
    zone: TrustZone | None = None,
    train: Graph | None = None,
    update: UpdateView | None = None,
    backward: Graph | None = None,
    harness: str = "semihosting",
) -> PairFirmware:
    """Compile and link what `write_project` wrote into `nonsecure/` and `secure/<graph name>/`.

    secure: a graph per gateway call. quota: queries per boot; None: any number. debug: on an
    emulated board the secure image ends the emulator where it would reset, and says why. trace:
    the non-secure image reports every node, and both go to `build/trace/`. zone: the division of
    memory; None: the board's. train: the training graph of `nonsecure`, if any. update: what the
    secure image knows of it. backward: the second call of a training step, where gradients go
    through the gateway; `secure` is then the first alone. harness: of the non-secure image.

    Returns the sizes and stacks of both; `build/secure.elf` starts `build/firmware.elf`.
    Raises CompileError for a board without a secure world, and as `build_firmware`.
    """
    zone = zone or load_trust_zone(board.name)
    debug = debug and bool(board.emulator)
    folder = project_dir / SECURE_FOLDER
    other = project_dir / NONSECURE_FOLDER
    write_secure_harness(
        folder, board, zone, secure, quota=quota, debug=debug, update=update, backward=backward
    )
    secure_firmware = link_secure(folder, board, zone, secure, debug=debug, backward=backward)
    objects = [Path("..") / SECURE_FOLDER / "build" / _GATEWAY]
    other_board = non_secure_board(board, zone)
    # A serial firmware is known by its non-secure image; this makes it one with the secure one.
    digest = hashlib.sha256(secure_firmware.elf.read_bytes()).hexdigest()
    beside = f"secure {digest[:8]}"
    if trace:
        write_harness(other, other_board, [ModelBinding.of(nonsecure, train)], harness, beside)
        elf = build(other, other_board, trace=True, objects=objects)
        nonsecure_firmware = Firmware(elf, measure_sizes(elf, ()), None)
    else:
        nonsecure_firmware = build_firmware(
            other, nonsecure, other_board,
            train=train, objects=objects, harness=harness, beside=beside,
        )  # fmt: skip
    return seal_pair(project_dir, zone, secure_firmware, nonsecure_firmware, trace=trace)


def seal_pair(
    project_dir: Path,
    zone: TrustZone,
    secure: Firmware,
    nonsecure: Firmware,
    *,
    trace: bool = False,
) -> PairFirmware:
    """Copy both images into the project's build folder and bind the secure one to the other."""
    elf = firmware(project_dir, trace=trace)
    elf.parent.mkdir(parents=True, exist_ok=True)
    sealed = elf.with_name(SECURE_ELF)
    shutil.copy(nonsecure.elf, elf)
    shutil.copy(secure.elf, sealed)
    write_record(sealed, elf, zone)
    return PairFirmware(
        Firmware(sealed, secure.sizes, secure.stack),
        Firmware(elf, nonsecure.sizes, nonsecure.stack),
    )


def write_secure_harness(
    folder: Path,
    board: Board,
    zone: TrustZone,
    graphs: Sequence[Graph],
    *,
    quota: int | None,
    debug: bool,
    update: UpdateView | None = None,
    backward: Graph | None = None,
) -> None:
    """Write `harness/` of the secure image; files of an earlier build are removed.

    update: of a model that learns.
    Raises CompileError for a quota that is not between 1 and 2^32 − 2 calls.
    """
    calls = NO_QUOTA if quota is None else quota * len(graphs)
    if not (quota is None or 0 < calls < NO_QUOTA):
        raise CompileError(
            f"a quota of {quota} queries per boot cannot be kept", expected="1 to 4 billion calls"
        )
    harness = folder / "harness"
    shutil.rmtree(harness, ignore_errors=True)
    harness.mkdir(parents=True)
    gates = gate_views(graphs, backward)
    sealed = sealed_bytes(backward)
    for name, text in _harness_files(board, zone, gates, calls, debug, update, sealed).items():
        (harness / name).write_text(text, encoding="utf-8", newline="\n")


def _harness_files(
    board: Board,
    zone: TrustZone,
    gates: Sequence[GateView],
    calls: int,
    debug: bool,
    update: UpdateView | None,
    sealed: int,
) -> Mapping[str, str]:
    names = {
        "board": board.name,
        "zone": {"secure": zone.secure, "non_secure": zone.non_secure, **_lists(zone)},
        "windows": zone.windows,
        "gates": gates,
        "pad_bytes": memory_bytes(gates),
        "sealed_bytes": sealed,
        "quota": calls,
        "flash": zone.secure.flash,
        "veneers": zone.secure.veneers,
        "ram": zone.secure.ram,
        "stack_bytes": zone.secure.stack_bytes,
        "gateway_functions": _GATEWAY_FUNCTIONS,
        "debug": debug,
        "update": update,
        "host": False,
    }
    left_out = {
        *(() if any(gate.pad for gate in gates) else _TO_DRAW_PADS),
        *_INCLUDED,
        *(() if sealed else _TO_SEAL),
        *(() if debug else (_FOR_DEBUG,)),
        *(() if update else _FOR_UPDATES),
    }
    left_out -= {*(_STREAM if sealed else ())}
    sources = [s for s in sorted(_SOURCES.glob("*.[ch]")) if s.name not in left_out]
    files = {source.name: source.read_text() for source in sources}
    for template in sorted(s for s in _SOURCES.glob("*.j2") if s.name not in left_out):
        files[template.stem] = render(f"secure/{template.name}", names)
    return files


def _lists(zone: TrustZone) -> dict[str, object]:
    return {
        "mpc": zone.mpc,
        "mpcbb": zone.mpcbb,
        "registers": zone.registers,
        "locks": zone.locks,
    }


def link_secure(
    folder: Path,
    board: Board,
    zone: TrustZone,
    graphs: Sequence[Graph],
    *,
    debug: bool,
    backward: Graph | None = None,
) -> Firmware:
    """The secure image as yet without the hash of the other; beside it the import library.

    debug, backward: as `write_secure_harness` was told. Raises as `build_pair`.
    """
    machine = secure_board(board, zone)
    parts = ["harness", *(graph.name for graph in graphs)]
    if backward is not None:
        parts.append(f"{graphs[0].name}/runtime/src")
    files = [p.relative_to(folder) for part in parts for p in sorted((folder / part).glob("*.c"))]
    includes = [*parts, f"{graphs[0].name}/runtime/include"]
    sealed = bool(sealed_bytes(backward))
    cflags = ["-mcmse", *(["-DTS_SECURE_DEBUG"] if debug else [])]
    cflags += [SEALS] if sealed else []
    objects = compile_sources(folder, machine, files, Path("build/obj"), includes, cflags)
    elf = folder / "build" / SECURE_ELF
    implib = Path("build") / _GATEWAY
    (folder / implib).unlink(missing_ok=True)
    flags = ["-mcmse", "-Wl,--cmse-implib", f"-Wl,--out-implib={implib}"]
    link_elf(folder, machine, objects, elf, flags=flags)
    names = [c_model_name(graph.name) for graph in graphs]
    sources = [f"{g.name}_{n}{s}" for g, n in zip(graphs, names, strict=True) for s in _MODEL]
    sizes = measure_sizes(elf, sources)
    check_budget(sizes, machine)
    pads = any(gate.pad for gate in gate_views(graphs, backward))
    roots = [*(f"{name}_run" for name in names), *(["ts_draw_pad"] if pads else [])]
    roots += [f"{names[0]}_train_step"] if backward is not None else []
    roots += ["ts_seal", "ts_unseal"] if sealed else []
    updates = (folder / "harness" / "update_gateway.c").is_file()
    stack = _deepest(elf, machine, roots, updates)
    if stack is not None and stack.bytes > machine.stack_bytes:
        raise DoesNotFit(
            f"the secure image needs {stack.bytes:,} B of stack; {board.name} reserves "
            f"{machine.stack_bytes:,} B",
            node=" → ".join(stack.path),
            hint=f"raise stack_bytes in boards/{board.name}/trust.toml",
        )
    return Firmware(elf, sizes, stack)


def _deepest(elf: Path, board: Board, roots: Sequence[str], updates: bool) -> StackUse | None:
    """The gateway's own stack and, on top of it, the deepest of what it calls by a pointer; and, on
    top of that, an update from an interrupt."""
    gateway = worst_case_stack(elf, board, "ts_serve")
    called = [worst_case_stack(elf, board, root) for root in roots]
    deepest = max((use for use in called if use), key=lambda use: use.bytes, default=None)
    if gateway is None or deepest is None:
        return None
    total = gateway.bytes + deepest.bytes + _ENTRY_STACK_BYTES
    update = worst_case_stack(elf, board, "ts_update_serve") if updates else None
    if update is not None:
        total += update.bytes + _ENTRY_STACK_BYTES
    return StackUse(total, ("ts_gateway", *deepest.path), deepest.indirect)
