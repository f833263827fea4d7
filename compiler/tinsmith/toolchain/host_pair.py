"""A protected project on the host: two processes that talk over a socket, with the same C.

It shows that the division works and protects nothing: one user owns both processes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import paths
from ..codegen.environment import render
from ..codegen.project import NONSECURE_FOLDER, SECURE_FOLDER
from ..ir.graph import Graph
from ..machine.board import Board
from .compile_c import build, compile_sources, firmware, link_elf
from .firmware import Firmware
from .gate_view import gate_views, memory_bytes, sealed_bytes
from .harness import ModelBinding, write_harness
from .secure_image import NO_QUOTA, SEALS, SECURE_ELF, PairFirmware
from .sizes import measure_sizes
from .update_view import UpdateView

_SECURE = paths.RUNTIME_C / "secure"
_BOTH = ("host/socket.c", "host/ts_host_world.h")
_CLIENT = ("host/gateway_client.c", *_BOTH)
_SERVER = (
    "host/secure_main.c", "pad.c", "chacha20.c", "chacha20.h", "sha256.c", "sha256.h",
    "gateway.h", "ts_secure.h", *_BOTH,
)  # fmt: skip
_FOR_UPDATES = ("hmac.c", "hmac.h", "update.c", "update.h", "host/update_server.c")
_TO_UPDATE = ("host/update_client.c",)
_TO_SEAL = ("sealed.c", "sealed.h")


def build_host_pair(
    project_dir: Path,
    board: Board,
    nonsecure: Graph,
    secure: Sequence[Graph],
    *,
    quota: int | None,
    debug: bool,
    trace: bool = False,
    train: Graph | None = None,
    update: UpdateView | None = None,
    backward: Graph | None = None,
) -> PairFirmware:
    """As `secure_image.build_pair`. The secure program is started, and starts the other one."""
    del debug
    client = _build_client(project_dir / NONSECURE_FOLDER, board, nonsecure, train, trace)
    secret = project_dir / SECURE_FOLDER
    server = _build_server(secret, board, secure, quota, client.elf, update, backward)
    elf = firmware(project_dir, trace=trace)
    elf.parent.mkdir(parents=True, exist_ok=True)
    sealed = elf.with_name(SECURE_ELF)
    shutil.copy(client.elf, elf)
    shutil.copy(server.elf, sealed)
    return PairFirmware(replace(server, elf=sealed), replace(client, elf=elf))


def _build_client(
    folder: Path, board: Board, graph: Graph, train: Graph | None, trace: bool
) -> Firmware:
    write_harness(folder, board, [ModelBinding.of(graph, train)])
    _copy([*_CLIENT, *(_TO_UPDATE if train else ())], folder / "harness")
    elf = build(folder, board, trace=trace)
    name = ModelBinding.of(graph).name
    return Firmware(elf, measure_sizes(elf, (name, f"{name}_weights")), None)


def _build_server(
    folder: Path,
    board: Board,
    graphs: Sequence[Graph],
    quota: int | None,
    image: Path,
    update: UpdateView | None,
    backward: Graph | None,
) -> Firmware:
    harness, sealed = folder / "harness", bool(sealed_bytes(backward))
    shutil.rmtree(harness, ignore_errors=True)
    harness.mkdir(parents=True)
    _copy(_SERVER, harness)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    binding = render("secure/gateway_binding.c.j2", _binding(graphs, backward, quota))
    (harness / "gateway_binding.c").write_text(binding)
    if update is not None:
        _copy([*_FOR_UPDATES, *(_TO_SEAL if sealed else ())], harness)
        text = render("secure/update_binding.c.j2", {"update": update, "host": True})
        (harness / "update_binding.c").write_text(text)
    text = render("secure/host/image_digest.c.j2", {"digest": digest})
    (harness / "host" / "image_digest.c").write_text(text)
    sources = sorted(p.relative_to(folder) for p in harness.rglob("*.c"))
    includes = ["harness", "harness/host"]
    for graph in graphs:
        sources += sorted(p.relative_to(folder) for p in (folder / graph.name).glob("*.c"))
        includes += [graph.name, f"{graph.name}/runtime/include"]
    if backward is not None:
        runtime = folder / graphs[0].name / "runtime" / "src"
        sources += sorted(p.relative_to(folder) for p in runtime.glob("*.c"))
    flags = [SEALS] if sealed else []
    objects = compile_sources(folder, board, sources, Path("build/obj"), includes, flags)
    elf = folder / "build" / SECURE_ELF
    link_elf(folder, board, objects, elf)
    stems = [stem for g in graphs for stem in _stems(g)]
    return Firmware(elf, measure_sizes(elf, stems), None)


def _binding(
    graphs: Sequence[Graph], backward: Graph | None, quota: int | None
) -> dict[str, object]:
    gates = gate_views(graphs, backward)
    return {
        "gates": gates,
        "pad_bytes": memory_bytes(gates),
        "sealed_bytes": sealed_bytes(backward),
        "quota": NO_QUOTA if quota is None else quota * len(graphs),
    }


def _stems(graph: Graph) -> tuple[str, str]:
    name = ModelBinding.of(graph).name
    return name, f"{name}_weights"


def _copy(names: Sequence[str], folder: Path) -> None:
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_SECURE / name, target)
