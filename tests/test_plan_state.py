"""State in the plan: outside the arena, read before it is updated, one kernel that knows of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinsmith.codegen.state import ALIGNMENT, StateBlock
from tinsmith.codegen.training import inference_graph
from tinsmith.errors import CompileError, InternalError
from tinsmith.ir.dtypes import DType, Quant, TensorType, int8
from tinsmith.ir.graph import Graph, Node, Stage, Value
from tinsmith.ir.interpret import run, run_step
from tinsmith.ir.parser import parse
from tinsmith.ir.printer import print_graph
from tinsmith.ir.verify import verify
from tinsmith.kernels.select import select_kernels
from tinsmith.machine.target import load_target
from tinsmith.ops import get, registry
from tinsmith.ops.conv2d_input_gradient import InputGradientAttrs
from tinsmith.ops.weight_update import WeightUpdateAttrs
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.check import check_plan
from tinsmith.plan.live_ranges import alias_roots
from tinsmith.plan.order import order_nodes

SHAPE, OUT = (1, 3, 3, 8), 4
F32, I32 = DType.FLOAT32, DType.INT32


def value(name: str, shape: tuple[int, ...], dtype: DType = F32) -> Value:
    return Value(name, TensorType(shape, dtype))


G = value("g", (1, 3, 3, OUT), DType.INT8)
X = Value("x", int8(SHAPE, 0.1, 3))
EXPONENT, RATE = value("exponent", (1,), I32), value("rate", (1,))
FROZEN = value("frozen", (OUT, 1, 1, 0), DType.INT8)
TRAINED = value("trained", (OUT, 1, 1, 8), DType.INT8)
BIAS, RESIDUAL = value("bias", (OUT,), I32), value("residual", (OUT, 1, 1, 8), DType.INT8)
COEFFICIENT = value("coefficient", (OUT,))
ARRAYS = {
    FROZEN: np.zeros((OUT, 1, 1, 0), np.int8),
    TRAINED: np.arange(32, dtype=np.int8).reshape(OUT, 1, 1, 8),
    BIAS: np.arange(OUT, dtype=np.int32),
    RESIDUAL: np.zeros((OUT, 1, 1, 8), np.int8),
    COEFFICIENT: np.full(OUT, 100.0, np.float32),
}
DX = value("dx", SHAPE)
NEW = tuple(replace(v, name=f"{v.name}.new") for v in (TRAINED, BIAS, RESIDUAL))
LAST = replace(BIAS, name="bias.last")

TO_INPUT = Node(
    get("conv2d_input_gradient"),
    (G, EXPONENT, FROZEN, TRAINED),
    (DX,),
    InputGradientAttrs(trained_channels=tuple(range(8)), shape=SHAPE),
)
UPDATE = Node(
    get("weight_update"),
    (G, EXPONENT, X, RATE, COEFFICIENT, TRAINED, BIAS, RESIDUAL),
    NEW,
    WeightUpdateAttrs(),
)
BIAS_UPDATE = Node(
    get("bias_update"),
    (G, EXPONENT, RATE, COEFFICIENT, NEW[1]),
    (LAST,),
    get("bias_update").attrs(),
)


def graph(*nodes: Node) -> Graph:
    """A layer's backward pass: both updates follow the gradient that reads the weights."""
    return Graph(
        "layer",
        (G, EXPONENT, X, RATE),
        (DX,),
        ARRAYS,
        nodes or (TO_INPUT, UPDATE, BIAS_UPDATE),
        Stage.SCHEDULED,
        updates=((TRAINED, NEW[0]), (BIAS, LAST), (RESIDUAL, NEW[2])),
    )


def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [
        rng.integers(-127, 128, G.type.shape, np.int8),
        np.array([-6], np.int32),
        rng.integers(-128, 128, SHAPE, np.int8),
        np.array([0.01], np.float32),
    ]


def test_versions_of_a_state_share_its_storage() -> None:
    layer = graph()
    verify(layer)
    assert layer.storage == {
        TRAINED: TRAINED, NEW[0]: TRAINED, BIAS: BIAS, NEW[1]: BIAS, LAST: BIAS,
        RESIDUAL: RESIDUAL, NEW[2]: RESIDUAL,
    }  # fmt: skip
    assert layer.results(UPDATE) == ()
    assert layer.activations(BIAS_UPDATE) == (G, EXPONENT, RATE)
    assert set(alias_roots(layer)) == {G, EXPONENT, X, RATE, DX}


def test_a_readers_of_state_stay_before_its_update() -> None:
    """Freeing g early would pay: the update is ready at once, but dx needs the old weights."""
    given = replace(graph(), stage=Stage.TRAINING)
    order = order_nodes(given, lambda node: 10_000 if node is TO_INPUT else 0)
    assert [n.op.name for n in order.nodes] == [n.op.name for n in given.nodes]
    (spoilt,) = [graph(UPDATE, TO_INPUT, BIAS_UPDATE)]
    with pytest.raises(InternalError, match="reads state %trained after its update"):
        verify(spoilt)
    with pytest.raises(InternalError, match="reads state %bias after its update"):
        verify(graph(TO_INPUT, BIAS_UPDATE_OF_OLD, UPDATE))


