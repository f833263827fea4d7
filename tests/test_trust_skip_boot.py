"""No single skipped instruction of the check at boot starts another non-secure image.

Here a sample of them; with TINSMITH_ALL_SKIPS=1 every instruction at its first pass, and the end of
the check, which compares and decides, at each pass. A disturbed hash is another one: of its inside
there is a sample.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from .gdb_remote import GdbRemote, Stuck, debugged
from .trust_pair import BOARDS, Pair, build_probe, edit_source

ALL = bool(os.environ.get("TINSMITH_ALL_SKIPS"))
SAMPLES, IN_HASH = 24, 6
LONGEST, LAST = 60_000, 400
PATIENCE = 20.0  # seconds; the whole hash is computed again
_PC, _LR = 15, 14


class BootBench:
    """A machine that is reset before each skip. What counts is whether the other world starts."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._check = pair.secrets["ts_image_by_difference"]
        self._give_up, self._fault = pair.secrets["ts_give_up"], pair.secrets["ts_secure_fault"]
        self._started = pair.symbols["ts_reset"]
        self._hash = pair.secrets["take_block"]
        self._machine = ExitStack()
        self._start()

    def _start(self) -> None:
        self._machine.close()
        argv = self._pair.argv()
        at = argv.index("-icount")
        start = debugged([*argv[:at], *argv[at + 2 :]], self._pair.folder)
        self._remote: GdbRemote = self._machine.enter_context(start)

    def close(self) -> None:
        self._machine.close()

    def trace(self) -> list[int]:
        """From the entry of the check to where the secure world gives up; no hash's inside."""
        self._to(self._check)
        found = [self._check]
        while len(found) < LONGEST:
            self._remote.step()
            at = self._remote.pc
            if at == self._hash:
                at = self._remote.run_until([self._remote.register(_LR) & ~1])
            if at in (self._give_up, self._started):
                return found
            found.append(at)
        raise AssertionError("a boot is not so long")

    def inside(self) -> list[int]:
        """Of the first block of the hash."""
        self._to(self._hash)
        found, back = [self._hash], self._remote.register(_LR) & ~1
        while found[-1] != back:
            self._remote.step()
            found.append(self._remote.pc)
        return found[:-1]

    def end(self) -> str:
        """Where the boot goes on to: "started", "gave up" or "fault"."""
        ends = {self._started: "started", self._give_up: "gave up", self._fault: "fault"}
        try:
            return ends[self._remote.run_until(ends, timeout=PATIENCE)]
        except Stuck:
            return "stuck"

    def boot(self) -> str:
        self._to(self._check)
        return self.end()

    def without(self, trace: Sequence[int], index: int) -> str:
        """The end of a boot that skips the instruction that is `index` in the trace."""
        at = trace[index]
        try:
            self._to(self._check)
            for _ in range(trace[:index].count(at) + (at != self._check)):
                if self._remote.pc == at:
                    self._remote.step()
                if self._remote.pc != at:
                    self._remote.run_until([at])
            self._remote.skip()
            return self.end()
        except ConnectionError:  # QEMU ends when the core locks up
            self._start()
            return "locked up"

    def _to(self, address: int) -> None:
        try:
            self._remote.reset()
        except ConnectionError:
            self._start()
        self._remote.run_until([address], timeout=PATIENCE)


def changed(folder: Path, board: str, edit: Callable[[Path], None] | None = None) -> Pair:
    """A release pair whose non-secure image has one other bit than its record."""
    pair = build_probe(folder, board, debug=False, edit=edit)
    elf = bytearray(pair.nonsecure.read_bytes())
    elf[elf.index(b"probe.bin")] ^= 1
    pair.nonsecure.write_bytes(elf)
    return pair


def skip(bench: BootBench, trace: Sequence[int], chosen: Sequence[int]) -> Counter[str]:
    """How the boots ended; one that started by which instruction was left out."""
    ends: Counter[str] = Counter()
    for index in chosen:
        end = bench.without(trace, index)
        ends[f"started at 0x{trace[index]:08x}" if end == "started" else end] += 1
    return ends


@pytest.mark.parametrize("board", BOARDS)
def test_a_skipped_instruction_starts_no_other_image(board: str, tmp_path: Path) -> None:
    own = build_probe(tmp_path / "own", board, debug=False)
    with closing(BootBench(own)) as bench:
        assert bench.boot() == "started"
    rng = random.Random(0)
    with closing(BootBench(changed(tmp_path / "changed", board))) as bench:
        assert bench.boot() == "gave up"
        trace = bench.trace()
        first = sorted({at: i for i, at in reversed([*enumerate(trace)])}.values())
        last = range(max(0, len(trace) - LAST), len(trace))
        some = rng.sample(first, SAMPLES) + rng.sample(last, SAMPLES)
        ends = skip(bench, trace, sorted({*first, *last}) if ALL else some)
        inner = bench.inside()
        ends += skip(bench, inner, rng.sample(range(len(inner)), 200 if ALL else IN_HASH))
    print(f"{board}: {sum(ends.values())} of {len(trace)} skipped, {dict(ends)}")
    assert not any("started" in end for end in ends), ends


def looked_at_once(secure: Path) -> None:
    """A boot that believes the first form alone."""
    edits = {
        "if (other != ": "if (other == 0 && other != ",
        "one + other -": "other & 0 &",
    }
    edit_source(secure / "harness" / "start.c", edits)


def test_control_one_look_is_not_enough(tmp_path: Path) -> None:
    with closing(BootBench(changed(tmp_path, "mps2-an505", looked_at_once))) as bench:
        trace = bench.trace()
        ends = skip(bench, trace, range(len(trace) - 40, len(trace)))
    assert any("started" in end for end in ends), ends
