"""A layer in the secure image that learns: its calls of the gateway, and what leaves sealed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.project import write_project
from tinsmith.codegen.schedule import schedule
from tinsmith.codegen.state import StateBlock
from tinsmith.codegen.training import base_hash
from tinsmith.errors import NotAuthentic
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Value
from tinsmith.ir.interpret import run_step
from tinsmith.machine.board import load_board
from tinsmith.machine.trust_zone import load_trust_zone, non_secure_board
from tinsmith.pass_manager import PassContext
from tinsmith.toolchain.secure_image import link_secure, seal_pair, write_secure_harness
from tinsmith.toolchain.update_view import UpdateView
from tinsmith.train.scheme import Scheme, Update
from tinsmith.trust.learning import Learning, lock_learning
from tinsmith.trust.partition import partition
from tinsmith.trust.sealed import seal, unseal
from tinsmith.trust.world_programs import secure_programs

from .int8_nets import Int8Net
from .training_nets import training_graph
from .trust_pair import (
    CALL,
    DUMP,
    OK,
    REFUSED,
    WRITE,
    Pair,
    build_program,
    run_steps,
    set_bytes,
    set_request,
)

KEY, UPDATES = bytes(range(32)), bytes(range(50, 82))
BOARD = "mps2-an505"
DY = np.linspace(-1, 1, 16).astype(np.float32).tobytes()
X = np.arange(-8, 8, dtype=np.int8).tobytes()
RATE = struct.pack("<f", 0.5)


class Bridge:
    """A pair whose bridge, 8 channels to 8 over two pixels, learns with all layers."""

    def __init__(self, folder: Path, quota: int | None = None) -> None:
        net = Int8Net("bridge", 4)
        x = net.conv(net.input(1, 1, 2, 8), 8, 1)
        t = net.conv(x, 8, 1)
        base = net.build(net.dense(net.conv(t, 8, 1), 5))
        scheme = Scheme(update=(Update(node="*", bias=True, weights=1.0),))
        parts = partition(base, "withhold", KEY, t.name)
        learning = Learning(base, training_graph(base, scheme), scheme, base)
        self.locked = lock_learning(learning, parts, KEY, t.name)
        board, zone = load_board(BOARD), load_trust_zone(BOARD)
        (secure,) = secure_programs(parts, self.locked, board, PassContext())
        assert secure.train is not None
        self.forward, self.backward = secure.graph, secure.train.graph
        context = PassContext()
        train = schedule(self.locked.graph, board, None, False, context).graph
        write_project(folder / "secure" / secure.graph.name, secure)
        write_secure_harness(
            folder / "secure", board, zone, [secure.graph], quota=quota, debug=True,
            update=UpdateView.of(train, UPDATES), backward=self.backward,
        )  # fmt: skip
        image = link_secure(
            folder / "secure", board, zone, [secure.graph], debug=True, backward=self.backward
        )
        other = build_program(folder / "nonsecure", non_secure_board(board, zone))
        seal_pair(folder, zone, image, other)
        self.pair = Pair(folder, board, zone, [secure.graph])
        self.base = bytes.fromhex(base_hash(self.backward))
        start = zone.non_secure.ram.origin + zone.non_secure.ram.bytes // 2
        self.x, self.dy, self.rate, self.y, self.blob = (start + 1024 * i for i in range(5))

    def forward_steps(self) -> list[tuple[int, ...]]:
        return [*set_request(self.pair, self.x, output=self.y), (CALL, 0)]

    def backward_steps(self) -> list[tuple[int, ...]]:
        return [*set_request(self.pair, self.dy, self.rate, output=self.y), (CALL, 1)]

    def data(self) -> list[tuple[int, ...]]:
        both = [*set_bytes(self.x, X), *set_bytes(self.dy, DY)]
        return [*both, *set_bytes(self.rate, RATE)]

    def seal_steps(self, output: int | None = None) -> list[tuple[int, ...]]:
        return [*set_request(self.pair, output=output or self.blob), (CALL, 2)]

    def unseal_steps(self, blob: bytes) -> list[tuple[int, ...]]:
        given = set_bytes(self.dy, blob)
        return [*given, *set_request(self.pair, self.dy, output=self.rate), (CALL, 3)]

    def learnt(self, blob: bytes) -> dict[Value, Array]:
        """The state that is sealed in it. Raises NotAuthentic."""
        raw = unseal(UPDATES, self.base, blob)
        if raw is None:
            return {v: self.backward.initializers[v] for v in self.backward.state}
        found: dict[Value, Array] = {}
        for v, at in StateBlock.of(self.backward).offsets.items():
            flat = np.frombuffer(raw, v.type.dtype.numpy, v.type.elements, at)
            found[v] = flat.reshape(v.type.shape)
        return found

    def run(self, folder: Path, *steps: tuple[int, ...]) -> tuple[list[int], list[bytes]]:
        """What every call returned, and what was dumped."""
        every = [*self.data(), *steps]
        outcome = run_steps(self.pair, folder, every)
        assert outcome.status == 0, outcome.log
        called: list[int] = []
        dumped: list[bytes] = []
        at = 0
        for step in every:
            if step[0] == DUMP:
                dumped.append(outcome.data[at : at + step[2]])
                at += step[2]
            if step[0] == CALL:
                called += struct.unpack("<I", outcome.data[at : at + 4])
            at += 4
        return called, dumped

    def expected(self, steps: int) -> tuple[list[bytes], dict[Value, Array]]:
        """Per step what both calls answer, and the state after the last."""
        state = {v: self.backward.initializers[v] for v in self.backward.state}
        answers: list[bytes] = []
        x = np.frombuffer(X, np.int8).reshape(self.forward.inputs[0].type.shape)
        dy = np.frombuffer(DY, np.float32).reshape(self.backward.inputs[0].type.shape)
        for _ in range(steps):
            held = {v: state[v] for v in self.forward.state}
            (y, *kept), _ = run_step(self.forward, [x], held)
            rate = np.frombuffer(RATE, np.float32)
            (dx,), state = run_step(self.backward, [dy, *kept, rate], state)
            answers += [y.tobytes(), dx.tobytes()]
        return answers, state


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Bridge:
    return Bridge(tmp_path_factory.mktemp("bridge"))


BAD_LEARNING_RATE, NOT_AUTHENTIC = 7, 23  # ts_status.h


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


def test_a_step_takes_two_of_the_quota_and_sealing_none(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path / "pair", quota=3)
    forward, backward, seals = (
        bridge.forward_steps(), bridge.backward_steps(), bridge.seal_steps(),
    )  # fmt: skip
    three = [*seals, *seals, *seals]
    asked = [*forward, *backward, *forward, *backward, *forward]
    called, _ = bridge.run(tmp_path / "run", *three, *asked, *seals)
    assert called == [OK, OK, OK, OK, OK, OK, REFUSED, REFUSED, OK]
