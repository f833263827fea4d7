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
from ..ops.weight_update import step_scale, weight_gradient
from .program import Reference
from .unrounded import UNROUNDED, float_bias_update


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


def replacements(variation: Variation, latent: dict[str, Array]) -> dict[str, Reference]:
    """latent: the float32 weights and biases by the name of their update; filled as they move."""
    if variation.numbers == "float32":
        return dict(UNROUNDED)
    found: dict[str, Reference] = {}
    if variation.gradients == "float32":
        found["quantize_gradient"] = _float_gradient
        found["bias_update"] = _rounded_bias_update
    if variation.numbers == "latent":
        found["weight_update"] = _latent_weights(latent)
        found["bias_update"] = _latent_bias(latent)
    return found


def without_qas(graph: Graph, body_rate: float) -> Graph:
    """The graph with `body_rate` in place of every coefficient but the classifier's."""
    updates = [n for n in graph.nodes if n.op.name in ("weight_update", "bias_update")]
    classifier = updates[0].origin
    changed = dict(graph.initializers)
    for node in updates:
        if node.origin != classifier:
            value = node.inputs[4 if node.op.name == "weight_update" else 3]
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
    (new,) = float_bias_update(node, arrays)
    return (np.clip(np.rint(new.astype(np.float64)), -(2**30), 2**30).astype(np.int32),)


def _latent_weights(latent: dict[str, Array]) -> Reference:
    def update(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        g, exponent, x, rate, coefficient, trained, bias = arrays[:7]
        rows = np.array(node.attrs.update_channels or range(trained.shape[0]))
        old = latent.get(node.name)
        old = trained.astype(np.float32) if old is None else old
        scale = step_scale(coefficient, rate, exponent)[rows]
        new = old.copy()
        step = weight_gradient(node, g, x).astype(np.float32) * scale[:, None, None, None]
        new[rows] = np.clip(old[rows] - step, -127, 127)
        latent[node.name] = new
        rounded = np.where(coefficient[:, None, None, None] != 0, np.rint(new), trained)
        rounded = rounded.astype(np.int8)
        moved = (rounded.astype(np.int64) - trained).sum(axis=(1, 2, 3))
        shifted = (bias - node.inputs[2].type.zero_point * moved).astype(np.int32)
        return (rounded, shifted, *arrays[7:])

    return update


def _latent_bias(latent: dict[str, Array]) -> Reference:
    """The rounding error of the bias is what is latent: other updates shift the bias too."""

    def update(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        g, exponent, rate, coefficient, bias = arrays
        db = g.reshape(-1, g.shape[-1]).sum(axis=0, dtype=np.float64)
        step = db * step_scale(coefficient, rate, exponent)
        wanted = bias + latent.get(node.name, np.zeros(bias.shape)) - step
        new = np.clip(np.rint(wanted), -(2**30), 2**30)
        latent[node.name] = np.where(coefficient != 0, wanted - new, 0.0)
        return (np.where(coefficient != 0, new, bias).astype(np.int32),)

    return update
