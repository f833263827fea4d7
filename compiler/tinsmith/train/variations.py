"""Other ways to train the same graph, for comparison only: no device does them.

Each gives replacements of operators' references (see `Program`), or other constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node
from ..ops._gradient import unpack_mask
from ..ops.velocity import is_last
from ..ops.weight_update import step_scale, weight_gradient
from . import unrounded_updates as real
from .program import Reference
from .unrounded import UNROUNDED


@dataclass(frozen=True)
class Variation:
    """numbers: "int8" as the device; "latent": int8 weights and int32 biases that are rounded from
    float32 ones, which learn; "float32": nothing is rounded, neither weights nor activations.

    gradients: "float32" leaves them unrounded. qas: False takes the scaling factors off all layers
    but the classifier; `body_rate` is then their rate, a multiple of the learning rate.
    """

    numbers: Literal["int8", "latent", "float32"] = "int8"
    gradients: Literal["int8", "float32"] = "int8"
    qas: bool = True
    body_rate: float = 1.0


DEVICE = Variation()
_COEFFICIENT = {"weight_update": 4, "bias_update": 3, "apply_weights": 1, "apply_bias": 1}


def replacements(variation: Variation, latent: dict[str, Array]) -> dict[str, Reference]:
    """latent: the float32 weights and biases by the name of their update; filled as they move."""
    if variation.numbers == "float32":
        return dict(UNROUNDED)
    found: dict[str, Reference] = {}
    if variation.gradients == "float32":
        found["quantize_gradient"] = _float_gradient
        found["bias_update"] = _rounded_bias_update
        found["accumulate_bias"] = real.accumulate_bias
    if variation.numbers == "latent":
        found["weight_update"] = _latent_weights(latent)
        found["bias_update"] = _latent_bias(latent)
        found["apply_weights"] = _latent_apply(latent)
        found["apply_bias"] = _latent_apply_bias(latent)
    return found


def without_qas(graph: Graph, body_rate: float) -> Graph:
    """The graph with `body_rate` in place of every coefficient but the classifier's."""
    updates = [n for n in graph.nodes if n.op.name in _COEFFICIENT]
    classifier = updates[0].origin
    changed = dict(graph.initializers)
    for node in updates:
        if node.origin != classifier:
            value = node.inputs[_COEFFICIENT[node.op.name]]
            changed[value] = np.where(changed[value] != 0, np.float32(body_rate), np.float32(0))
    return replace(graph, initializers=changed)


def _float_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    del node
    t = arrays[0] * arrays[1]
    if len(arrays) > 2:
        t = np.where(unpack_mask(arrays[2], t.shape), t, np.float32(0))
    return t, np.zeros(1, np.int32)


def _rounded_bias_update(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """bias_update from float32 gradients: the sum is float32, the bias int32 as on the device."""
    (new,) = real.update_bias(node, arrays)
    return (np.clip(np.rint(new.astype(np.float64)), -(2**30), 2**30).astype(np.int32),)


def _latent_weights(latent: dict[str, Array]) -> Reference:
    def update(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        g, exponent, x, rate, coefficient, trained, bias = arrays[:7]
        old = _latent_of(latent, node, trained)
        scale = step_scale(coefficient, rate, exponent)[_rows(node)]
        dw = weight_gradient(node, g, x, trained.shape).astype(np.float32)
        step = dw * scale[:, None, None, None]
        step = step + rate[0] * np.float32(node.attrs.weight_decay) * old[_rows(node)]
        zero_point = node.inputs[2].type.zero_point
        moved = _move(latent, node, (old, step, coefficient), trained, bias, zero_point)
        return (*moved, *arrays[7:])

    return update


def _latent_apply(latent: dict[str, Array]) -> Reference:
    def apply(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        coefficient, trained, bias = arrays[1], arrays[3], arrays[4]
        count = len(node.outputs) + 2
        if not is_last(node, arrays[count:]):
            return arrays[2:count]
        old = _latent_of(latent, node, trained)
        velocity, step = real.velocity_and_step(node, arrays, old[_rows(node)])
        moves = (old, step, coefficient)
        moved = _move(latent, node, moves, trained, bias, node.attrs.zero_point)
        return (velocity.astype(np.float32), *moved, *arrays[5:count])

    return apply


def _rows(node: Node) -> list[int] | slice:
    return list(node.attrs.update_channels) or slice(None)


def _latent_of(latent: dict[str, Array], node: Node, trained: Array) -> Array:
    old = latent.get(node.name)
    return trained.astype(np.float32) if old is None else old


def _move(
    latent: dict[str, Array],
    node: Node,
    moves: tuple[Array, Array, Array],
    trained: Array,
    bias: Array,
    zero_point: int,
) -> tuple[Array, Array]:
    """(trained', bias'). moves: the latent weights, their step, the coefficient."""
    old, step, coefficient = moves
    new = old.copy()
    new[_rows(node)] = np.clip(old[_rows(node)] - step, -127, 127)
    latent[node.name] = new
    rounded = np.where(coefficient[:, None, None, None] != 0, np.rint(new), trained)
    rounded = rounded.astype(np.int8)
    grown = (rounded.astype(np.int64) - trained).sum(axis=(1, 2, 3))
    return rounded, (bias - zero_point * grown).astype(np.int32)


def _latent_bias(latent: dict[str, Array]) -> Reference:
    """The rounding error of the bias is what is latent: other updates shift the bias too."""

    def update(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        (wanted,) = real.update_bias(node, arrays)
        return (_move_bias(latent, node, wanted, arrays[4], arrays[3]),)

    return update


def _latent_apply_bias(latent: dict[str, Array]) -> Reference:
    def apply(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        velocity, wanted = real.apply_bias(node, arrays)
        if not is_last(node, arrays[4:]):
            return velocity, wanted
        return velocity, _move_bias(latent, node, wanted, arrays[3], arrays[1])

    return apply


def _move_bias(
    latent: dict[str, Array], node: Node, wanted: Array, old: Array, coefficient: Array
) -> Array:
    """wanted: the real bias, but for the error of the last rounding."""
    wanted = wanted + latent.get(node.name, np.zeros(old.shape))
    new = np.clip(np.rint(wanted), -(2**30), 2**30)
    latent[node.name] = np.where(coefficient != 0, wanted - new, 0.0)
    return np.where(coefficient != 0, new, old).astype(np.int32)
