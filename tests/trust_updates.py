"""A protected project of two devices, and what somebody writes who does not have their keys."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinsmith.codegen.state import stored_start
from tinsmith.ir.dtypes import DType, TensorType
from tinsmith.runner.execute import run_sequence
from tinsmith.runner.protocol import Command, Sample
from tinsmith.runner.store import DeviceStore
from tinsmith.runner.training import State, TrainingProject, open_training
from tinsmith.train.delta import encode_delta
from tinsmith.train.scheme import Scheme, Update
from tinsmith.trust import keys
from tinsmith.trust.project import protect_project

from .test_trust_training import Case

HOST, BOARD = "host", "mps2-an505"
SCHEME = Scheme(classes=10, update=(Update(last=1, bias=True, weights=0.5),))
NOT_AUTHENTIC, NO_DELTA = 23, 24  # ts_status.h
HEADER, TAG, _WORD, _UNIT = 56, 36, 8, 8  # ts_store.h, and the emulated flash's program unit
_COUNT = TensorType((1,), DType.UINT32)


@dataclass(frozen=True)
class Owner:
    """The root secret, and the pair of one device. other: of another device."""

    secret: Path
    folder: Path
    other: Path

    @property
    def training(self) -> TrainingProject:
        return open_training(self.folder)


def made(root: Path, board: str, name: str = "digits_dscnn", scheme: Scheme = SCHEME) -> Owner:
    plain = Case(board, "withhold", name, scheme).compile(root / "plain")
    secret = root / "root.key"
    keys.new_secret(secret)
    for device in ("d1", "d2"):
        protect_project(plain, root / device, secret=secret, device=device, pictures=False)
    return Owner(secret, root / "d1", root / "d2")


def moved(training: TrainingProject, by: int) -> State:
    """A state that is not that of compile time: every int8 weight a little up or down."""
    start = {v: training.graph.initializers[v].copy() for v in training.graph.state}
    for value, array in start.items():
        if array.dtype == np.int8 and value not in training.graph.transient:
            start[value] = np.clip(array.astype(np.int16) + by, -128, 127).astype(np.int8)
    return start


def same(a: State, b: State) -> bool:
    return all(np.array_equal(a[v], b[v]) for v in a)


def commit(training: TrainingProject, *states: State) -> DeviceStore:
    """A new device that has committed these states, one after the other."""
    store = DeviceStore(training)
    store.erase()
    for number, state in enumerate(states, 1):
        assert store.commit(state).counter == number
    return store


def started(store: DeviceStore) -> tuple[int, int, State]:
    """What a device finds at its start: the status, the counter, and the state that it uses."""
    training = store.training
    ask = [Sample((), command=Command.ROLLBACK), Sample((), command=Command.GET_STATE)]
    project = training.project
    types = [[_COUNT], [training.state_type]]
    first, state = run_sequence(project.elf(), project.board, types, ask, flash=store.flash)
    return first.status, int(first.outputs[0][0]), training.unpack(state.outputs[0])


def slots(store: DeviceStore) -> dict[int, int]:
    """Where the header of every committed slot lies, by its counter."""
    data = store.flash.read_bytes()
    found: dict[int, int] = {}
    at = data.find(b"TSTS")
    while at >= 0:
        found[struct.unpack_from("<I", data, at + 40)[0]] = at
        at = data.find(b"TSTS", at + 1)
    return found


def whole(count: int) -> int:
    return -(-count // _UNIT) * _UNIT


def forge(store: DeviceStore, counter: int, change: Callable[[bytearray], None]) -> None:
    """What somebody writes who knows the format and not the key: `change` gets the slot from its
    header to its tag; every check sum is made right again."""
    length = store.training.block.stored_bytes
    data = bytearray(store.flash.read_bytes())
    at = slots(store)[counter]
    tag_at = HEADER + whole(length)
    end = tag_at + whole(TAG)
    slot = data[at : at + end + 2 * _WORD]
    change(slot)
    payload = bytes(slot[HEADER : HEADER + length]) + bytes(slot[tag_at : tag_at + TAG])
    struct.pack_into("<I", slot, 48, zlib.crc32(payload))
    crc = zlib.crc32(bytes(slot[:52]))
    struct.pack_into("<I", slot, 52, crc)
    for word in (end, end + _WORD):
        struct.pack_into("<I", slot, word + 4, crc)
    data[at : at + len(slot)] = slot
    store.flash.write_bytes(data)


def flipped(place: int) -> Callable[[bytearray], None]:
    def change(slot: bytearray) -> None:
        slot[place] ^= 1

    return change


def newer(slot: bytearray) -> None:
    """An old block under a higher counter."""
    struct.pack_into("<I", slot, 40, 9)


def in_one_boot(training: TrainingProject, asks: Sequence[Sample]) -> list[int]:
    """The statuses of commands to one device that stays on."""
    types = {
        Command.COMMIT: [_COUNT, _COUNT],
        Command.ROLLBACK: [_COUNT],
        Command.APPLY_DELTA: [_COUNT],
        Command.SET_STATE: [],
    }
    project, flash = training.project, DeviceStore(training).flash
    given = [types[ask.command] for ask in asks]
    return [r.status for r in run_sequence(project.elf(), project.board, given, asks, flash=flash)]


def applied(training: TrainingProject, delta: bytes) -> Sample:
    most = training.block.bytes + training.block.bytes // 64 + 64 + TAG
    data = np.zeros(most, np.uint8)
    data[: len(delta)] = np.frombuffer(delta, np.uint8)
    return Sample((np.array([len(delta)], np.uint32), data), command=Command.APPLY_DELTA)


def learnt(training: TrainingProject, by: int) -> bytes:
    base = stored_start(training.locked or training.graph)
    return encode_delta(base, training.stored(moved(training, by)), training.base_hash, 1)
