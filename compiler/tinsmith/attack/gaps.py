"""What an attacker puts in the place of the gateway: a guess with parameters, for every mode.

Of the secure world the attacker is given the architecture: shapes, strides, clamps, the factors of
an addition. Weights, biases, multipliers and orders are what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from .assignment import best_assignment
from .imitation import (
    UNIT,
    WEIGHTED,
    Parameters,
    bias_name,
    convolve,
    run_nodes,
    weight_name,
)
from .stolen import Stolen
from .torch_extra import Tensor, load_torch


class Gap(Protocol):
    """A guess at the gateway."""

    @property
    def orders(self) -> Mapping[str, Array | None]:
        """Parameters that stand for an order of channels, and the true order where there is one."""
        ...

    def standins(self, seed: int, sample: Mapping[Value, Tensor]) -> dict[str, Parameters]:
        """Named first guesses, without labels; the first is where training starts."""
        ...

    def run(self, values: Mapping[Value, Tensor], parameters: Parameters) -> Tensor:
        """The gateway's output for the values that cross."""
        ...


@dataclass(frozen=True)
class PermutationGap:
    """Mode `permute`: a mixing of channels, C×C."""

    stolen: Stolen
    secure: Graph

    @property
    def orders(self) -> Mapping[str, Array | None]:
        return {"gap/order": order_of(self.secure)}

    def standins(self, seed: int, sample: Mapping[Value, Tensor]) -> dict[str, Parameters]:
        del seed, sample
        return {"identity": {"gap/order": load_torch().eye(self.stolen.output.type.shape[-1])}}

    def run(self, values: Mapping[Value, Tensor], parameters: Parameters) -> Tensor:
        return values[self.stolen.inputs[0]] @ parameters["gap/order"].T


