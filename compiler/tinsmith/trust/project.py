"""Makes a protected project: the C of both worlds from one graph, the two images, the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..codegen.emit import random_sample
from ..codegen.program import Program
from ..codegen.project import (
    NONSECURE_FOLDER,
    SAMPLE_FILE,
    SECURE_FOLDER,
    read_graph,
    write_oracle,
    write_project,
)
from ..codegen.report import (
    Report,
    TrustReport,
    add_training,
    aim_of,
    make_report,
    read_report,
    write_report,
)
from ..codegen.report_model import SourceReport
from ..errors import CompileError, InternalError
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..ir.interpret import run
from ..ir.printer import graph_hash
from ..kernels.aim import BY_INSTRUCTIONS, Aim
from ..machine.board import Board, load_board
from ..machine.trust_zone import load_trust_zone
from ..pass_manager import PassContext
from ..plan.timeline import draw_arena
from ..quant.samples import load_samples
from ..toolchain.harness import harness_of, with_uart
from ..toolchain.secure_image import PairFirmware
from ..toolchain.sizes import check_budget
from . import keys
from .cut import MODES
from .images import build_worlds
from .learning import Learning
from .learning_files import read_learning, write_learning
from .manifest import NONSECURE_IMAGE, SECURE_IMAGE, Manifest, image_hash, write_manifest
from .partition import Partition
from .world_programs import divide_model, nonsecure_program, secure_programs

DEVELOPMENT = "development"


@dataclass(frozen=True)
class Protection:
    """How a model is divided. cut: the value that crosses; None: chosen. quota: queries that the
    gateway answers per boot; None: any number. release: without what helps on an emulator."""

    mode: str
    cut: str | None = None
    quota: int | None = None
    release: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise CompileError(f"unknown mode {self.mode!r}", expected=f"one of {', '.join(MODES)}")


@dataclass(frozen=True)
class Device:
    """For which device: its id, its key (32 bytes), who signs the manifest, and the key of its
    updates (32 bytes; not given, one of the moment)."""

    name: str
    key: bytes
    signer: Ed25519PrivateKey
    update_key: bytes = field(default_factory=keys.random_key)

    def __repr__(self) -> str:
        return f"Device({self.name})"  # a key is in no log


def development_device() -> Device:
    """A device with keys that are in no file: they cannot be made again."""
    return Device(DEVELOPMENT, keys.random_key(), Ed25519PrivateKey.generate())


def check_protectable(board: Board, dtype: str) -> None:
    """Raises CompileError for what no mode can divide, or no board can hold."""
    if not board.is_host:
        load_trust_zone(board.name)
    if dtype == "float32":
        raise CompileError(
            "a float32 network cannot be protected: its sums depend on the order of channels",
            hint="leave out --dtype float32",
        )


def write_protected(
    folder: Path,
    graph: Graph,
    board: Board,
    protection: Protection,
    device: Device,
    context: PassContext,
    *,
    learning: Learning | None = None,
    sample: Sequence[Array] | None = None,
    ram: int | None = None,
    flash: int | None = None,
    aim: Aim = BY_INSTRUCTIONS,
    source: SourceReport | None = None,
    pictures: bool = True,
    harness: str = "semihosting",
) -> Report:
    """Divide a PLANNED graph, write and build both worlds into `folder`, sign; returns the report.

    learning: of a graph that learns. sample: one array per graph input, for the self-test. ram,
    flash: budgets of the non-secure image in bytes. aim: what kernels are chosen for. source: the
    files that the graph was made from. harness: of the non-secure image.
    Raises CompileError when there is no legal cut, DoesNotFit, MissingTool.
    """
    given = list(sample) if sample is not None else random_sample(graph)
    with context.step("partition"):
        divided, locked = divide_model(
            graph, protection.mode, device.key, protection.cut, learning, context
        )
    nonsecure = nonsecure_program(divided.nonsecure, locked, board, context, aim)
    nonsecure = replace(nonsecure, sample=given, expected=run(graph, given))
    secure = secure_programs(divided, locked, board, context, Aim(aim.objective))
    with context.step("emit"):
        write_oracle(folder, graph, given, learning.plain if learning else None)
        weights_bytes = _write_worlds(folder, nonsecure, secure)
        if learning is not None and locked is not None:
            write_learning(folder, learning, locked, device.update_key)
    if pictures:
        with context.step("draw_arena"):
            title = f"{nonsecure.c_name}, non-secure"
            draw_arena(folder, nonsecure.plan, budget=None, title=title)
    with context.step("build"):
        images = build_worlds(
            folder,
            board,
            nonsecure.graph,
            [part.graph for part in secure],
            quota=protection.quota,
            train=nonsecure.train.graph if nonsecure.train else None,
            update_key=device.update_key,
            debug=not protection.release,
            backward=secure[0].train.graph if secure[0].train else None,
            harness=harness,
        )
    check_budget(images.nonsecure.sizes, board, ram=ram, flash=flash, node=nonsecure.peak_node)
    report = make_report(nonsecure, board, weights_bytes, context.notes)
    report.model, report.model_hash = graph.name, graph_hash(graph)
    report.source = source
    report.optimize, report.pinned_kernels = aim.objective, dict(aim.pins)
    report.macs = sum(n.op.macs(n) for n in graph.nodes)
    report.trust = _trust_report(divided, protection, device, board)
    report.gateway_calls = len(divided.secure)
    if locked is not None:
        report.train_gateway_calls = len(divided.secure) + (locked.backward is not None)
    _add_sizes(report, images, nonsecure.train)
    write_manifest(folder, _manifest(folder, report).signed(device.signer))
    write_report(folder, report)
    return report


def protect_project(
    folder: str | PathLike[str],
    out: str | PathLike[str],
    *,
    secret: str | PathLike[str],
    device: str,
    sign: str | PathLike[str] | None = None,
    mode: str | None = None,
    cut: str | None = None,
    quota: int | None = None,
    release: bool = False,
    pictures: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Make the pair of images of one device, in `out`, from a compiled project.

    secret: file with the root secret. sign: file with the signing key; None: a key of the moment.
    mode, cut, quota: those of the project where None; `withhold` for one that is not protected.
    release: a secure image without semihosting, as boards without an emulator always get it.
    The images talk as the project does. Raises CompileError as `write_protected`, BadInput for
    files that cannot be used.
    """
    folder, out = Path(folder), Path(out)
    root, known = keys.read_secret(Path(secret)), read_report(folder)
    graph, board = read_graph(folder), load_board(known.board, known.target)
    harness, baud = harness_of(folder / NONSECURE_FOLDER if known.trust else folder)
    board = with_uart(board, harness, baud, protected=True)
    check_protectable(board, known.dtype)
    learning = read_learning(folder) if known.train_nodes else None
    if out.resolve() == folder.resolve():
        raise CompileError(f"{out} is the project itself", hint="choose another folder with -o")
    was = known.trust
    mode = mode or (was.mode if was else "withhold")
    cut = cut or (was.cut if was and was.mode == mode else None)
    protection = Protection(mode, cut, quota or (was.quota if was else None), release)
    key = keys.device_key(root, graph_hash(graph), device, keys.permutations_of(mode))
    signer = keys.read_signing_key(Path(sign)) if sign else Ed25519PrivateKey.generate()
    context = PassContext(progress=progress)
    sample = [array[0] for array in load_samples(folder / SAMPLE_FILE, graph)]
    updates = keys.device_key(root, graph_hash(graph), device, keys.UPDATES)
    whose = Device(device, key, signer, updates)
    return write_protected(
        out, graph, board, protection, whose, context,
        learning=learning, sample=sample, aim=aim_of(known), source=known.source, pictures=pictures,
        harness=harness,
    )  # fmt: skip


