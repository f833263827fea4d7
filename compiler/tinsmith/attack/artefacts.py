"""What an attacker copies from a device: the weights, read back from the non-secure image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ..codegen.c_text import c_model_name
from ..codegen.project import read_graph
from ..codegen.report import read_report
from ..codegen.weights import Weights
from ..errors import CompileError, VerificationFailed
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..kernels.select import select_kernels
from ..machine.board import load_board
from ..toolchain.compile_c import firmware
from ..trust.images import read_worlds


@dataclass(frozen=True)
class Artefacts:
    """plain: the unprotected network, the vendor's oracle. nonsecure: what the copied image holds.
    secure: the vendor's, for judging the attacks and for answering a caller of the gateway.
    arrays, bytes: constants found in the image."""

    mode: str
    plain: Graph
    nonsecure: Graph
    secure: list[Graph]
    arrays: int
    bytes: int


def read_artefacts(folder: Path) -> Artefacts:
    """A protected project. Raises CompileError for another one, and VerificationFailed when the
    image does not hold what the attacks are to work on."""
    report = read_report(folder)
    if report.trust is None:
        raise CompileError(
            f"{folder} is not a protected project",
            hint="compile with --trust, or `tinsmith protect`",
        )
    if report.train_nodes:
        raise CompileError(
            f"{folder} learns, and the attacks work on weights that stay",
            hint="compile the same model with --trust and without --train, and attack that",
        )
    nonsecure, secure = read_worlds(folder)
    packed = packed_constants(nonsecure, report.board)
    check_image(firmware(folder), packed)
    size = sum(a.nbytes for a in packed.values())
    return Artefacts(report.trust.mode, read_graph(folder), nonsecure, secure, len(packed), size)


def packed_constants(graph: Graph, board: str) -> Mapping[str, Array]:
    """By C name, every array that the kernels of a planned graph read from flash."""
    weights, found = Weights(c_model_name(graph.name)), dict[str, Array]()
    for call in select_kernels(graph, load_board(board).target):
        names = weights.add(call)
        found |= {names[n]: constant.array for n, constant in call.constants.items()}
    return found


def check_image(elf: Path, packed: Mapping[str, Array]) -> None:
    """Raises VerificationFailed naming the first constant that the image holds otherwise."""
    try:
        with elf.open("rb") as file:
            held = dict(_symbols(ELFFile(file), set(packed)))
    except (OSError, ELFError) as error:
        raise CompileError(f"{elf} cannot be read: {error}") from error
    for name, array in packed.items():
        if held.get(name, b"")[: array.nbytes] != array.tobytes():
            raise VerificationFailed(
                f"the non-secure image does not hold {name} of nonsecure/graph.tin",
                hint="compile or protect the model again",
            )


def _symbols(elf: ELFFile, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes behind every symbol that is wanted."""
    sections = list(elf.iter_sections())
    for table in sections:
        if not isinstance(table, SymbolTableSection):
            continue
        for symbol in table.iter_symbols():
            if symbol.name not in wanted or not isinstance(symbol["st_shndx"], int):
                continue
            section = sections[symbol["st_shndx"]]
            start = symbol["st_value"] - section["sh_addr"]
            yield symbol.name, section.data()[start : start + symbol["st_size"]]
