"""The simulator: bit-exact with the interpreter, guarded, and it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tinsmith.errors import BadInput
from tinsmith.ir.interpret import run, run_step
from tinsmith.train.guard import LossGuard, Verdict
from tinsmith.train.loop import rate_at
from tinsmith.train.scheme import Scheme
from tinsmith.train.simulate import Trainer, fit
from tinsmith.train.variations import Variation

from .training_nets import (
    branched_net,
    dense_net,
    everything,
    mobile_net,
    samples,
    some,
    training_graph,
)

RULES = ("residual8", "residual4", "stochastic", "nearest")


def _task(count: int) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Images of five classes: noise around one picture each."""
    rng = np.random.default_rng(7)
    centres = rng.integers(-100, 100, (5, 1, 8, 8, 3))
    labels = np.arange(count) % 5
    noisy = centres[labels] + rng.integers(-25, 26, (count, 1, 8, 8, 3))
    return [[a.astype(np.int8)] for a in noisy], labels


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scheme", [everything, some], ids=["everything", "some"])
def test_a_step_is_the_interpreter_s(rule: str, scheme) -> None:
    chosen: Scheme = replace_rule(scheme(), rule)
    graph = training_graph(mobile_net(), chosen)
    trainer = Trainer(graph)
    state = dict(trainer.state)
    for i, sample in enumerate(samples(graph, 6)):
        label, rate = i % 5, 1e-3 * (i + 1)
        given = [*sample, np.array([label], np.int32), np.array([rate], np.float32)]
        outputs, state = run_step(graph, given, state)
        encoded = trainer.encode(sample)
        assert np.array_equal(trainer.outputs(encoded)[0], outputs[0])
        assert trainer.step(encoded, label, rate) == float(outputs[-1][0])
        for value, array in state.items():
            assert array.dtype == trainer.state[value].dtype
            assert np.array_equal(array, trainer.state[value])
    assert trainer.steps == 6


def replace_rule(scheme: Scheme, rule: str) -> Scheme:
    return Scheme(rule=rule, update=scheme.update)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES)
def test_it_learns(rule: str) -> None:
    graph = training_graph(mobile_net(), replace_rule(everything(), rule))
    trainer = Trainer(graph)
    data, labels = _task(100)
    encoded = [trainer.encode(s) for s in data]
    before = trainer.accuracy(encoded, labels)
    history = fit(trainer, encoded[:60], labels[:60], epochs=4, rate=1e-2)
    after = trainer.accuracy(encoded[60:], labels[60:])
    assert np.mean(history.losses[-60:]) < 0.5 * np.mean(history.losses[:20])
    assert after > max(0.9, before)


def test_training_is_deterministic() -> None:
    data, labels = _task(20)

    def trained() -> Trainer:
        trainer = Trainer(training_graph(mobile_net(), replace_rule(some(), "stochastic")))
        fit(trainer, [trainer.encode(s) for s in data], labels, epochs=1, rate=1e-3, seed=3)
        return trainer

    a, b = trained(), trained()
    assert all(np.array_equal(x, b.state[v]) for v, x in a.state.items())


def test_an_autoencoder_learns_its_input() -> None:
    graph = training_graph(dense_net(), everything("mse"))
    trainer = Trainer(graph)
    rng = np.random.default_rng(0)
    rows = rng.integers(-60, 60, (2, 1, 24), np.int8)
    data = [rows[i % 2] for i in range(40)]
    encoded = [trainer.encode([d]) for d in data]
    history = fit(trainer, encoded, data, epochs=5, rate=2e-2)
    assert np.mean(history.losses[-20:]) < 0.5 * np.mean(history.losses[:20])


def test_float_gradients_and_latent_weights_agree_with_the_device_at_first() -> None:
    """One step from the same state: rounding of gradients moves a weight by little."""
    graph = training_graph(mobile_net(), everything())
    (sample,) = samples(graph, 1)
    moved: dict[str, dict[str, np.ndarray]] = {}
    for name, variation in (
        ("device", Variation()),
        ("float gradients", Variation(gradients="float32")),
        ("latent", Variation(numbers="latent", gradients="float32")),
        ("float", Variation(numbers="float32")),
    ):
        trainer = Trainer(graph, variation)
        start = {v.name: a.astype(np.float64) for v, a in trainer.state.items()}
        trainer.step(trainer.encode(sample), 2, 3e-3)
        moved[name] = {v.name: a - start[v.name] for v, a in trainer.state.items()}
    for value in graph.state:
        if value.name.endswith(".trained"):
            real = moved["float"][value.name]
            for name in ("device", "float gradients", "latent"):
                near = moved[name][value.name]
                assert np.abs(near - np.clip(real, -254, 254)).max() < 1 + 0.3 * np.abs(real).max()


