"""From the C of both worlds to their two images: on a board, or as two processes of the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..codegen.project import (
    NONSECURE_FOLDER,
    SECURE_FOLDER,
    TRAINING_FILE,
    read_graph,
    read_training_graph,
)
from ..ir.graph import Graph
from ..machine.board import Board
from ..toolchain.host_pair import build_host_pair
from ..toolchain.secure_image import PairFirmware, build_pair
from ..toolchain.update_view import UpdateView
from .keys import KEY_BYTES


def build_worlds(
    folder: Path,
    board: Board,
    nonsecure: Graph,
    secure: Sequence[Graph],
    *,
    quota: int | None,
    trace: bool = False,
    train: Graph | None = None,
    update_key: bytes = bytes(KEY_BYTES),
    debug: bool = True,
    backward: Graph | None = None,
    harness: str = "semihosting",
) -> PairFirmware:
    """Compile and link `folder/nonsecure` and `folder/secure/<graph>` into `folder/build`.

    quota: queries per boot; None: any number. trace: the non-secure image reports every node.
    train: the training graph of `nonsecure`, if any. update_key: the device's for updates of what
    that learns; without one the pair is good for measuring alone. debug: of an emulated board, see
    `secure_image.build_pair`. backward: the second call of a training step, of the only graph.
    harness: of the non-secure image on a board.
    """
    update = UpdateView.of(train, update_key) if train is not None else None
    if board.is_host:
        return build_host_pair(
            folder, board, nonsecure, secure,
            quota=quota, debug=debug, trace=trace, train=train, update=update, backward=backward,
        )  # fmt: skip
    return build_pair(
        folder, board, nonsecure, secure,
        quota=quota, debug=debug, trace=trace, train=train, update=update, backward=backward,
        harness=harness,
    )  # fmt: skip


def read_worlds(folder: Path) -> tuple[Graph, list[Graph]]:
    """The PLANNED graphs of a protected project: the non-secure one, and the secure ones by call.

    Raises CompileError when they are not there.
    """
    nonsecure = read_graph(folder / NONSECURE_FOLDER)
    calls = sum(n.op.name == "authorize" for n in nonsecure.nodes)
    gates = [f"{nonsecure.name}_gate{call}" for call in range(calls)]
    return nonsecure, [read_graph(folder / SECURE_FOLDER / gate) for gate in gates]


def read_backward(folder: Path) -> Graph | None:
    """The PLANNED graph of the second call of a training step; None where there is none."""
    gate = folder / SECURE_FOLDER / f"{read_graph(folder / NONSECURE_FOLDER).name}_gate0"
    return read_training_graph(gate) if (gate / TRAINING_FILE).is_file() else None


def read_locked_training(folder: Path) -> Graph | None:
    """The PLANNED training graph of the non-secure image; None when it does not learn."""
    nonsecure = folder / NONSECURE_FOLDER
    return read_training_graph(nonsecure) if (nonsecure / TRAINING_FILE).is_file() else None
