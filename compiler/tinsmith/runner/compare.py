"""Verifies a compiled project against the numpy oracle; finds the first node that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

import numpy as np

from ..errors import DoesNotFit, VerificationFailed
from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value
from ..ir.interpret import trace as oracle_trace
from ..quant.batch import run_many
from ..serial_link.link import WrongFirmware
from ..toolchain.compile_c import build
from .execute import Progress
from .layer_trace import device_trace
from .learnt import boot
from .project import Inputs, Project, device_samples
from .run import RunResult, run_project

# float32: |device − oracle| ≤ ATOL + RTOL · |oracle|, as sums depend on their order.
FLOAT_RTOL = 1e-3
FLOAT_ATOL = 1e-4


@dataclass(frozen=True)
class Mismatch:
    """Where device and oracle differ first: by sample, then by order of execution.

    index: of the element, in the device's layout. count: differing elements of `elements`.
    node: None when only the outputs differ and no node does, and in a protected project.
    """

    sample: int
    node: Node | None
    value: Value
    index: tuple[int, ...]
    expected: float
    got: float
    count: int
    elements: int
    protected: bool = False

    def error(self) -> VerificationFailed:
        op = "" if self.node is None else f"{self.node.op.name} "
        unknown = "only the outputs of a protected project can be compared, not its nodes"
        origin = self.node.origin if self.node is not None else None
        return VerificationFailed(
            f"sample {self.sample}: {op}{self.value.name!r} differs from the oracle in "
            f"{self.count} of {self.elements} elements; first at {list(self.index)}: "
            f"{self.got:g}",
            node=str(origin) if origin is not None and origin.onnx_op else None,
            expected=f"{self.expected:g}",
            hint=unknown if self.protected else None,
        )


@dataclass(frozen=True)
class VerifyResult:
    """How device and oracle compare. max_difference: over all outputs, in LSB or in reals."""

    samples: int
    mismatch: Mismatch | None
    max_difference: float
    run: RunResult

    @property
    def ok(self) -> bool:
        return self.mismatch is None

    def check(self) -> None:
        """Raises VerificationFailed on a mismatch."""
        if self.mismatch is not None:
            raise self.mismatch.error()


def verify(
    folder: str | PathLike[str],
    inputs: Inputs | None = None,
    *,
    fresh: bool = False,
    progress: Progress | None = None,
) -> VerifyResult:
    """Compare the device's outputs with the oracle's: bit-exact, float32 within the tolerance.

    Both have what the device has learnt and committed, unless `fresh`.

    inputs: as for `run`; None: four seeded samples, two random and two of extremes. On a mismatch
    the project is rebuilt with a trace to find the first node that differs. Raises as `run` does.
    """
    project = boot(folder, fresh=fresh)
    graph = project.graph
    samples = seeded_samples(graph) if inputs is None else device_samples(graph, inputs)
    result = run_project(project, samples, progress=progress)
    expected = run_many(graph, samples)
    pairs = list(zip(result.device_outputs, expected, strict=True))
    largest = max(float(np.abs(_real(g) - _real(e)).max(initial=0)) for g, e in pairs)
    wrong = np.zeros(len(samples[0]), bool)
    for got, want in pairs:
        wrong |= differs(got, want).reshape(len(wrong), -1).any(axis=1)
    mismatch = None
    if wrong.any():
        first = int(np.argmax(wrong))
        mismatch = find_first_difference(project, [s[first] for s in samples], first)
        mismatch = mismatch or _output_difference(
            graph, first, [(g[first], e[first]) for g, e in pairs]
        )
    if mismatch is not None and project.protected:
        mismatch = replace(mismatch, protected=True)
    return VerifyResult(len(samples[0]), mismatch, largest, result)


def find_first_difference(
    project: Project, inputs: Sequence[Array], sample: int
) -> Mismatch | None:
    """Rebuild with a trace, run one sample, compare node by node.

    None if no node differs, if the trace does not fit on the board beside the model, if the board
    at a serial port has no trace firmware, or for a protected project: its secure image starts only
    the firmware it was made with.
    """
    graph = project.graph
    if project.protected:
        return None
    try:
        build(project.folder, project.board, trace=True)
    except DoesNotFit:
        return None
    try:
        traced = list(device_trace(project, inputs))
    except WrongFirmware:
        return None
    for (node, arrays), (_, outputs) in zip(oracle_trace(graph, inputs), traced, strict=True):
        for value, want, got in zip(node.outputs, arrays, outputs, strict=False):
            if differs(got, want).any():
                return _mismatch(sample, node, value, got, want)
    return None


def differs(got: Array, want: Array) -> Array:
    """Per element, whether the device's value is wrong. NaN equals NaN."""
    if want.dtype != np.float32:
        return got != want
    return ~np.isclose(got, want, rtol=FLOAT_RTOL, atol=FLOAT_ATOL, equal_nan=True)


def seeded_samples(graph: Graph) -> list[Array]:
    """Four samples per input: int8 over the full range, then only its ends and the zero point;
    float32 normal, then three times as large."""
    rng = np.random.default_rng(0)
    samples: list[Array] = []
    for value in graph.inputs:
        shape = (2, *value.type.shape)
        if value.type.dtype is DType.FLOAT32:
            normal = rng.standard_normal((4, *value.type.shape))
            normal[2:] *= 3
            samples.append(normal.astype(np.float32))
            continue
        low, high = value.type.dtype.range
        zero = value.type.zero_point if value.type.quant else 0
        dtype = value.type.dtype.numpy
        random = rng.integers(low, high, shape, endpoint=True)
        extreme = rng.choice([low, high, zero], shape)
        samples.append(np.concatenate([random, extreme]).astype(dtype))
    return samples


def _output_difference(
    graph: Graph, sample: int, pairs: Sequence[tuple[Array, Array]]
) -> Mismatch | None:
    for value, (got, want) in zip(graph.outputs, pairs, strict=True):
        if differs(got, want).any():
            return _mismatch(sample, None, value, got, want)
    return None


def _mismatch(sample: int, node: Node | None, value: Value, got: Array, want: Array) -> Mismatch:
    wrong = differs(got, want)
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    count = int(np.count_nonzero(wrong))
    expected, found = float(want[index]), float(got[index])
    return Mismatch(sample, node, value, index, expected, found, count, wrong.size)


def _real(array: Array) -> Array:
    return array.astype(np.float64)
