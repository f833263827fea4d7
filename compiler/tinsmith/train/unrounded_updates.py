"""The updates in real arithmetic: SGD on float weights, with momentum and weight decay.

Velocities, weights and biases keep the units of their integers, and become float64 as they move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..ir.dtypes import Array, Shape
from ..ir.graph import Node
from ..ops import velocity
from ..ops._convolution import filter_gradient
from ..ops._gradient import power_of_two
from ..ops.weight_update import step_scale
from .program import Reference


def _weight_gradient(node: Node, g: Array, x: Array, filters: Shape) -> Array:
    """Σ over pixels of g · (x − z_x), of the weights that move, in g's precision."""
    if node.attrs.update_channels:
        g = g[..., list(node.attrs.update_channels)]
    centred = x.astype(g.dtype) - node.inputs[2].type.zero_point
    return filter_gradient(g, centred, (filters[1], filters[2]), filters[3], node.attrs)


def _bias_gradient(g: Array) -> Array:
    """float64: biases have large integers."""
    return g.reshape(-1, g.shape[-1]).sum(axis=0, dtype=np.float64)


def update_weights(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The bias keeps z_x folded in."""
    g, exponent, x, rate, coefficient, trained, bias = arrays[:7]
    rows = np.array(node.attrs.update_channels or range(trained.shape[0]))
    scale = step_scale(coefficient, rate, exponent)[rows][:, None, None, None]
    step = _weight_gradient(node, g, x, node.inputs[5].type.shape) * scale
    if node.attrs.weight_decay:
        live = (coefficient[rows] != 0)[:, None, None, None]
        step = step + rate[0] * node.attrs.weight_decay * trained[rows] * live
    new = trained.astype(np.result_type(trained, step))
    new[rows] -= step
    return (new, shifted(bias, new, trained, node.inputs[2].type.zero_point), *arrays[7:])


def shifted(bias: Array, new: Array, old: Array, zero_point: int) -> Array:
    """The bias that goes with new weights: z_x is folded in."""
    return bias - zero_point * (new - old).sum(axis=(1, 2, 3), dtype=np.float64)


def update_bias(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    del node
    g, exponent, rate, coefficient, bias = arrays
    return (bias - _bias_gradient(g) * step_scale(coefficient, rate, exponent),)


def accumulate_weights(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The sum of a batch's gradients."""
    g, exponent, x, _, total = arrays[:5]
    dw = _weight_gradient(node, g, x, total.shape)
    return (total * velocity.carry(node, arrays[5:]) + dw * power_of_two(exponent),)


def accumulate_bias(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    g, exponent, _, total = arrays[:4]
    db = _bias_gradient(g) * power_of_two(exponent)
    return ((total * velocity.carry(node, arrays[4:]) + db).astype(total.dtype),)


def velocity_and_step(node: Node, arrays: Sequence[Array], weights: Array) -> tuple[Array, Array]:
    """Of an apply_weights node at the end of a batch. weights: the real ones, of what moves."""
    rate, coefficient, total = arrays[:3]
    rows = list(node.attrs.update_channels) or slice(None)
    factors = coefficient[rows][:, None, None, None]
    if node.attrs.weight_decay:
        pull = node.attrs.weight_decay * node.attrs.batch * weights
        total = total + np.divide(pull, factors, out=np.zeros_like(pull), where=factors != 0)
    scale = velocity.step_scale(coefficient[rows], rate, node.attrs.batch)
    return total, total * scale[:, None, None, None]


def apply_weights(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    trained, bias = arrays[3:5]
    count = len(node.outputs) + 2
    if not velocity.is_last(node, arrays[count:]):
        return arrays[2:count]
    rows = list(node.attrs.update_channels) or slice(None)
    after, step = velocity_and_step(node, arrays, trained[rows].astype(np.float64))
    new = trained.astype(np.float64)
    new[rows] -= step
    return (after, new, shifted(bias, new, trained, node.attrs.zero_point), *arrays[5:count])


def apply_bias(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    rate, coefficient, total, bias = arrays[:4]
    if not velocity.is_last(node, arrays[4:]):
        return total, bias
    return total, bias - total * velocity.step_scale(coefficient, rate, node.attrs.batch)


UPDATES: Mapping[str, Reference] = {
    "weight_update": update_weights,
    "bias_update": update_bias,
    "accumulate_weights": accumulate_weights,
    "accumulate_bias": accumulate_bias,
    "apply_weights": apply_weights,
    "apply_bias": apply_bias,
}
