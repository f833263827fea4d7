"""A layer in the secure image that learns: its calls of the gateway, and what leaves sealed."""

from __future__ import annotations

import os
import random
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.state import StateBlock
from tinsmith.errors import NotAuthentic
from tinsmith.trust.sealed import seal

from .trust_bridge import KEY, UPDATES, Bridge
from .trust_pair import CALL, DUMP, OK, REFUSED, WRITE, set_bytes, set_request
from .trust_requests import Request
from .trust_skip import SkipBench, skip_each

BAD_LEARNING_RATE, NOT_AUTHENTIC = 7, 23  # ts_status.h
QUOTA = 3


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Bridge:
    return Bridge(tmp_path_factory.mktemp("bridge"))


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Bridge:
    """A release pair with a quota."""
    return Bridge(tmp_path_factory.mktemp("limited"), QUOTA, debug=False)


def test_steps_are_those_of_the_graphs(bridge: Bridge, tmp_path: Path) -> None:
    step = [*bridge.forward_steps(), (DUMP, bridge.y, 16)]
    step += [*bridge.backward_steps(), (DUMP, bridge.y, 64)]
    size = len(seal(UPDATES, bridge.base, b"")) + StateBlock.of(bridge.backward).stored_bytes
    end = [*bridge.seal_steps(), (DUMP, bridge.blob, size)]
    called, dumped = bridge.run(tmp_path / "run", *step, *step, *step, *end)
    assert called == [OK] * 7
    answers, state = bridge.expected(3)
    assert dumped[:-1] == answers
    assert dumped[2] != dumped[0] or dumped[3] != dumped[1]
    learnt = bridge.learnt(dumped[-1])
    assert all(np.array_equal(learnt[v], array) for v, array in state.items())
    for array in state.values():
        assert array.tobytes() not in dumped[-1]


def test_a_gradient_is_taken_once_after_its_forward_call(bridge: Bridge, tmp_path: Path) -> None:
    forward, backward = bridge.forward_steps(), bridge.backward_steps()
    seals = bridge.seal_steps()
    called, _ = bridge.run(
        tmp_path / "run", *backward, *forward, *backward, *backward, *forward, *seals, *backward
    )
    assert called == [REFUSED, OK, OK, REFUSED, OK, OK, REFUSED]


def test_a_bad_rate_or_a_secure_address_changes_nothing(bridge: Bridge, tmp_path: Path) -> None:
    start = bridge.pair.secrets["ts_secure_arena"]
    bad = [(WRITE, bridge.rate, 0x7FC00000)]  # not a number
    own = [*set_request(bridge.pair, bridge.dy, bridge.rate, output=start), (CALL, 1)]
    seals = [*bridge.seal_steps(start), *bridge.seal_steps()]
    size = 32 + StateBlock.of(bridge.backward).stored_bytes
    forward = bridge.forward_steps()
    called, dumped = bridge.run(
        tmp_path / "run", *forward, *own, *bad, *forward, *bridge.backward_steps(), *seals,
        (DUMP, bridge.blob, size),
    )  # fmt: skip
    assert called == [OK, REFUSED, OK, BAD_LEARNING_RATE, REFUSED, OK]
    learnt = bridge.learnt(dumped[0])
    initial = bridge.backward.initializers
    assert all(np.array_equal(learnt[v], initial[v]) for v in bridge.backward.state)


def test_only_what_this_device_sealed_is_taken_back(bridge: Bridge, tmp_path: Path) -> None:
    block = StateBlock.of(bridge.backward)
    rng = np.random.default_rng(2)
    state = rng.integers(0, 256, block.stored_bytes, np.uint8).tobytes()
    mine = seal(UPDATES, bridge.base, state)
    changed = mine[:-5] + bytes([mine[-5] ^ 1]) + mine[-4:]
    foreign = seal(KEY, bridge.base, state)
    other_model = seal(UPDATES, bytes(32), state)
    dump = [*bridge.seal_steps(), (DUMP, bridge.blob, len(mine))]
    steps = [*bridge.unseal_steps(mine), *dump]
    for wrong in (changed, foreign, other_model):
        steps += [*bridge.unseal_steps(wrong), *dump]
    steps += [*bridge.unseal_steps(bytes(len(mine))), *dump]
    called, dumped = bridge.run(tmp_path / "run", *steps)
    assert called == [OK, OK, *[NOT_AUTHENTIC, OK] * 3, OK, OK]
    assert dumped[:4] == [mine] * 4
    learnt = bridge.learnt(dumped[-1])
    initial = bridge.backward.initializers
    assert all(np.array_equal(learnt[v], initial[v]) for v in bridge.backward.state)
    for wrong in (changed, foreign, other_model):
        with pytest.raises(NotAuthentic):
            bridge.learnt(wrong)