BIAS_UPDATE_OF_OLD = replace(
    BIAS_UPDATE, inputs=(*BIAS_UPDATE.inputs[:4], BIAS), outputs=(replace(LAST, name="lost"),)
)


def test_the_planner_leaves_state_out_and_the_checker_agrees() -> None:
    layer, target = graph(), load_target("host")
    calls = select_kernels(layer, target)
    plan = plan_arena(layer, calls, 4)
    assert set(plan.offsets) == {G, EXPONENT, X, RATE, DX}
    check_plan(layer, calls, plan)
    late = graph(UPDATE, TO_INPUT, BIAS_UPDATE)
    with pytest.raises(InternalError, match=r"state %trained is %trained\.new by now"):
        check_plan(late, calls, replace(plan, order=tuple(n.name for n in late.nodes)))
    unfinished = replace(layer, updates=((TRAINED, NEW[0]), (BIAS, NEW[1]), (RESIDUAL, NEW[2])))
    with pytest.raises(InternalError, match=r"state %bias ends as %bias\.last, not %bias\.new"):
        check_plan(unfinished, calls, plan)


def test_the_checker_wants_kernels_that_know_of_the_state() -> None:
    layer, target = graph(), load_target("host")
    calls = select_kernels(layer, target)
    plan = plan_arena(layer, calls, 4)
    blind = [replace(c, kernel=replace(c.kernel, state=lambda node, graph: {})) for c in calls]
    with pytest.raises(InternalError, match="takes %trained for a constant"):
        check_plan(layer, blind, plan)


def test_kernels_of_constant_weights_are_not_chosen_for_state() -> None:
    """conv2d packs its filters at compile time: a filter that learns has no kernel."""
    x = Value("x", int8((1, 4, 4, 3), 0.1, 0))
    y = Value("y", int8((1, 4, 4, 2), 0.1, 0))
    w = Value("w", TensorType((2, 1, 1, 3), DType.INT8, Quant((0.1, 0.1), (0, 0), 0)))
    rest = [value(n, (2,), I32) for n in ("bias", "multiplier", "shift")]
    arrays = {w: np.ones((2, 1, 1, 3), np.int8), rest[0]: np.zeros(2, np.int32)}
    arrays |= {rest[1]: np.full(2, 2**30, np.int32), rest[2]: np.full(2, -3, np.int32)}
    conv = get("conv2d")
    node = Node(conv, (x, w, *rest), (y,), conv.attrs(layout="NHWC"))
    fixed = Graph("fixed", (x,), (y,), arrays, (node,), Stage.QUANTIZED)
    target = load_target("cortex-m7")
    assert len(select_kernels(fixed, target)) == 1
    with pytest.raises(CompileError, match="no int8 kernel for conv2d"):
        select_kernels(replace(fixed, updates=((w, w),)), target)


def test_updates_must_be_in_place() -> None:
    with pytest.raises(InternalError, match="updates %trained, which is not state"):
        verify(replace(graph(), updates=((BIAS, LAST), (RESIDUAL, NEW[2]))))
    elsewhere = value("elsewhere", (OUT,), I32)
    copy = Node(get("identity"), (LAST,), (elsewhere,), get("identity").attrs())
    moved = graph(TO_INPUT, UPDATE, BIAS_UPDATE, copy)
    updates = ((TRAINED, NEW[0]), (BIAS, elsewhere), (RESIDUAL, NEW[2]))
    with pytest.raises(InternalError, match="bias is not computed in place"):
        verify(replace(moved, updates=updates))


def test_a_graph_may_read_state_and_leave_it() -> None:
    reader = replace(graph(TO_INPUT), updates=((TRAINED, TRAINED),))
    verify(reader)
    assert parse(print_graph(reader), registry()) == reader
    given = inputs()
    results, after = run_step(reader, given, {TRAINED: ARRAYS[TRAINED]})
    np.testing.assert_array_equal(results[0], run(reader, given)[0])
    np.testing.assert_array_equal(after[TRAINED], ARRAYS[TRAINED])
    doubled, _ = run_step(reader, given, {TRAINED: ARRAYS[TRAINED] * 2})
    np.testing.assert_array_equal(doubled[0], results[0] * 2)


def test_the_inference_graph_ends_before_the_loss() -> None:
    loss = value("loss", (1,))
    whole = replace(
        graph(), inputs=(G, EXPONENT, X, value("label", (1,), I32), RATE), outputs=(DX, loss)
    )
    part = inference_graph(whole)
    assert part.nodes == (TO_INPUT,)
    assert part.outputs == (DX,)
    assert part.inputs == (G, EXPONENT, X)
    assert part.updates == ((TRAINED, TRAINED),)


def test_the_state_block_is_aligned_and_has_room_at_its_end() -> None:
    block = StateBlock.of(graph())
    assert list(block.offsets.values()) == [0, 32, 48]
    assert block.bytes >= 48 + RESIDUAL.type.bytes + 4
    assert block.bytes % ALIGNMENT == 0
    assert block.pointer(BIAS, const=True) == "(const int32_t *)(void *)(state + 32)"