def test_without_qas_the_body_hardly_moves_at_the_same_rate() -> None:
    graph = training_graph(mobile_net(), everything())
    (sample,) = samples(graph, 1)
    body = [v for v in graph.state if v.name.endswith(".trained")][1:]

    def distance(variation: Variation) -> float:
        trainer = Trainer(graph, variation)
        trainer.step(trainer.encode(sample), 2, 1e-3)
        return sum(float(np.abs(trainer.state[v] - graph.initializers[v]).sum()) for v in body)

    assert distance(Variation(numbers="float32")) > 0
    plain = distance(Variation(numbers="float32", qas=False))
    assert 0 < plain < 1e-3 * distance(Variation(numbers="float32"))
    scaled = distance(Variation(numbers="float32", qas=False, body_rate=10))
    assert scaled == pytest.approx(10 * plain, rel=1e-3)


def test_the_guard_takes_exploded_weights_back() -> None:
    graph = training_graph(mobile_net(), everything())
    data, labels = _task(60)
    trainer = Trainer(graph)
    encoded = [trainer.encode(s) for s in data]
    calm = fit(trainer, encoded, labels, epochs=4, rate=1e-2, guard=LossGuard(20))
    assert not calm.rollbacks
    reached = trainer.accuracy(encoded, labels)
    wild = fit(trainer, encoded, labels, epochs=2, rate=10.0, guard=LossGuard(20))
    assert wild.rollbacks
    assert trainer.accuracy(encoded, labels) >= reached - 0.3


def test_the_guard_s_verdicts() -> None:
    guard = LossGuard(window=2)
    assert [guard.watch(v) for v in (2.0, 2.0)] == [Verdict.CONTINUE, Verdict.GOOD]
    assert [guard.watch(v) for v in (1.0, 1.0)] == [Verdict.CONTINUE, Verdict.GOOD]
    assert [guard.watch(v) for v in (1.9, 1.9)] == [Verdict.CONTINUE, Verdict.CONTINUE]
    assert [guard.watch(v) for v in (2.1, 2.1)] == [Verdict.CONTINUE, Verdict.BROKEN]
    assert guard.watch(math.nan) is Verdict.BROKEN
    assert guard.broken == 2
    assert guard.best == 1.0


def test_restoring_takes_everything_back() -> None:
    graph = training_graph(branched_net(), everything())
    trainer = Trainer(graph, Variation(numbers="latent"))
    (sample,) = samples(graph, 1)
    encoded = trainer.encode(sample)
    trainer.step(encoded, 1, 1e-3)
    kept = trainer.snapshot()
    first = [trainer.step(encoded, 1, 1e-3) for _ in range(3)]
    trainer.restore(kept)
    assert [trainer.step(encoded, 1, 1e-3) for _ in range(3)] == first


@pytest.mark.parametrize(
    ("label", "rate", "message"),
    [
        (5, 1e-3, "label 5 is out of range"),
        (-1, 1e-3, "label -1"),
        (0, math.nan, "learning rate is nan"),
        (0, -1.0, "learning rate"),
        (0, math.inf, "learning rate"),
    ],
)
def test_bad_steps_change_nothing(label: int, rate: float, message: str) -> None:
    graph = training_graph(mobile_net(), some())
    trainer = Trainer(graph)
    encoded = trainer.encode(samples(graph, 1)[0])
    before = dict(trainer.state)
    with pytest.raises(BadInput, match=message):
        trainer.step(encoded, label, rate)
    assert all(a is before[v] for v, a in trainer.state.items())


def test_bad_arrays_are_refused() -> None:
    graph = training_graph(mobile_net(), some())
    trainer = Trainer(graph)
    with pytest.raises(BadInput, match="x0 is float32"):
        trainer.encode([np.zeros((1, 8, 8, 3), np.float32)])
    with pytest.raises(BadInput, match="labels"):
        fit(trainer, [], [], epochs=1, rate=1e-3)
    with pytest.raises(BadInput, match="nothing to train"):
        Trainer(mobile_net())


def test_cosine_falls_to_nothing() -> None:
    rates = [rate_at("cosine", 2.0, i, 10) for i in range(11)]
    assert rates[0] == 2.0
    assert rates[5] == pytest.approx(1.0)
    assert rates[10] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)
    assert rate_at("constant", 2.0, 7, 10) == 2.0


def test_the_model_still_runs_alone() -> None:
    """Without the loss and the updates the graph is the model."""
    net = mobile_net()
    graph = training_graph(net, some())
    trainer = Trainer(graph)
    for sample in samples(net, 3):
        assert np.array_equal(trainer.outputs(trainer.encode(sample))[0], run(net, sample)[0])
    assert replace(graph, updates=()).state == ()
