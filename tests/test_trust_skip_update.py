"""No single skipped instruction makes the secure world take what it did not make.

Here a sample of them; with TINSMITH_ALL_SKIPS=1 of one request every instruction at its first pass
and the end, which compares and decides, at each pass, and more of the others.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tinsmith.toolchain.update_view import UpdateView
from tinsmith.trust.updates import DELTA, STATE, tag_of

from .trust_pair import BOARDS, Pair, build_probe, edit_source
from .trust_skip import NOT_SET, SkipBench, Trial, skip_each

# Of the requests: what is refused before a code is computed, and two for which it is.
WITHOUT_CODE = ["an old state", "a delta again", "a tag into secure memory", "another length"]
WITH_CODE = ["a weight", "a delta"]
ALL = bool(os.environ.get("TINSMITH_ALL_SKIPS"))
SAMPLES = 6  # of every reason to refuse
PROBE = Path(__file__).resolve().parent / "c" / "update_probe.c"
KEY, BASE = bytes(range(32)), bytes(range(50, 82))
LENGTH = 64  # of states and deltas
MAKE = 1  # TS_TAG_STATE
DATA = bytes((7 * i) % 251 for i in range(LENGTH))


@dataclass(frozen=True)
class Update:
    """A request as the secure world meets it. Addresses: None: the good one. floor, sequence: what
    the secure world remembers."""

    kind: int = STATE
    counter: int = 5
    data: bytes = DATA
    tag: bytes = b""
    at: int | None = None
    data_at: int | None = None
    tag_at: int | None = None
    length: int = LENGTH
    floor: int = 4
    sequence: int = 2


def good(kind: int = STATE, sequence: int = 3) -> Update:
    counter = 0 if kind == DELTA else 5
    tag = tag_of(KEY, BASE, kind, counter, DATA, sequence) if kind != MAKE else b"\xaa" * 36
    return Update(kind, counter, DATA, tag)


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def forged(pair: Pair) -> Mapping[str, Update]:
    """What must be refused; but for its reason each is good."""
    state, delta, make = good(), good(DELTA), good(MAKE)
    secret = pair.zone.secure.ram.end - 256
    return {
        "a weight": replace(state, data=_flip(DATA, 9)),
        "the tag": replace(state, tag=_flip(state.tag, 4)),
        "no tag": replace(state, tag=bytes(36)),
        "another counter": replace(state, counter=6),
        "another sequence": replace(state, tag=_flip(state.tag, 0)),
        "an old state": replace(state, floor=6),
        "a delta as a state": replace(state, tag=delta.tag),
        "a delta": replace(delta, data=_flip(DATA, 63)),
        "the tag of a delta": replace(delta, tag=_flip(delta.tag, 35)),
        "a delta again": replace(delta, sequence=3),
        "a state as a delta": replace(delta, tag=state.tag),
        "a tag for an old state": replace(make, floor=6),
        "a tag into secure memory": replace(make, tag_at=secret),
        "a tag of secure memory": replace(make, data_at=secret),
        "a request in secure memory": replace(make, at=secret),
        "an unknown kind": replace(make, kind=4),
        "another length": replace(make, length=LENGTH - 1),
    }


class UpdateBench(SkipBench):
    """Asks by `ts_update`. An answer is what the caller did not have: not his request in another
    place of his memory, nor zeros, where a disturbed copy or wipe may put them."""

    door, last, longest = "__acle_se_ts_update", "ts_update_finish", 40_000
    over = ("take_block",)  # a disturbed hash is another one

    def accepts(self, request: Update, status: int) -> bool:
        return status == (0x2C6AD395 + 0x11735F21 * request.kind) & NOT_SET  # TS_UPDATE_DONE

    def ask(self, request: Update) -> None:
        remote, symbols = self._remote, self._pair.symbols
        remote.write(symbols["probe_data"], request.data)
        remote.write(symbols["probe_tag"], request.tag.ljust(LENGTH, b"\0"))
        data = symbols["probe_data"] if request.data_at is None else request.data_at
        tag = symbols["probe_tag"] if request.tag_at is None else request.tag_at
        words = (request.kind, request.counter, 0, request.length, data, tag)
        packed = struct.pack("<6I", *words)
        remote.write(self._canary_at, packed.ljust(256, b"\x5a"))
        at = symbols["probe_request"]
        remote.write(at, packed)
        remote.set_register(0, at if request.at is None else request.at)
        self._given = {0, *packed, *request.data, *request.tag}
        kind = STATE if request.kind == MAKE else request.kind
        last = (
            request.sequence if request.kind == MAKE else int.from_bytes(request.tag[:4], "little")
        )
        self._code = tag_of(KEY, BASE, kind, request.counter, request.data, last)[4:]
        pairs = [w for v in (request.floor, request.sequence) for w in (v, v ^ NOT_SET)]
        remote.write(self._pair.secrets["update_state"], struct.pack("<4I", *pairs))

    def _finish(self) -> Trial:
        """A fault wipes secure memory: what a disturbed loop wrote there before tells nobody."""
        trial = super()._finish()
        return replace(trial, answered=self._wrote()) if trial.end == "fault" else trial

    def _wrote(self) -> bool:
        before = self._watched[: self._other_bytes]
        now = self._remote.read(self._other_at, self._other_bytes)
        pieces = [self._code[i : i + 3] for i in range(len(self._code) - 2)]
        told = any(piece in now and piece not in before for piece in pieces)
        return told or any(
            b != a and b not in self._given for a, b in zip(before, now, strict=True)
        )


def probe(folder: Path, board: str, edit: Callable[[Path], None] | None = None) -> Pair:
    update = UpdateView(KEY, BASE.hex(), LENGTH)
    return build_probe(folder, board, debug=False, update=update, probe=PROBE, edit=edit)


@pytest.mark.parametrize("board", BOARDS)
def test_a_skipped_instruction_accepts_nothing(board: str, tmp_path: Path) -> None:
    pair = probe(tmp_path, board)
    requests = forged(pair)
    with closing(UpdateBench(pair)) as bench:
        for kind in (STATE, DELTA, MAKE):
            trial = bench.call(good(kind))
            assert bench.accepts(good(kind), trial.status), kind
            assert trial.answered == (kind == MAKE)
        for name, request in requests.items():
            trial = bench.call(request)
            assert not bench.accepts(request, trial.status), name
            assert not trial.answered, name
        rng = random.Random(0)

        def some(names: Sequence[str], count: int) -> dict[str, list[int]]:
            return {name: [rng.randrange(2**20) for _ in range(count)] for name in names}

        names = list(requests) if ALL else WITHOUT_CODE + WITH_CODE[BOARDS.index(board) :: 2]
        tried = {name: requests[name] for name in names}
        chosen: dict[str, Sequence[int]] = {**some(names, 100 if ALL else SAMPLES)}
        if ALL:
            trace = bench.trace(requests["a weight"])
            first = {at: i for i, at in reversed([*enumerate(trace)])}
            chosen["a weight"] = [*first.values(), *range(len(trace) - 600, len(trace))]
        found = skip_each(bench, tried, chosen)
        hashed = {"a weight": requests["a weight"]}
        count = 100 if ALL else SAMPLES
        inner = skip_each(bench, hashed, some(["a weight"], count), "take_block")
    print(f"{board}: {found.tried} skipped, {dict(found.ends)}; hash {inner.tried} {inner.ends}")
    for each in (found, inner):
        assert not each.answered, [f"{name} at 0x{at:08x}" for name, at in each.answered]
        assert not any("status OK" in end for end in each.ends), each.ends


def one_form_only(secure: Path) -> None:
    """A secure world whose second form always agrees with the first."""
    edits = {"good += same == TS_MAC_BYTES;": "good += same <= TS_MAC_BYTES;"}
    edit_source(secure / "harness" / "update.c", edits)


def test_control_one_form_of_the_check_is_not_enough(tmp_path: Path) -> None:
    """The same skips do find an answer where the codes are compared once."""
    pair = probe(tmp_path, "mps2-an505", one_form_only)
    with closing(UpdateBench(pair)) as bench:
        name = "a weight"
        request = forged(pair)[name]
        trace = bench.trace(request)
        start, size = pair.secrets["ts_update_by_difference"], 0x180
        among = [i for i, at in enumerate(trace) if start <= at < start + size]
        once = [i for i in among if trace.count(trace[i]) == 1]  # in no loop
        found = skip_each(bench, {name: request}, {name: once[-24:]})
    assert any("status OK" in ending for ending in found.ends), found.ends
