"""Calls of the gateway from interrupts of the other world, which come at any moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.interpret import run

from .trust_pair import (
    BOARDS,
    BYTES,
    CALL,
    DUMP,
    GAVE_UP,
    INTERRUPT,
    OK,
    REFUSED,
    build_probe,
    run_steps,
    set_request,
)


@pytest.mark.parametrize("board", BOARDS)
def test_calls_from_interrupts(board: str, tmp_path: Path) -> None:
    """At any moment: refused within a call, answered outside, and every answer counted."""
    pair = build_probe(tmp_path / "pair", board, quota=1000)  # of two calls each
    output, counts = pair.symbols["probe_output"], pair.symbols["probe_counts"]
    steps = [*set_request(pair), (INTERRUPT, 500), (DUMP, counts, 16), (DUMP, output, BYTES)]
    outcome = run_steps(pair, tmp_path / "run", steps)
    assert outcome.status == OK, outcome
    answered, not_answered, between, within = outcome.words[5:9]
    assert (answered, not_answered) == (500, 0)
    assert between > 50
    assert within > 50
    zeros = [np.zeros((1, 4, 4, 4), np.int8)] * 2
    assert outcome.data[40 : 40 + BYTES] == run(pair.graphs[0], zeros)[0].tobytes()
    rest = 2000 - answered - between
    calls = [(CALL, 0)] * (rest + 1)
    steps = [*set_request(pair), (INTERRUPT, 500), *calls]
    last = run_steps(pair, tmp_path / "rest", steps).words[-2:]
    assert last == (OK, REFUSED)


def never_held(secure: Path) -> None:
    """The gateway looks at its state and changes it with interrupts let through."""
    path = secure / "harness" / "gateway.c"
    text = path.read_text()
    assert "cpsid i" in text
    path.write_text(text.replace("cpsid i", "nop"))


def test_control_a_call_between_look_and_change(tmp_path: Path) -> None:
    """The two copies of the state then differ at some moment, and the secure world gives up."""
    pair = build_probe(tmp_path / "pair", "mps2-an505", edit=never_held)
    outcome = run_steps(pair, tmp_path / "run", [*set_request(pair), (INTERRUPT, 5000)])
    assert outcome.status == GAVE_UP
