"""Stripes of rows where RAM asks for them: by objective, or because the model does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.choices import Choices
from tinsmith.codegen.schedule_model import schedule_model
from tinsmith.errors import CompileError, DoesNotFit
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.kernels.aim import Aim, Objective
from tinsmith.kernels.select import select
from tinsmith.machine.board import load_board
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import compile_model
from tinsmith.toolchain.harness import HARNESS_BYTES

from .int8_nets import Int8Net

BOARD = load_board("mps2-an386")


@pytest.fixture(scope="module")
def graph() -> Graph:
    """An expansion to ten times the channels at the highest resolution."""
    net = Int8Net("expanding", 5)
    x = net.conv(net.input(1, 32, 32, 2), 4, 3)
    x = net.conv(net.depthwise(net.conv(x, 40, 1)), 4, 1)
    return net.build(net.conv(x, 8, 3, 4))


def arena(
    graph: Graph, ram: int | None, optimize: Objective = "instructions"
) -> tuple[int, list[str]]:
    context = PassContext()
    program = schedule_model(graph, BOARD, ram, False, context, Aim(optimize))
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, graph.inputs[0].type.shape).astype(np.int8)
    np.testing.assert_array_equal(run(program.graph, [x])[0], run(graph, [x])[0])
    return program.plan.arena_bytes, context.notes


def test_ram_decides(graph: Graph) -> None:
    plain, notes = arena(graph, None)
    assert not notes
    assert plain > 40 * 32 * 32
    small, notes = arena(graph, None, "ram")
    assert not any("stripes" in note for note in notes)
    assert small < 0.5 * plain
    enough = plain + BOARD.stack_bytes
    assert arena(graph, enough) == (plain, [])
    fitted, notes = arena(graph, enough - plain // 3)  # no other kernels save as much
    assert small <= fitted <= enough - plain // 3 - BOARD.stack_bytes
    assert len(notes) == 1
    assert "stripes of rows" in notes[0]


def test_kernels_of_less_scratch_come_before_stripes() -> None:
    net = Int8Net("squares", 5)
    x = net.conv(net.input(1, 16, 16, 16), 16, 3)
    graph = net.build(net.pool("average_pool", x, 2, 2))
    plain, _ = arena(graph, None)
    lean, notes = arena(graph, plain + BOARD.stack_bytes - 1)
    assert lean < plain
    assert not any("stripes" in note for note in notes)


def test_ram_takes_kernels_without_scratch() -> None:
    """A dense layer whose fast kernel widens its input, which is the whole arena."""
    net = Int8Net("wide", 1)
    graph = net.build(net.dense(net.input(1, 1, 1, 512), 16))
    plain, _ = arena(graph, None)
    small, _ = arena(graph, None, "ram")
    assert plain >= 2 * 512
    assert small <= 512 + 2 * 16


def test_what_does_not_fit_in_stripes_either_is_told_of_the_plain_plan(graph: Graph) -> None:
    small, _ = arena(graph, None, "ram")
    with pytest.raises(DoesNotFit, match="the arena needs") as error:
        arena(graph, small * 3 // 4 + BOARD.stack_bytes)
    assert "rows" not in str(error.value.node)


def test_an_unknown_objective_is_refused(graph: Graph) -> None:
    with pytest.raises(CompileError, match="cannot optimise for 'speed'") as error:
        arena(graph, None, "speed")  # type: ignore[arg-type]
    assert error.value.expected == "one of instructions, cycles, flash, ram"


def test_small_flash_puts_a_price_on_the_arena() -> None:
    """Of all limits on what is live the best one, by instructions and both prices."""
    net = Int8Net("block", 5)
    x = net.conv(net.input(1, 16, 16, 16), 16, 3)
    graph = net.build(net.add("add", [net.conv(net.conv(x, 16, 3), 16, 3), x]))
    board, aim = load_board("mps2-an500"), Aim("flash")
    choices = Choices.of(graph, board, aim)
    priced = choices.select()
    every = [
        select(choices.candidates, aim, choices.room, choices.needs, limit)
        for limit in choices.limits()
    ]
    assert priced.weight == min(found.weight for found in every)
    free = select(choices.candidates, aim, choices.room, choices.needs)
    assert free.live_bytes > priced.live_bytes
    assert free.value < priced.value


@pytest.mark.parametrize("harness", ["semihosting", "serial", "mlperf-tiny"])
def test_what_a_harness_takes_of_the_flash_is_known(harness: str, tmp_path: Path) -> None:
    source = paths.GRAPHS / "digits_dscnn"
    project = compile_model(
        source / "model.onnx",
        board="mps2-an500",
        out=tmp_path,
        calibrate=source / "calibration.npz",
        harness=harness,
        pictures=False,
    )
    parts = project.report.flash
    assert parts is not None
    beside = parts.harness_bytes + parts.library_bytes + parts.padding_bytes
    assert 0.6 * HARNESS_BYTES[harness] < beside <= HARNESS_BYTES[harness]
