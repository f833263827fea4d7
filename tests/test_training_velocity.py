"""Batches, momentum and weight decay: what they mean, and that nothing of the moment is kept."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run_step
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import build_backward, select_updates
from tinsmith.train.program import Program
from tinsmith.train.scheme import Scheme, SchemeError, parse_scheme
from tinsmith.train.simulate import SimulatedLearner, Trainer
from tinsmith.train.unrounded import UNROUNDED
from tinsmith.train.variations import Variation

from .training_cases import training_cases
from .training_nets import everything, mobile_net, samples, some, training_graph

RULES = ("residual8", "residual4", "stochastic", "nearest")
MOMENTUM = {"batch": 3, "momentum": 0.9, "weight_decay": 1e-2}


def with_optimizer(scheme: Scheme, **keys: float) -> Scheme:
    return msgspec.structs.replace(scheme, **keys)


class RealStep:
    """Steps of a training graph in float64."""

    def __init__(self, scheme: Scheme) -> None:
        graph = training_graph(mobile_net(), scheme)
        news = [new for _, new in graph.updates]
        self.program = Program(graph, graph.nodes, [*graph.inputs, *graph.state], news, UNROUNDED)
        self.graph = graph
        self.start = {v.name: graph.initializers[v].astype(np.float64) for v in graph.state}

    def __call__(self, state: dict[str, Array], x: Array, label: int, rate: float) -> dict:
        given = [x, np.array([label], np.int32), np.array([rate], np.float32)]
        return dict(zip(state, self.program.run([*given, *state.values()]), strict=True))

    def unfolded(self, state: dict[str, Array]) -> dict[str, Array]:
        """Weights, and biases without the zero point that is folded in."""
        found: dict[str, Array] = {}
        for node in self.graph.nodes:
            if node.op.name == "conv2d_trainable":
                w, b = (state[v.name] for v in node.inputs[2:4])
                found[node.inputs[2].name] = w
                found[node.inputs[3].name] = b + node.x.zero_point * w.sum(axis=(1, 2, 3))
        return found


def _torch_sgd(scheme: Scheme, batches: list[list[tuple[Array, int]]], rate: float) -> dict:
    """`torch.optim.SGD` in units of the integers: with quantisation-aware scaling a step of the
    real weight s·w by the gradient dL/ds·w is a step of w by what one plain step is without."""
    plain = RealStep(with_optimizer(scheme, batch=1, momentum=0.0, weight_decay=0.0))
    state, unit = dict(plain.start), 1e-3
    buffer: dict[str, Array] = {}
    for batch in batches:
        before = plain.unfolded(state)
        moved = [plain.unfolded(plain(state, x, label, unit)) for x, label in batch]
        after: dict[str, Array] = {}
        for name, w in before.items():
            gradient = np.mean([(w - m[name]) / np.float64(np.float32(unit)) for m in moved], 0)
            if name.endswith(".trained"):
                gradient = gradient + scheme.weight_decay * w
            old = buffer.get(name)
            buffer[name] = gradient if old is None else scheme.momentum * old + gradient
            after[name] = w - np.float32(rate) * buffer[name]
        for node in plain.graph.nodes:
            if node.op.name == "conv2d_trainable":
                trained, bias = (v.name for v in node.inputs[2:4])
                folded = node.x.zero_point * after[trained].sum(axis=(1, 2, 3))
                state |= {trained: after[trained], bias: after[bias] - folded}
    return plain.unfolded(state)


@pytest.mark.parametrize(
    "keys",
    [
        {"batch": 4},
        {"weight_decay": 1e-2},
        {"batch": 4, "weight_decay": 1e-2},
        {"momentum": 0.9},
        {"batch": 3, "momentum": 0.9, "weight_decay": 1e-2},
    ],
    ids="-".join,
)
def test_it_is_torch_s_sgd_of_the_mean_gradient(keys: dict[str, float]) -> None:
    scheme, rate, rng = with_optimizer(everything(), **keys), 1e-3, np.random.default_rng(4)
    batches = [
        [(rng.uniform(-128, 127, (1, 8, 8, 3)), int(rng.integers(5))) for _ in range(scheme.batch)]
        for _ in range(3)
    ]
    real = RealStep(scheme)
    state = dict(real.start)
    for batch in batches:
        for x, label in batch:
            state = real(state, x, label, rate)
    start, got = real.unfolded(real.start), real.unfolded(state)
    for name, wanted in _torch_sgd(scheme, batches, rate).items():
        moved = wanted - start[name]
        assert np.abs(moved).max() > 0
        assert np.abs(got[name] - wanted).max() <= 2e-5 * np.abs(moved).max()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scheme", [everything, some], ids=["everything", "some"])
def test_the_simulator_is_the_interpreter_and_moves_at_the_end_of_a_batch(
    rule: str, scheme
) -> None:
    graph = training_graph(mobile_net(), with_optimizer(scheme(rule=rule), **MOMENTUM))
    trainer = Trainer(graph)
    state = dict(trainer.state)
    for i, sample in enumerate(samples(graph, 7)):
        label, rate = i % 5, 1e-2
        given = [*sample, np.array([label], np.int32), np.array([rate], np.float32)]
        outputs, after = run_step(graph, given, state)
        assert trainer.step(trainer.encode(sample), label, rate) == float(outputs[-1][0])
        lasting = [v for v in state if v not in graph.transient]
        moved = [v for v in lasting if not np.array_equal(state[v], after[v])]
        assert (len(moved) > len(lasting) / 2) if i % 3 == 2 else not moved
        state = after
        for value, array in state.items():
            assert np.array_equal(array, trainer.state[value])
    assert {int(a[0]) for v, a in state.items() if v.name == "batch.position"} == {7 % 3}


def test_only_what_is_asked_for_is_kept() -> None:
    plain = training_graph(mobile_net(), everything())
    decaying = training_graph(mobile_net(), with_optimizer(everything(), weight_decay=1e-4))
    for graph in (plain, decaying):
        assert not graph.transient
        assert {n.op.name for n in graph.nodes}.isdisjoint(
            {"accumulate_weights", "accumulate_bias", "apply_weights", "apply_bias", "count_sample"}
        )
    keeping = training_graph(mobile_net(), with_optimizer(everything(), momentum=0.9))
    weights = sum(v.type.elements for v in plain.state if v.name.endswith((".trained", ".folded")))
    assert sum(v.type.bytes for v in keeping.transient) == 4 * weights
    assert "count_sample" not in {n.op.name for n in keeping.nodes}


def test_the_compiler_says_what_it_keeps() -> None:
    context = PassContext(options={"scheme": with_optimizer(some(), batch=8)})
    graph = run_passes(mobile_net(), (select_updates.PASS, build_backward.PASS), context)
    held = sum(v.type.bytes for v in graph.transient)
    assert any(f"batch = 8 and momentum = 0 keep gradients: {held:,} bytes" in n
               for n in context.notes)  # fmt: skip


def _case(name: str) -> tuple[Graph, list[Array], dict[Value, Array]]:
    (case,) = [c for c in training_cases() if c.name == name]
    return case.graph, case.inputs(), case.state()


def test_weight_decay_pulls_weight_and_residual_towards_nothing() -> None:
    graph, inputs, state = _case("weight_update.pointwise_whole_residual8_decay")
    rate = np.float32(0.5)
    inputs[0] = np.zeros_like(inputs[0])
    inputs[3] = np.array([rate])
    trained, bias, residual = graph.state
    _, after = run_step(graph, inputs, state)
    whole = state[trained].astype(np.int64) * 256 + state[residual]
    pulled = np.clip(whole - np.rint(rate * np.float32(1e-2) * whole), -(2**15), 2**15 - 1)
    live = graph.initializers[graph.nodes[0].inputs[4]] != 0
    got = after[trained].astype(np.int64) * 256 + after[residual]
    inside = live[:, None, None, None] & (np.abs(pulled) < 127 * 256)
    assert inside.mean() > 0.8
    assert np.array_equal(got[inside], pulled[inside])
    assert np.array_equal(got[~live], whole[~live])
    grown = (after[trained].astype(np.int64) - state[trained]).sum(axis=(1, 2, 3))
    zero_point = graph.nodes[0].inputs[2].type.zero_point
    assert np.array_equal(after[bias], state[bias] - zero_point * grown)


def test_a_velocity_that_overflowed_is_forgotten() -> None:
    graph, inputs, state = _case("apply_weights.pointwise_whole_residual8")
    velocity, trained = graph.state[:2]
    state = {v: np.full_like(a, 3) if v.name == "position" else a for v, a in state.items()}
    state[velocity] = np.full_like(state[velocity], np.inf)
    state[velocity][1:, ..., 0] = np.nan
    _, after = run_step(graph, inputs, state)
    live = graph.initializers[graph.nodes[0].inputs[1]] != 0
    assert not after[velocity][live].any()
    assert np.all(after[trained][0] == -127)
    assert np.array_equal(after[trained][1:, ..., 0], state[trained][1:, ..., 0])


def test_what_is_taken_back_begins_a_batch() -> None:
    graph = training_graph(mobile_net(), with_optimizer(everything(), **MOMENTUM))
    trainer = Trainer(graph)
    encoded = [trainer.encode(s) for s in samples(graph, 8)]
    learner = SimulatedLearner(trainer, encoded, [0, 1, 2, 3, 4, 0, 1, 2])
    learner.learn(range(4), [1e-2] * 4)
    learner.keep()
    kept = dict(trainer.state)
    learner.learn(range(4, 8), [1e-2] * 4)
    learner.take_back()
    for value, array in trainer.state.items():
        if value in graph.transient:
            assert kept[value].any()
            assert not array.any()
        else:
            assert np.array_equal(array, kept[value])


@pytest.mark.parametrize(
    "variation",
    [Variation(gradients="float32"), Variation(numbers="latent"), Variation(numbers="float32")],
    ids=["float-gradients", "latent", "float"],
)
def test_variations_take_nearly_the_same_step(variation: Variation) -> None:
    graph = training_graph(mobile_net(), with_optimizer(everything(), **MOMENTUM))
    moved: list[dict[str, Array]] = []
    for chosen in (Variation(), variation):
        trainer = Trainer(graph, chosen)
        start = {v.name: a.astype(np.float64) for v, a in trainer.state.items()}
        for i, sample in enumerate(samples(graph, 3)):
            trainer.step(trainer.encode(sample), i, 3e-3)
        moved.append({v.name: a - start[v.name] for v, a in trainer.state.items()})
    for value in graph.state:
        if value.name.endswith(".trained"):
            near, real = (np.clip(m[value.name], -254, 254) for m in moved)
            assert np.abs(near - real).max() < 1 + 0.3 * np.abs(real).max()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("batch = 0", "batch = 0"),
        ("batch = -4", "batch = -4"),
        ("batch = 70000", "batch = 70000"),
        ("batch = 2.5", "int"),
        ("momentum = 1.0", "momentum = 1.0"),
        ("momentum = -0.1", "momentum = -0.1"),
        ("momentum = nan", "momentum = nan"),
        ("weight_decay = -1e-4", "weight_decay = -0.0001"),
        ("weight_decay = inf", "weight_decay = inf"),
        ("weight_decay = 1.5", "weight_decay = 1.5"),
        ('momentum = "much"', "float"),
    ],
)
def test_nonsense_is_refused(line: str, text: str) -> None:
    with pytest.raises(SchemeError, match=text) as raised:
        parse_scheme(line)
    assert isinstance(raised.value, CompileError)
    assert raised.value.expected


def test_a_scheme_says_how_to_step() -> None:
    scheme = parse_scheme("batch = 8\nmomentum = 0.9\nweight_decay = 1e-4")
    assert (scheme.batch, scheme.momentum, scheme.weight_decay) == (8, 0.9, 1e-4)
    assert scheme.optimizer.keeps_velocity
    assert not replace(scheme.optimizer, batch=1, momentum=0.0).keeps_velocity
