"""Times calls against each other: in blocks, in a new random order every round.

What disturbs the machine meets all of them alike, so a ratio is taken within each round; its
interval is a bootstrap over the rounds. A block is the median of short batches, because being
preempted meets only a few of them.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array

BATCH_SECONDS = 0.0004
BATCHES = 21  # of a block
ROUNDS = 41
_PAUSE_SECONDS = 0.005
_MOST_PAUSES = 100
_RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Ratio:
    """The median of a ratio, and its 95 % interval."""

    median: float
    low: float
    high: float


def interleave(
    calls: Sequence[Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Seconds of one call, float64 [calls, rounds]; every call was warmed up before."""
    counts = [_calls_per_batch(call) for call in calls]
    random = np.random.default_rng(seed)
    seconds = np.zeros((len(calls), rounds))
    for r in range(rounds):
        if progress is not None:
            progress(r, rounds)
        for i in random.permutation(len(calls)):
            _settle()
            _batch(calls[i], counts[i])  # its data and its threads come back
            seconds[i, r] = float(np.median([_batch(calls[i], counts[i]) for _ in range(BATCHES)]))
    return seconds


def _settle() -> None:
    """Waits for the threads of the one before to stop spinning: onnxruntime's do for 30 ms."""
    for _ in range(_MOST_PAUSES):
        before = time.process_time()
        time.sleep(_PAUSE_SECONDS)
        if time.process_time() - before < _PAUSE_SECONDS / 10:
            return


def _batch(call: Callable[[], object], count: int) -> float:
    """Seconds of one of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _calls_per_batch(call: Callable[[], object]) -> int:
    """After so many calls that it is warm."""
    fastest = min(_batch(call, 1) for _ in range(10))
    return max(1, math.ceil(BATCH_SECONDS / fastest))


def ratio(theirs: Array, ours: Array, seed: int = 0) -> Ratio:
    """Of two rows of `interleave`: how many times as long they take as we do."""
    paired = theirs / ours
    picks = np.random.default_rng(seed).integers(0, len(paired), (_RESAMPLES, len(paired)))
    low, high = np.percentile(np.median(paired[picks], axis=1), _PERCENTILES)
    return Ratio(float(np.median(paired)), float(low), float(high))


@dataclass
class CpuLoad:
    """How many cores other processes keep busy while this one measures."""

    _busy: float = 0.0
    _own: float = 0.0
    _wall: float = 0.0

    def start(self) -> None:
        self._busy, self._own, self._wall = _busy_seconds(), time.process_time(), time.monotonic()

    def others(self) -> float:
        """Cores, since `start`; 0 where the system does not say."""
        wall = time.monotonic() - self._wall
        busy = _busy_seconds() - self._busy
        if wall <= 0 or busy <= 0:
            return 0.0
        return max(0.0, (busy - (time.process_time() - self._own)) / wall)


def _busy_seconds() -> float:
    """Of all cores together, since the system started; Linux only, 0 elsewhere."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(f) for f in file.readline().split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
