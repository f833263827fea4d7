"""What a protected project that learns keeps beside its images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from ..codegen.project import (
    SCHEME_FILE,
    SECURE_FOLDER,
    read_network,
    read_training_graph,
    write_network,
)
from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..lowering import TO_LEARNABLE
from ..pass_manager import PassContext, run_passes
from ..train.scheme import Scheme
from .learning import Learning, LockedLearning, check_learnable

ORDERS_FILE = "learning.npz"  # in the secure folder: where the state's elements lie
_SECURED, _KEY = "secured", "key"


def learning_of(network: Graph, plain: Graph, scheme: Scheme) -> Learning:
    """How a network learns whose training graph is `plain`. Raises SchemeError for what cannot be
    done in another order of channels."""
    check_learnable(scheme)
    base = run_passes(network, TO_LEARNABLE, PassContext(options={"scheme": scheme}))
    return Learning(base, plain, scheme, network)


@dataclass(frozen=True)
class StatePlaces:
    """orders, secured: see `LockedLearning`. key: the device's for updates, where a part of the
    state is secured; else empty."""

    orders: tuple[Array, ...]
    secured: tuple[int, ...] = ()
    key: bytes = field(default=b"", repr=False)


def write_learning(folder: Path, learning: Learning, locked: LockedLearning, key: bytes) -> None:
    """Keep how a project learns, and where its state lies; `key` with what of it is secured.

    Raises CompileError when the files cannot be written."""
    write_network(folder, learning.network, learning.scheme)
    named = {f"state{i}": order for i, order in enumerate(locked.orders)}
    if locked.secured:
        named |= {_SECURED: np.array(locked.secured), _KEY: np.frombuffer(key, np.uint8)}
    path = folder / SECURE_FOLDER / ORDERS_FILE
    try:
        np.savez(path, **named)  # pyright: ignore[reportArgumentType] — of any name
    except OSError as error:
        raise CompileError(f"cannot write the project: {error}") from error


def read_learning(folder: Path) -> Learning:
    """How the model of a project learns. Raises CompileError for one that does not say."""
    try:
        scheme = msgspec.json.decode((folder / SCHEME_FILE).read_bytes(), type=Scheme)
    except (OSError, msgspec.DecodeError) as error:
        raise CompileError(
            f"{folder} does not say how its model learns: {error}",
            expected=f"a folder with {SCHEME_FILE}",
            hint="compile the model with --train again, then protect that",
        ) from error
    return learning_of(read_network(folder), read_training_graph(folder), scheme)


def read_places(folder: Path) -> StatePlaces:
    """Where the state of a protected project lies. Raises CompileError when that is not there."""
    path = folder / SECURE_FOLDER / ORDERS_FILE
    try:
        with np.load(path) as found:
            names = [n for n in found.files if n.startswith("state")]
            orders = tuple(found[f"state{i}"] for i in range(len(names)))
            if _SECURED not in found.files:
                return StatePlaces(orders)
            return StatePlaces(orders, tuple(found[_SECURED].tolist()), found[_KEY].tobytes())
    except (OSError, ValueError, KeyError) as error:
        raise CompileError(
            f"{folder} is not a protected project that learns: {error}",
            expected=f"a folder with {SECURE_FOLDER}/{ORDERS_FILE}",
            hint="compile the model with --train and --trust",
        ) from error
