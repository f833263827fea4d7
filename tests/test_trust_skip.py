"""No single skipped instruction makes the gateway answer a request that it must refuse.

Here a sample of them; all of them with TINSMITH_ALL_SKIPS=1, some minutes per board.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .trust_pair import BOARDS, REFUSED, Pair, build_probe
from .trust_requests import QUOTA, accepted, aligned_to_words, refusals
from .trust_skip import Findings, SkipBench, skip_each

ALL = bool(os.environ.get("TINSMITH_ALL_SKIPS"))
SAMPLES = 5  # of every other reason to refuse, and of the rest on the other board


def probe(folder: Path, board: str, edit: Callable[[Path], None] = aligned_to_words) -> Pair:
    return build_probe(folder, board, quota=QUOTA, debug=False, edit=edit)


def skip_some(bench: SkipBench, pair: Pair) -> Findings:
    """The later a reason is found, the longer its trace; both boards get some of each kind."""
    rng = random.Random(0)
    requests = dict(list(refusals(pair).items())[BOARDS.index(pair.board.name) :: 2])
    chosen = {name: [rng.randrange(2**20) for _ in range(SAMPLES)] for name in requests}
    return skip_each(bench, requests, chosen)


@pytest.mark.parametrize("board", BOARDS)
def test_a_skipped_instruction_gives_no_answer(board: str, tmp_path: Path) -> None:
    pair = probe(tmp_path, board)
    with closing(SkipBench(pair)) as bench:
        for name, request in accepted().items():
            trial = bench.call(request)
            assert bench.accepts(request, trial.status), name
            assert trial.answered, name
        for name, request in refusals(pair).items():
            trial = bench.call(request)
            assert (trial.status, trial.answered) == (REFUSED, False), name
        found = skip_each(bench, refusals(pair), None) if ALL else skip_some(bench, pair)
    print(f"{board}: {found.tried} skipped, {dict(found.ends)}")
    assert found.tried >= SAMPLES * (len(refusals(pair)) // 2)
    assert not found.answered, [f"{name} at 0x{at:08x}" for name, at in found.answered]
    assert not any("status OK" in end for end in found.ends), found.ends


def one_form_only(secure: Path) -> None:
    """A gateway whose second form of every check always passes."""
    aligned_to_words(secure)
    path = secure / "harness" / "checks.c"
    text = path.read_text()
    passes = {
        "ts_request_by_table": "TS_REQUEST_BY_TABLE",
        "ts_pointers_by_table": "TS_PASSED(TS_POINTERS_BY_TABLE, gate)",
        "ts_state_by_inverse": "TS_STATE_BY_INVERSE * TS_STATE_CHECKS",
    }
    for function, token in passes.items():
        head = re.compile(rf"(\buint32_t {function}\([^)]*\)\n{{\n)")
        text, count = head.subn(rf"\1    return {token};\n", text)
        assert count == 1
    path.write_text(text)


def test_control_one_form_of_the_checks_is_not_enough(tmp_path: Path) -> None:
    """The same skips do find answers when each check is made once."""
    pair = probe(tmp_path, "mps2-an505", one_form_only)
    with closing(SkipBench(pair)) as bench:
        name = "call out of order"
        request = refusals(pair)[name]
        start, end = (pair.secrets[f] for f in ("ts_state_by_value", "ts_state_by_inverse"))
        among = [i for i, at in enumerate(bench.trace(request)) if start <= at < end]
        found = skip_each(bench, {name: request}, {name: among})
    assert found.answered