@dataclass(frozen=True)
class BridgeGap:
    """Mode `withhold`: the bridge with unknown weights; what skips it gets a mixing of its own."""

    stolen: Stolen
    secure: Graph

    @property
    def layer(self) -> Node:
        return next(n for n in self.secure.nodes if n.op.name in WEIGHTED)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Those of the bridge, the permutation at its end left out: weights and mixing hold it."""
        return tuple(n for n in self.secure.nodes if n.op.name != "permute_channels")

    @property
    def skips(self) -> tuple[tuple[Value, Value], ...]:
        """(secure graph's input, the caller's value) of operands that do not enter the layer."""
        pairs = zip(self.secure.inputs, self.stolen.inputs, strict=True)
        return tuple(p for p in pairs if p[0] not in self.layer.inputs)

    @property
    def orders(self) -> Mapping[str, Array | None]:
        return {f"gap/skip{i}": order_of(self.secure) for i, _ in enumerate(self.skips)}

    def standins(self, seed: int, sample: Mapping[Value, Tensor]) -> dict[str, Parameters]:
        del sample
        torch = load_torch()
        shape = self.layer.inputs[1].type.shape
        generator = torch.Generator().manual_seed(seed)
        spread = float(np.sqrt(2 / np.prod(shape[1:])))
        mixes = {f"gap/skip{i}": torch.eye(v.type.shape[-1]) for i, (v, _) in enumerate(self.skips)}
        guesses = {
            "no layer": torch.zeros(shape),
            "random layer": torch.randn(shape, generator=generator) * spread,
        }
        bias = torch.zeros(shape[0])
        return {
            name: {weight_name(self.layer): w, bias_name(self.layer): bias.clone(),
                   **{k: m.clone() for k, m in mixes.items()}}
            for name, w in guesses.items()
        }  # fmt: skip

    def run(self, values: Mapping[Value, Tensor], parameters: Parameters) -> Tensor:
        pairs = zip(self.secure.inputs, self.stolen.inputs, strict=True)
        inside = {mine: values[theirs] for mine, theirs in pairs}
        for i, (mine, theirs) in enumerate(self.skips):
            inside[mine] = values[theirs] @ parameters[f"gap/skip{i}"].T
        run_nodes(self.secure, self.nodes, inside, parameters)
        return inside[self.nodes[-1].outputs[0]]


@dataclass(frozen=True)
class BlindedGap:
    """Mode `coreguard-otp`: the filter is known but for the order of its inputs; bias, multipliers
    and the order of the outputs are not."""

    stolen: Stolen
    unblind: Graph
    blind: Graph

    @property
    def ring(self) -> Node:
        return next(n for n in self.stolen.gap if n.op.name == "ring_conv2d")

    @property
    def orders(self) -> Mapping[str, Array | None]:
        return {"gap/in": order_of(self.blind), "gap/out": order_of(self.unblind)}

    def _sums(self, x: Tensor, mix: Tensor) -> Tensor:
        w = self.stolen.graph.constant(self.ring.inputs[0]).astype(np.float32)
        spread = float(w.std() * np.sqrt(np.prod(w.shape[1:])))
        filters = load_torch().tensor(w / np.float32(spread))
        pixels = self.ring.inputs[1].type.shape
        return convolve((x @ mix.T).reshape(-1, *pixels[1:]), filters, None, self.ring.attrs)

    def standins(self, seed: int, sample: Mapping[Value, Tensor]) -> dict[str, Parameters]:
        del seed
        torch = load_torch()
        x = sample[self.stolen.inputs[0]]
        mix = torch.eye(x.shape[-1])
        sums = self._sums(x, mix)
        outputs = sums.shape[-1]
        return {
            "filter as it is": {
                "gap/in": mix,
                "gap/out": torch.eye(outputs),
                "gap/scale": 1 / (sums.reshape(-1, outputs).std(0) + 1e-3),
                "gap/bias": torch.zeros(outputs),
            }
        }

    def run(self, values: Mapping[Value, Tensor], parameters: Parameters) -> Tensor:
        """With `gap/weight` the parameters are a layer of their own, its outputs in their order."""
        x = values[self.stolen.inputs[0]]
        attrs = next(n for n in self.unblind.nodes if n.op.name == "unblind").attrs
        zero = self.stolen.output.type.zero_point
        low, high = ((q - zero) * UNIT for q in attrs.q_clamp)
        if "gap/weight" in parameters:
            pixels = x.reshape(-1, *self.ring.inputs[1].type.shape[1:])
            w, bias = parameters["gap/weight"], parameters["gap/bias"]
            y = convolve(pixels, w, bias, self.ring.attrs).clamp(low, high)
        else:
            sums = self._sums(x, parameters["gap/in"])
            y = sums * parameters["gap/scale"] + parameters["gap/bias"]
            y = y.clamp(low, high) @ parameters["gap/out"].T
        return y.reshape(-1, *self.stolen.output.type.shape[1:])


def make_gap(stolen: Stolen, secure: list[Graph]) -> Gap:
    """The guess that belongs to the mode of these secure graphs."""
    if len(secure) == 2:
        return BlindedGap(stolen, secure[1], secure[0])
    if any(n.op.name in WEIGHTED for n in secure[0].nodes):
        return BridgeGap(stolen, secure[0])
    return PermutationGap(stolen, secure[0])


def project(gap: Gap, parameters: Parameters) -> tuple[Parameters, dict[str, float | None]]:
    """Every mixing replaced by the permutation nearest to it.

    Returns the parameters, and of every order the share of its channels that is right; None where
    no true order exists apart from the withheld weights.
    """
    torch = load_torch()
    projected, right = dict(parameters), {}
    for name, truth in gap.orders.items():
        mixing = parameters[name].detach().numpy()
        found = best_assignment(mixing)
        matrix = np.zeros_like(mixing)
        matrix[np.arange(len(found)), found] = 1
        projected[name] = torch.tensor(matrix)
        right[name] = None if truth is None else float(np.mean(found == truth))
    return projected, right


def order_of(secure: Graph) -> Array | None:
    """The secret order in a secure graph; None where the weights hold it."""
    for node in secure.nodes:
        if node.op.name in ("permute_channels", "blind", "unblind"):
            return secure.constant(node.inputs[-1])
    return None
