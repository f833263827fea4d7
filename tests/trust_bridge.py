"""A small pair whose layer in the secure image learns, and a program that asks as it is told."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from tinsmith.codegen.project import write_project
from tinsmith.codegen.schedule import schedule
from tinsmith.codegen.state import StateBlock
from tinsmith.codegen.training import base_hash
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
from tinsmith.trust.sealed import unseal
from tinsmith.trust.world_programs import secure_programs

from .int8_nets import Int8Net
from .training_nets import training_graph
from .trust_pair import CALL, DUMP, Pair, build_program, run_steps, set_bytes, set_request

KEY, UPDATES = bytes(range(32)), bytes(range(50, 82))
BOARD = "mps2-an505"
DY = np.linspace(-1, 1, 16).astype(np.float32).tobytes()
X = np.arange(-8, 8, dtype=np.int8).tobytes()
RATE = struct.pack("<f", 0.5)


class Bridge:
    """A pair whose bridge, 8 channels to 8 over two pixels, learns with all layers."""

    def __init__(self, folder: Path, quota: int | None = None, *, debug: bool = True) -> None:
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
            folder / "secure", board, zone, [secure.graph], quota=quota, debug=debug,
            update=UpdateView.of(train, UPDATES), backward=self.backward,
        )  # fmt: skip
        image = link_secure(
            folder / "secure", board, zone, [secure.graph], debug=debug, backward=self.backward
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
