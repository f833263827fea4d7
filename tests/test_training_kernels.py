"""Every kernel of the training operators against its reference: bit-exact, float32 included.

Each case runs with every kernel that applies to it, and once more with its output as close to its
input as the kernel allows: on this machine, sanitized, and in the emulators.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array
from tinsmith.ir.interpret import run_step
from tinsmith.kernels import registry as kernels
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board

from .host_c import SANITIZE
from .kernel_models import KernelModel, run_on_board, run_on_host
from .training_cases import TrainingCase, training_cases

SEEDS = range(4)
BOARDS = ("mps2-an385", "mps2-an386", "mps2-an500", "mps3-an547", "qemu-riscv32")


def _models(features: frozenset[str]) -> list[tuple[KernelModel, TrainingCase]]:
    found: list[tuple[KernelModel, TrainingCase]] = []
    for number, case in enumerate(training_cases()):
        node = case.graph.nodes[0]
        fitting = candidates(node, case.graph, features, kernels())
        assert fitting, case.name
        for k, kernel in enumerate(fitting):
            name = f"c{number}_{k}_{kernel.name}"
            found.append((KernelModel(name, case.graph, kernel), case))
            if not case.graph.results(node):
                continue
            taken = [i for i, v in enumerate(node.inputs) if v in case.graph.activations(node)]
            for position, index in enumerate(taken):
                if kernel.lead_bytes(node, index) is not None:
                    model = KernelModel(f"{name}_t{position}", case.graph, kernel, position)
                    found.append((model, case))
    return found


def _samples(case: TrainingCase) -> tuple[list[list[Array]], list[list[Array]]]:
    """(inputs, expected outputs) of each seed."""
    given: list[list[Array]] = []
    wanted: list[list[Array]] = []
    for seed in SEEDS:
        inputs, state = case.inputs(seed), case.state(seed)
        op = case.graph.nodes[0].op.name
        if op in ("quantize_gradient", "scale_gradient") and seed == 1:
            inputs[0].flat[-1] = np.inf  # the last channel's factor is not 0
        if op == "quantize_gradient" and seed == 2:
            inputs[0] *= np.float32(2.0**-130)  # most of them subnormal
        if op == "quantize_gradient" and seed == 3:
            inputs[0][:] = 0
        given.append([*inputs, *(state[v] for v in case.graph.state)])
        outputs, after = run_step(case.graph, inputs, state)
        held = set(case.graph.storage)
        results = [a for v, a in zip(case.graph.outputs, outputs, strict=True) if v not in held]
        wanted.append([*results, *(after[v] for v in case.graph.state)])
    return given, wanted


def _check(models, rows, expected) -> None:
    wrong: list[str] = []
    for (model, case), got_rows, want_rows in zip(models, rows, expected, strict=True):
        for seed, (got, want) in enumerate(zip(got_rows, want_rows, strict=True)):
            for i, (g, w) in enumerate(zip(got, want, strict=True)):
                if g.tobytes() != np.ascontiguousarray(w).reshape(g.shape).tobytes():
                    differ = np.count_nonzero(g != w.reshape(g.shape))
                    wrong.append(f"{case.name} {model.name} seed {seed} output {i}: {differ}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "flags"),
    [("gcc", (*SANITIZE, "-O0")), ("clang", ("-O2",)), ("gcc", ("-O2", "-fno-strict-aliasing"))],
    ids=["gcc-sanitized", "clang", "gcc-O2"],
)
def test_portable_kernels_are_bit_exact(compiler: str, flags, tmp_path: Path) -> None:
    models = _models(frozenset())
    samples = [_samples(case) for _, case in models]
    given = [s[0] for s in samples]
    rows = run_on_host(tmp_path, [m for m, _ in models], given, *flags, compiler=compiler)
    _check(models, rows, [s[1] for s in samples])


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_kernels_are_bit_exact_under_qemu(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    models = _models(board.target.features)
    samples = [_samples(case) for _, case in models]
    rows, _ = run_on_board(tmp_path, board, [m for m, _ in models], [s[0] for s in samples])
    _check(models, rows, [s[1] for s in samples])
