"""The store of a device that learns: commit, rollback and deltas, in the emulator or on the host.

The device's flash is the file `flash.bin` in the project. It outlives the firmware, which writes it
through the store as a product would; see `runtime_c/harness/store.c`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadInput, CompileError, InternalError, NotAuthentic
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Value
from .execute import run_sequence
from .project import check_gpu
from .protocol import Command, Result, Sample
from .training import State, TrainingProject

FLASH_FILE = "flash.bin"
CUT_BEFORE, CUT_DURING, CUT_AFTER = 0, 1, 2  # where in an operation power goes (nor_flash.h)
_OK, _FOREIGN_STORE, _DAMAGED, _FOREIGN_DELTA = 0, 18, 20, 21  # ts_status.h
_BUFFER_TOO_SMALL, _STORE_NOT_AUTHENTIC, _DELTA_NOT_AUTHENTIC = 22, 23, 24
_TAG_BYTES = 36  # TS_TAG_BYTES; what comes before it is TS_DELTA_MAX_BYTES
_SECTOR = 2048
_COUNT = TensorType((1,), DType.UINT32)


@dataclass(frozen=True)
class Commit:
    """counter: of the store. operations: how many the flash was asked for."""

    counter: int
    operations: int


@dataclass(frozen=True)
class DeviceStore:
    """The flash of one project. A new one is erased; every method is a device that starts up."""

    training: TrainingProject

    @property
    def flash(self) -> Path:
        return self.training.project.folder / FLASH_FILE

    def erase(self) -> None:
        """The device as it was when it was new."""
        slot = self.training.block.bytes + 2 * _SECTOR
        self.flash.write_bytes(b"\xff" * (2 * -(-slot // _SECTOR) * _SECTOR))

    def commit(self, state: State, cut: tuple[int, int] | None = None) -> Commit:
        """Make a state last.

        cut: power goes in this operation of the flash, counted from 1, at this place of it.
        Raises PowerCut then, CompileError for a store of another model.
        """
        power = np.array(cut or (0, 0), np.uint32)
        ask = [self._set(state), Sample((power,), command=Command.COMMIT)]
        types: list[Sequence[TensorType]] = [[], [_COUNT, _COUNT]]
        if self.training.locked is not None:  # the secure world sees what the last commit says
            ask, types = [Sample((), command=Command.ROLLBACK), *ask], [[_COUNT], *types]
        *_, result = self._send(ask, types)
        self._check(result, "commit")
        counter, operations = (int(o[0]) for o in result.outputs)
        return Commit(counter, operations)

    def load(self) -> tuple[dict[Value, Array], int]:
        """What a device has after it starts: the state committed last, or the compiled one; and the
        store's counter, 0 without a commit.

        Raises NotAuthentic for a store of a protected model that somebody else wrote."""
        block = self.training.state_type
        ask = [Sample((), command=Command.ROLLBACK), Sample((), command=Command.GET_STATE)]
        counter, state = self._send(ask, [[_COUNT], [block]])
        self._check(counter, "load")
        return dict(self.training.unpack(state.outputs[0])), int(counter.outputs[0][0])

    def export_delta(self, state: State) -> bytes:
        """What was learnt, as `train/delta.py` reads it. Raises CompileError when it is too large
        for the arena, which holds it on the device."""
        ask = [self._set(state), Sample((), command=Command.EXPORT_DELTA)]
        *_, result = self._send(ask, [[], [_COUNT, self._delta_type]])
        self._check(result, "export")
        count, data = result.outputs
        return data[: int(count[0])].tobytes()

    def apply_delta(self, delta: bytes, state: State) -> tuple[dict[Value, Array], int]:
        """The state after a device in `state` took the delta, and the delta's counter.

        Raises BadInput for a delta that the device refuses; its state is then as it was.
        """
        most = self._delta_type.bytes
        data = np.zeros(most, np.uint8)
        data[: min(len(delta), most)] = np.frombuffer(delta[:most], np.uint8)
        size = np.array([len(delta)], np.uint32)
        ask = [self._set(state), Sample((size, data), command=Command.APPLY_DELTA)]
        ask.append(Sample((), command=Command.GET_STATE))
        _, result, after = self._send(ask, [[], [_COUNT], [self.training.state_type]])
        now = dict(self.training.unpack(after.outputs[0]))
        if result.status in (_DAMAGED, _FOREIGN_DELTA, _BUFFER_TOO_SMALL, _DELTA_NOT_AUTHENTIC):
            same = all(np.array_equal(now[v], state[v]) for v in state)
            what = {_DAMAGED: "damaged", _FOREIGN_DELTA: "of another model"}
            what[_DELTA_NOT_AUTHENTIC] = "not authorised for this device, or was taken before"
            raise BadInput(
                f"the device refuses the delta: it is {what.get(result.status, 'too large')}",
                expected=None if same else "the state to stay as it was",
            )
        self._check(result, "apply")
        return now, int(result.outputs[0][0])

    @property
    def _delta_type(self) -> TensorType:
        length = self.training.block.bytes
        return TensorType((length + length // 64 + 64 + _TAG_BYTES,), DType.UINT8)

    def _set(self, state: State) -> Sample:
        return Sample((self.training.pack(state),), command=Command.SET_STATE)

    def _image(self) -> bytes:
        if not self.flash.is_file():
            self.erase()
        return self.flash.read_bytes()

    def _send(self, ask: Sequence[Sample], types: Sequence[Sequence[TensorType]]) -> list[Result]:
        self._image()
        project = self.training.project
        return run_sequence(project.elf(), project.board, types, ask, flash=self.flash)

    def _check(self, result: Result, what: str) -> None:
        if result.status == _FOREIGN_STORE:
            raise CompileError(
                f"{self.flash} holds what another model has learnt",
                hint=f"--fresh does without it; remove {self.flash} to forget it",
            )
        if result.status == _STORE_NOT_AUTHENTIC:
            counter = int(result.outputs[0][0])
            used = f"commit {counter}" if counter else "what was compiled"
            raise NotAuthentic(
                f"{self.flash} holds a commit that this device did not make, or an old one: it is "
                f"refused, and the device uses {used}",
                hint=f"--fresh does without it; remove {self.flash} to forget it",
            )
        if result.status == _BUFFER_TOO_SMALL:
            raise CompileError("the arena of the device is too small for the delta")
        check_gpu(result)
        if result.status != _OK:
            raise InternalError(f"{what}: the device returned status {result.status}")
