"""Skips single instructions of the gateway while it looks at a request that it must refuse.

Every instruction that it executes between its entry and its return is skipped once, the later
passes of a loop too, each in a fresh call. What comes out of that call is what counts.
"""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .gdb_remote import Stuck, debugged
from .trust_pair import BYTES, Pair
from .trust_requests import Request, canary

LONGEST = 4000  # instructions of a refusal
NOT_SET = 0xFFFF_FFFF
_LR = 14
PATIENCE = 5.0  # seconds; a call takes a thousandth


@dataclass(frozen=True)
class Trial:
    """What a call did.

    end: "returned", "gave up", "fault", "stuck" or "locked up". answered: the other world's memory,
    or secure memory that the request pointed at, has changed.
    """

    end: str
    status: int
    answered: bool


class SkipBench:
    """A stopped machine that makes one call after the other from the same state.

    pair: a release pair that waits in its loop: its folder has no probe.bin.

    A bench of another door has its own `door`, `last` (where an answer leaves), `ask`, `accepts`.
    over: functions whose instructions a trace leaves out.
    """

    door, last = "__acle_se_ts_gateway_call", "ts_release"
    longest, over = LONGEST, ()

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._entry = pair.secrets[self.door]
        self._returned = pair.symbols["probe_returned"]
        self._give_up = pair.secrets["ts_give_up"]
        self._fault = pair.secrets["ts_secure_fault"]
        self._machine = contextlib.ExitStack()
        self._start()
        remote = self._remote
        self._registers = remote.save()
        self._secure_at = remote.register(13) - 1024
        self._secure = remote.read(self._secure_at, pair.secrets["ts_bss_end"] - self._secure_at)
        data = pair.symbols["ts_data_start"]
        self._other_at, self._other_bytes = data, pair.symbols["ts_bss_end"] - data
        self._other = remote.read(self._other_at, self._other_bytes)
        self._canary_at = canary(pair)

    def _start(self) -> None:
        argv = self._pair.argv()
        at = argv.index("-icount")  # a debugger is slow enough
        self._machine.close()
        start = debugged([*argv[:at], *argv[at + 2 :]], self._pair.folder)
        self._remote = self._machine.enter_context(start)
        self._remote.run_until([self._entry])
        self._at_entry = True

    def close(self) -> None:
        self._machine.close()

    def accepts(self, request: Any, status: int) -> bool:
        """Whether the caller takes this for an answer."""
        return status == (0x5AC3961E + 0x0E4D2B71 * request.call) & NOT_SET  # TS_ANSWERED

    def _prepare(self, request: Any) -> None:
        """The state at the entry of the gateway, with this request."""
        remote = self._remote
        if not self._at_entry:
            self._recover()
        self._at_entry = False
        remote.restore(self._registers)
        remote.write(self._secure_at, self._secure)
        remote.write(self._other_at, self._other)
        self.ask(request)
        self._watched = self._look()

    def ask(self, request: Request) -> None:
        """Put the request into memory and registers."""
        remote, symbols = self._remote, self._pair.symbols
        inputs = [symbols["probe_input"] + BYTES * i for i in range(2)]
        first = inputs[0] if request.first is None else request.first
        second = inputs[1] if request.second is None else request.second
        output = symbols["probe_output"] if request.output is None else request.output
        words = struct.pack("<4I", first, second, 0, output)
        # Where it may not lie, a good request lies all the same.
        spare = symbols["probe_request"]
        at = (spare if request.at is None else request.at) + request.odd
        remote.write(self._canary_at, words.ljust(4 * BYTES, b"\x5a"))
        with contextlib.suppress(ValueError):
            remote.write(at, words)
        remote.set_register(0, request.call)
        remote.set_register(1, at)
        state = (request.next, request.used, request.busy)
        pairs = [word for value in state for word in (value, value ^ NOT_SET)]
        remote.write(self._pair.secrets["state"], struct.pack("<6I", *pairs))

    def _recover(self) -> None:
        self._remote.reset()
        self._remote.run_until([self._entry])

    def _look(self) -> bytes:
        """What no refused call may change."""
        other = self._remote.read(self._other_at, self._other_bytes)
        return other + self._remote.read(self._canary_at, 4 * BYTES)

    def trace(self, request: Any) -> list[int]:
        """Addresses of the instructions from the entry to the return, or to where it gives up."""
        self._prepare(request)
        found = [self._remote.pc]
        over = [self._pair.secrets[name] for name in self.over]
        while len(found) < self.longest:
            self._remote.step()
            at = self._remote.pc
            if at in over:
                at = self._remote.run_until([self._remote.register(_LR) & ~1])
            if at in (self._returned, self._give_up):
                break
            found.append(at)
        assert len(found) < self.longest, "a refusal is not so long"
        if at == self._returned:
            self._remote.run_until([self._entry])
        self._at_entry = True
        return found

    def inside(self, request: Any, function: str) -> list[int]:
        """Addresses of the instructions of the first call of a function."""
        self._prepare(request)
        at = self._remote.run_until([self._pair.secrets[function]])
        found, back = [at], self._remote.register(_LR) & ~1
        while at != back:
            self._remote.step()
            at = self._remote.pc
            found.append(at)
        self._remote.run_until([self._returned, self._give_up])
        self._remote.run_until([self._entry])
        self._at_entry = True
        return found[:-1]

    def call(self, request: Any) -> Trial:
        """Nothing is skipped."""
        self._prepare(request)
        return self._finish()

    def without(self, request: Any, trace: Sequence[int], index: int) -> Trial:
        """Skip the instruction that is `index` in the trace."""
        try:
            try:
                self._skip(request, trace, index)
            except Stuck:  # on a machine that stands still for a while
                self._start()
                self._skip(request, trace, index)
            return self._finish()
        except ConnectionError:  # QEMU ends when the core locks up
            pass
        # What it had written cannot be seen any more: once again, only as far as an answer.
        self._start()
        self._skip(request, trace, index)
        try:
            end = self._remote.run_until([self._pair.secrets[self.last]], timeout=PATIENCE)
        except (ConnectionError, Stuck):
            end = 0
        self._start()
        return Trial("locked up", NOT_SET, end != 0)

    def _skip(self, request: Any, trace: Sequence[int], index: int) -> None:
        self._prepare(request)
        at = trace[index]
        passes = trace[:index].count(at)
        if at != self._remote.pc:
            self._remote.run_until([at])
        for _ in range(passes):
            self._remote.step()
            if self._remote.pc != at:
                self._remote.run_until([at])
        self._remote.skip()

    def _finish(self) -> Trial:
        """Run to the end of the call, then to where secure memory can be seen."""
        ends = {self._give_up: "gave up", self._fault: "fault"}
        try:
            at = self._remote.run_until([self._returned, *ends], timeout=PATIENCE)
            if at != self._returned:
                self._at_entry = at == self._give_up  # still in the secure world, in no handler
                return Trial(ends[at], NOT_SET, self._changed())
            status, wrote = self._remote.register(0), self._wrote()
            self._at_entry = self._remote.run_until([self._entry, *ends]) == self._entry
            return Trial("returned", status, wrote or self._changed())
        except Stuck:
            return Trial("stuck", NOT_SET, self._changed())

    def _wrote(self) -> bool:
        other = self._remote.read(self._other_at, self._other_bytes)
        return other != self._watched[: self._other_bytes]

    def _changed(self) -> bool:
        """Zeros in secure memory are no answer: a disturbed wipe may go too far."""
        if self._wrote():
            return True
        try:
            canary = self._remote.read(self._canary_at, 4 * BYTES)
        except ValueError:  # stopped in the other world, which does not see secure memory
            return False
        before = self._watched[self._other_bytes :]
        return any(new not in (0, old) for new, old in zip(canary, before, strict=True))


@dataclass(frozen=True)
class Findings:
    """tried: skipped instructions. ends: how the calls ended. answered: what must not be."""

    tried: int
    ends: Counter[str]
    answered: list[tuple[str, int]]


def skip_each(
    bench: SkipBench,
    requests: Mapping[str, Any],
    chosen: Mapping[str, Sequence[int]] | None,
    inside: str | None = None,
) -> Findings:
    """Skip instructions of every request. chosen: which of each, modulo its count; None: all.
    inside: only those of the first call of this function."""
    ends: Counter[str] = Counter()
    answered: list[tuple[str, int]] = []
    tried = 0
    for name, request in requests.items():
        trace = bench.inside(request, inside) if inside else bench.trace(request)
        which = range(len(trace)) if chosen is None else [i % len(trace) for i in chosen[name]]
        for index in which:
            trial = bench.without(request, trace, index)
            wrong = trial.end == "returned" and bench.accepts(request, trial.status)
            ends[f"{trial.end}{', status OK' if wrong else ''}"] += 1
            tried += 1
            if trial.answered:
                answered.append((name, trace[index]))
    return Findings(tried, ends, answered)
