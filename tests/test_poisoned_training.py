"""Plans of training steps hold on a hostile arena, and a step stays within its bound of the stack.

What a backward pass reads was written a whole network before. Every byte that the plan calls dead
is spoilt after every node, and still each step must have the bits of the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.program import Program
from tinsmith.codegen.project import write_project
from tinsmith.codegen.report import make_report, write_report
from tinsmith.codegen.schedule_model import schedule_model
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run_step
from tinsmith.machine.board import load_board
from tinsmith.ops._clamp import UNBOUNDED
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.pass_manager import PassContext
from tinsmith.plan.model import MemoryPlan, Placed
from tinsmith.runner.training import TrainResult, open_training, train_project
from tinsmith.toolchain.compile_c import build
from tinsmith.toolchain.harness import ModelBinding, write_harness
from tinsmith.toolchain.stack import worst_case_stack
from tinsmith.train.scheme import Scheme, Update

from .host_c import SANITIZE, write
from .int8_nets import Int8Net
from .poison import poisoned
from .test_poisoned_arena import features
from .training_nets import training_graph

STEPS = 4
CLASSES = 5
BOARDS = ("mps2-an385", "mps2-an500", "mps3-an547", "qemu-riscv32")
SPARSE = Scheme(update=(Update(last=3, bias=True, weights=0.5),))
FLOATS = Scheme(gradients="float32", momentum=0.5, update=SPARSE.update)


@cache
def learning_net(scheme: Scheme) -> Graph:
    """A wide layer of high resolution that is frozen, then an inverted residual that learns."""
    net = Int8Net("learner", 7)
    narrow = net.conv(net.input(1, 36, 20, 4), 4, 1)
    deep = net.depthwise(net.conv(narrow, 48, 1), 3, 2)
    x = net.conv(net.conv(deep, 8, 1), 8, 3, 2)
    joined = net.add("add", [x, net.conv(net.depthwise(net.conv(x, 24, 1)), 8, 1)])
    mean = net.add("reduce_mean", [joined], ReduceMeanAttrs((1, 2), True, UNBOUNDED))
    return training_graph(net.build(net.dense(mean, CLASSES)), scheme)


@cache
def planned(board: str, scheme: Scheme = SPARSE) -> Program:
    return schedule_model(learning_net(scheme), load_board(board), None, False, PassContext())


def trained(folder: Path, board_name: str, program: Program, *, spoil: bool) -> TrainResult:
    """Some steps on the device; for this machine with sanitizers."""
    board = load_board(board_name)
    assert program.train is not None
    write_project(folder, program)
    write_report(folder, make_report(program, board))
    if spoil:
        write(folder, poisoned(program))
    write_harness(folder, board, [ModelBinding.of(program.graph, program.train.graph)])
    build(folder, board, extra_cflags=SANITIZE if board.is_host else ())
    images, labels, rates = given(program)
    return train_project(open_training(folder), [np.stack(images)], labels, rates)


def given(program: Program) -> tuple[list[Array], Array, Array]:
    """Images, labels and rates of the steps."""
    rng = np.random.default_rng(5)
    shape = program.graph.inputs[0].type.shape
    images = [rng.integers(-128, 128, shape, np.int8) for _ in range(STEPS)]
    labels = rng.integers(0, CLASSES, (STEPS, 1), np.int32)
    return images, labels, np.full(STEPS, 0.05, np.float32)


def check(result: TrainResult, program: Program) -> None:
    """Losses, outputs and state are the simulator's, and most states have moved."""
    assert program.train is not None
    graph = program.train.graph
    state = start = {v: graph.initializers[v] for v in graph.state}
    for i, (image, label, rate) in enumerate(zip(*given(program), strict=True)):
        outputs, state = run_step(graph, [image, label, rate[None]], state)
        assert outputs[-1].tobytes() == result.losses[i].tobytes(), f"the loss of step {i}"
        np.testing.assert_array_equal(result.outputs[0][i], outputs[0])
    for value, array in state.items():
        np.testing.assert_array_equal(result.state[value], array, err_msg=value.name)
    moved = sum(not np.array_equal(state[v], start[v]) for v in state)
    assert moved > len(state) / 2


@pytest.mark.parametrize(
    ("board", "scheme", "used"),
    [
        ("host", SPARSE, {"in place", "stripes", "scratch"}),
        ("mps2-an500", SPARSE, {"in place", "stripes", "scratch"}),
        ("mps2-an500", FLOATS, {"in place", "stripes", "scratch"}),
    ],
    ids=["host", "mps2-an500", "mps2-an500-float32-momentum"],
)
def test_steps_read_nothing_dead(
    board: str, scheme: Scheme, used: set[str], tmp_path: Path
) -> None:
    program = planned(board, scheme)
    assert program.train is not None
    assert features(program.train.plan) >= used
    check(trained(tmp_path, board, program, spoil=True), program)


def kept(program: Program) -> Value:
    """What an update of weights reads of the forward pass."""
    assert program.train is not None
    return next(n for n in program.train.graph.nodes if n.op.name == "weight_update").inputs[2]


def with_plan(program: Program, change: Callable[[MemoryPlan], MemoryPlan]) -> Program:
    assert program.train is not None
    return replace(program, train=replace(program.train, plan=change(program.train.plan)))


def test_an_activation_that_dies_before_its_update_is_missed(tmp_path: Path) -> None:
    """The control: the poison holds what a weight gradient needs for dead after the forward pass.

    Without poison nobody would notice: where it lies, the bytes happen to stay as they were.
    """
    program = planned("mps2-an500")
    value = kept(program)

    def shorten(p: Placed) -> Placed:
        if value not in p.buffer.values:
            return p
        return replace(p, buffer=replace(p.buffer, last=p.buffer.first + 1))

    wrong = with_plan(program, lambda plan: replace(plan, placed=tuple(map(shorten, plan.placed))))
    check(trained(tmp_path / "plain", "mps2-an500", wrong, spoil=False), program)
    with pytest.raises(AssertionError, match=r"Not equal|the loss of step"):
        check(trained(tmp_path / "spoilt", "mps2-an500", wrong, spoil=True), program)


def test_an_activation_that_a_plan_lays_over_another_is_missed(tmp_path: Path) -> None:
    program = planned("mps2-an500")
    assert program.train is not None
    value, graph = kept(program), program.train.graph
    made = next(i for i, n in enumerate(graph.nodes) if value in n.outputs)
    loss = next(n for n in graph.nodes[made:] if n.op.name == "softmax_cross_entropy").outputs[1]
    offsets = {**program.train.plan.offsets, loss: program.train.plan.offsets[value]}
    wrong = with_plan(program, lambda plan: replace(plan, offsets=offsets))
    with pytest.raises(AssertionError, match=r"Not equal|the loss of step"):
        check(trained(tmp_path, "mps2-an500", wrong, spoil=True), program)


@pytest.mark.parametrize("board", BOARDS)
def test_the_stack_of_a_step_is_bounded(board: str, tmp_path: Path) -> None:
    program, machine = planned(board), load_board(board)
    result = trained(tmp_path, board, program, spoil=False)
    check(result, program)
    elf = open_training(tmp_path).project.elf()
    use = worst_case_stack(elf, machine, f"{program.c_name}_train_step")
    assert use is not None
    assert set(use.indirect) <= {"__divsf3"}  # of libgcc: a jump table within the function
    # The harness's own call of the model adds at most 16 bytes to what is painted.
    assert 0 < result.stack_painted_bytes <= use.bytes + 16