def _write_worlds(folder: Path, nonsecure: Program, secure: Sequence[Program]) -> int:
    """The C of both worlds; returns the bytes of the constants of the non-secure one."""
    for old in (NONSECURE_FOLDER, SECURE_FOLDER):
        shutil.rmtree(folder / old, ignore_errors=True)
    for program in secure:
        write_project(folder / SECURE_FOLDER / program.graph.name, program)
    return write_project(folder / NONSECURE_FOLDER, nonsecure)


def _add_sizes(report: Report, images: PairFirmware, train: Program | None) -> None:
    report.flash_bytes = images.nonsecure.sizes.flash_bytes
    report.model_flash_bytes = images.nonsecure.sizes.model_flash_bytes
    report.ram_bytes = images.nonsecure.sizes.ram_bytes
    report.secure_flash_bytes = images.secure.sizes.flash_bytes
    report.secure_ram_bytes = images.secure.sizes.ram_bytes
    if train is not None:
        add_training(report, train)
        report.train_ram_bytes = report.ram_bytes


def _trust_report(
    divided: Partition, protection: Protection, device: Device, board: Board
) -> TrustReport:
    cut = divided.cut
    return TrustReport(
        mode=protection.mode,
        device=device.name,
        simulated=board.is_host,
        quota=protection.quota,
        cut=cut.value,
        channels=cut.channels,
        bridge=cut.bridge,
        parameters_above=cut.parameters_above,
        parameters_withheld=cut.parameters_withheld,
        parameters_below=cut.parameters_below,
        parameters_locked=cut.parameters_locked,
        classes=cut.classes,
        release=not board.is_host and (protection.release or not board.emulator),
        requires=() if board.is_host else tuple(load_trust_zone(board.name).requires),
    )


def _manifest(folder: Path, report: Report) -> Manifest:
    trust = report.trust
    if trust is None:
        raise InternalError("a manifest is of a protected project")
    return Manifest(
        device=trust.device,
        model=report.model,
        model_hash=report.model_hash,
        board=report.board,
        mode=trust.mode,
        simulated=trust.simulated,
        nonsecure_sha256=image_hash(folder / NONSECURE_IMAGE),
        secure_sha256=image_hash(folder / SECURE_IMAGE),
    )