def test_a_caller_reads_the_withheld_filter_from_gradients(bridge: Bridge, tmp_path: Path) -> None:
    """What is not claimed: one step per output channel, at rate 0, gives its filter up to a factor
    (docs/trust.md)."""
    w = next(bridge.forward.initializers[v] for v in bridge.forward.state if len(v.type.shape) == 4)
    filters = w[:, 0, 0]
    y = np.frombuffer(bridge.expected(1)[0][0], np.int8).reshape(2, 8)
    low, high = next(n for n in bridge.forward.nodes if n.inputs[1:3]).attrs.q_clamp
    steps: list[tuple[int, ...]] = [(WRITE, bridge.rate, 0)]
    asked: list[tuple[int, int]] = []
    for c in range(8):
        open_pixels = [p for p in range(2) if low < y[p, c] < high]
        if open_pixels:
            p = open_pixels[0]
            one = np.zeros((2, 8), np.float32)
            one[p, c] = 1
            asked.append((p, c))
            steps += [*bridge.forward_steps(), *set_bytes(bridge.dy, one.tobytes())]
            steps += [*bridge.backward_steps(), (DUMP, bridge.y, 64)]
    called, dumped = bridge.run(tmp_path / "run", *steps)
    assert called == [OK] * 2 * len(asked)
    assert len(asked) >= 4
    for (p, c), data in zip(asked, dumped, strict=True):
        dx = np.frombuffer(data, np.float32).reshape(2, 8)[p]
        np.testing.assert_allclose(dx / np.abs(dx).max(), filters[c] / np.abs(filters[c]).max())


def test_a_step_takes_two_of_the_quota_and_sealing_none(limited: Bridge, tmp_path: Path) -> None:
    bridge = limited
    forward, backward, seals = (
        bridge.forward_steps(), bridge.backward_steps(), bridge.seal_steps(),
    )  # fmt: skip
    three = [*seals, *seals, *seals]
    asked = [*forward, *backward, *forward, *backward, *forward]
    called, _ = bridge.run(tmp_path / "run", *three, *asked, *seals)
    assert called == [OK, OK, OK, OK, OK, OK, REFUSED, REFUSED, OK]


def refusals(bridge: Bridge) -> dict[str, Request]:
    """Calls of an image that learns, each good but for its reason."""
    secret = bridge.pair.zone.secure.ram.end - 256
    return {
        "a gradient without a forward call": Request(call=1),
        "a gradient after a sealed state": Request(call=1, next=3),
        "a gradient beyond the quota": Request(call=1, next=1, used=QUOTA),
        "a gradient into secure memory": Request(call=1, next=1, output=secret),
        "a gradient of secure memory": Request(call=1, next=1, first=secret),
        "a sealed state into secure memory": Request(call=2, output=secret),
        "a sealed state of secure memory": Request(call=3, first=secret),
        "a call too many": Request(call=4),
        "an inference beyond the quota": Request(used=QUOTA),
    }


def test_a_skipped_instruction_gives_no_gradient(limited: Bridge) -> None:
    """As in test_trust_skip.py; all of them with TINSMITH_ALL_SKIPS=1."""
    requests = refusals(limited)
    rng = random.Random(0)
    some = {name: [rng.randrange(2**20) for _ in range(4)] for name in requests}
    with closing(SkipBench(limited.pair)) as bench:
        for request in (Request(), Request(call=2), Request(call=2, used=QUOTA)):
            trial = bench.call(request)
            assert bench.accepts(request, trial.status)
            assert trial.answered
        for name, request in requests.items():
            trial = bench.call(request)
            assert (trial.status, trial.answered) == (REFUSED, False), name
        found = skip_each(bench, requests, None if os.environ.get("TINSMITH_ALL_SKIPS") else some)
    print(f"{found.tried} skipped, {dict(found.ends)}")
    assert found.tried >= 4 * len(requests)
    assert not found.answered, [f"{name} at 0x{at:08x}" for name, at in found.answered]
    assert not any("status OK" in end for end in found.ends), found.ends
