"""Cases of updates that outlast their sample, made of the cases of those that do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tinsmith.ir.dtypes import Array, DType, TensorType
from tinsmith.ir.graph import Value
from tinsmith.ops.velocity import (
    AccumulateAttrs,
    AccumulateWeightsAttrs,
    ApplyWeightsAttrs,
    CountSampleAttrs,
)
from tinsmith.ops.weight_update import moving_shape

from .training_case import TrainingCase, make_case, rng_of

POSITION = Value("position", TensorType((1,), DType.INT32))
# batch, momentum, weight decay
OPTIMIZERS = ((4, 0.9, 1e-2), (1, 0.5, 0.0), (3, 0.0, 0.0))


def velocity_cases(updates: Sequence[TrainingCase]) -> Iterator[TrainingCase]:
    """updates: cases of weight_update and bias_update; each becomes two."""
    for number, case in enumerate(updates):
        batch, momentum, decay = OPTIMIZERS[number % len(OPTIMIZERS)]
        if case.graph.nodes[0].op.name == "bias_update":
            yield _accumulate_bias(case, batch, momentum)
            yield _apply_bias(case, batch)
            continue
        if "residual8" in case.name:
            yield _accumulate_weights(case, batch, momentum)
        if not case.name.endswith("_float"):
            yield _apply_weights(case, batch, decay)
    attrs = CountSampleAttrs(5)
    constants = {POSITION: np.zeros(1, np.int32)}
    yield make_case("count_sample", "5", [POSITION], constants, attrs, updates=[POSITION])


def decaying_cases(updates: Sequence[TrainingCase]) -> Iterator[TrainingCase]:
    """Cases of weight_update with weight decay."""
    for case in updates:
        (node,) = case.graph.nodes
        name, attrs = f"{_name(case)}_decay", replace(node.attrs, weight_decay=1e-2)
        constants = dict(case.graph.initializers)
        yield make_case(
            "weight_update", name, node.inputs, constants, attrs, updates=case.graph.state
        )


def _name(case: TrainingCase) -> str:
    return case.name.partition(".")[2]


def _accumulate_weights(case: TrainingCase, batch: int, momentum: float) -> TrainingCase:
    (node,) = case.graph.nodes
    a = node.attrs
    attrs = AccumulateWeightsAttrs(
        a.strides, a.pads, a.dilations, a.groups, a.update_channels, batch, momentum
    )
    velocity = _velocity(moving_shape(a, node.inputs[5].type.shape))
    inputs = [*node.inputs[:3], node.inputs[4], velocity]
    return _case("accumulate_weights", case, inputs, attrs, [velocity])


def _apply_weights(case: TrainingCase, batch: int, decay: float) -> TrainingCase:
    (node,) = case.graph.nodes
    a, (trained, bias, *residual) = node.attrs, node.inputs[5:]
    zero_point = node.inputs[2].type.zero_point if batch > 1 else 0
    attrs = ApplyWeightsAttrs(a.rule, a.update_channels, batch, decay, zero_point)
    state = [_velocity(moving_shape(a, trained.type.shape)), trained, bias, *residual]
    return _case("apply_weights", case, [node.inputs[3], node.inputs[4], *state], attrs, state)


def _accumulate_bias(case: TrainingCase, batch: int, momentum: float) -> TrainingCase:
    (node,) = case.graph.nodes
    velocity = _velocity(node.inputs[4].type.shape)
    inputs = [*node.inputs[:2], node.inputs[3], velocity]
    attrs = AccumulateAttrs(batch, momentum)
    return _case("accumulate_bias", case, inputs, attrs, [velocity])


def _apply_bias(case: TrainingCase, batch: int) -> TrainingCase:
    (node,) = case.graph.nodes
    state = [_velocity(node.inputs[4].type.shape), node.inputs[4]]
    inputs = [node.inputs[2], node.inputs[3], *state]
    return _case("apply_bias", case, inputs, CountSampleAttrs(batch), state)


def _velocity(shape: tuple[int, ...]) -> Value:
    return Value("velocity", TensorType(shape, DType.FLOAT32))


def _case(
    op: str,
    case: TrainingCase,
    inputs: Sequence[Value],
    attrs: AccumulateWeightsAttrs | ApplyWeightsAttrs | AccumulateAttrs | CountSampleAttrs,
    state: Sequence[Value],
) -> TrainingCase:
    held = case.graph.initializers
    constants: dict[Value, Array] = {v: held[v] for v in inputs if v in held}
    rng = rng_of(op, case.name)
    for value in state:
        if value.name == "velocity":
            constants[value] = rng.normal(0, 1e-4, value.type.shape).astype(np.float32)
            if op.startswith("apply"):
                constants[value].flat[0] = np.inf  # nothing may come of it but a step
    position = [POSITION] if attrs.batch > 1 else []
    constants |= {p: np.zeros(1, np.int32) for p in position}
    made = make_case(op, _name(case), [*inputs, *position], constants, attrs, updates=state)
    updates = (*made.graph.updates, *((p, p) for p in position))
    return replace(made, graph=replace(made.graph, updates=updates))
