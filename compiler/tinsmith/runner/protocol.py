"""The files that runner and firmware exchange; `runtime_c/harness/main.c` is the other side."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..errors import InternalError
from ..ir.dtypes import Array, TensorType

_COMMAND = struct.Struct("<HH")
_RECORD = struct.Struct("<IIQ")
_TRACE = struct.Struct("<iIQ")

POWER_CUT = 14
WRONG_IMAGE = 16
REFUSED = 8  # ts_status.h
GPU_TEXTS = {  # ts_status.h
    48: "there is no NVIDIA driver, libcuda.so.1, or it is older than CUDA 11.4",
    49: "the NVIDIA driver finds no GPU",
    50: "the GPU of this machine is not of the compute capability that the model was compiled for",
    51: "the NVIDIA driver reported a failure",
}
# Exit statuses of the firmware (harness.h).
EXIT_TEXTS = {
    10: "it found no samples.bin",
    11: "it could not write its outputs",
    12: "samples.bin does not match the model",
    13: "the processor took a fault (a bad access, or the stack overflowed)",
    POWER_CUT: "its power was cut",
    15: "the secure world gave up: a fault, or a disturbed check",
    WRONG_IMAGE: "the secure image was made for another non-secure image",
}


class Command(IntEnum):
    """What the firmware is asked for; `runtime_c/harness`, `main.c`, `learn.c` and `store.c`, say
    what goes in and out."""

    RUN = 0
    TRAIN = 1
    GET_STATE = 2
    SET_STATE = 3
    COMMIT = 4
    ROLLBACK = 5
    EXPORT_DELTA = 6
    APPLY_DELTA = 7
    TIME = 16


@dataclass(frozen=True)
class Sample:
    """One command: the model's index in the firmware, and its data in device layout and dtype."""

    inputs: tuple[Array, ...]
    model: int = 0
    command: Command = Command.RUN


@dataclass(frozen=True)
class Result:
    """What the firmware answers. status: a ts_status. ticks: of the board's counter."""

    status: int
    stack_bytes: int
    ticks: int
    outputs: tuple[Array, ...]


@dataclass(frozen=True)
class TraceRecord:
    """One output of one node, and the ticks since the one before."""

    node: int
    ticks: int
    data: bytes


def encode_samples(samples: Sequence[Sample]) -> bytes:
    """samples.bin"""
    parts: list[bytes] = []
    for sample in samples:
        parts.append(_COMMAND.pack(sample.model, sample.command))
        parts += [_little(array).tobytes() for array in sample.inputs]
    return b"".join(parts)


def result_bytes(types: Sequence[TensorType]) -> int:
    """Bytes in outputs.bin of one run of a model with outputs of these types."""
    return _RECORD.size + sum(t.bytes for t in types)


def decode_outputs(data: bytes, types: Sequence[Sequence[TensorType]]) -> list[Result]:
    """outputs.bin; `types`: of the outputs, per run. Raises InternalError if it is cut short."""
    results: list[Result] = []
    at = 0
    for outputs in types:
        if at + result_bytes(outputs) > len(data):
            raise InternalError(f"outputs.bin ends in run {len(results)} of {len(types)}")
        status, stack, ticks = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        arrays: list[Array] = []
        for type_ in outputs:
            flat = np.frombuffer(data, type_.dtype.numpy.newbyteorder("<"), type_.elements, at)
            arrays.append(flat.reshape(type_.shape).astype(type_.dtype.numpy))
            at += type_.bytes
        results.append(Result(status, stack, ticks, tuple(arrays)))
    return results


def decode_trace(data: bytes) -> Iterator[TraceRecord]:
    """trace.bin, as far as it goes."""
    at = 0
    while at + _TRACE.size <= len(data):
        node, size, ticks = _TRACE.unpack_from(data, at)
        at += _TRACE.size
        yield TraceRecord(node, ticks, data[at : at + size])
        at += size


def _little(array: Array) -> Array:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
