"""Attacks of a caller: someone who can call the gateway on the device and sees what it answers."""

from __future__ import annotations

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from ..ops._window import WindowAttrs, output_size, patches
from ..quant.batch import run_many
from .assignment import best_assignment
from .gaps import BlindedGap, BridgeGap, order_of
from .imitation import UNIT, Parameters, bias_name, weight_name
from .lab import Lab
from .torch_extra import load_torch

_RIDGE = 1e-3


def correlation(x: Array, y: Array) -> Array:
    """[channels of y, channels of x]: how every two channels go together over all positions."""
    rows = [a.reshape(-1, a.shape[-1]).astype(np.float64) for a in (x, y)]
    centred = [a - a.mean(0) for a in rows]
    spread = [np.linalg.norm(a, axis=0) + 1e-9 for a in centred]
    return (centred[1].T @ centred[0]) / np.outer(spread[1], spread[0])


def correlated_order(lab: Lab, secure: list[Graph], queries: int, seed: int) -> float | None:
    """Share of a secret order that correlating one call's inputs with its output gives away.

    None where no input of the first call has the output's channels and an order of its own.
    """
    gate, truth = secure[0], order_of(secure[0])
    if truth is None:
        return None
    chosen = np.random.default_rng(seed).permutation(len(lab.train))[:queries]
    rows = lab.crossing_int8("train", chosen)
    answer = answers(gate, rows, seed)
    shares: list[float] = []
    for value, row in zip(gate.inputs, rows, strict=False):
        if value.type.shape == gate.outputs[0].type.shape:
            found = best_assignment(correlation(row, answer))
            shares.append(float(np.mean(found == truth)))
    return max(shares, default=None)


def answers(gate: Graph, rows: list[Array], seed: int) -> Array:
    """What a secure graph answers, [samples, *shape]; every query gets a pad of its own."""
    rng = np.random.default_rng(seed)
    pads = [
        rng.integers(-(2**31), 2**31, (len(rows[0]), *v.type.shape), np.int32)
        for v in gate.inputs[len(rows) :]
    ]
    return run_many(gate, [*rows, *pads])[0]


def clone(lab: Lab, gateway: Graph, queries: int, seed: int) -> Parameters | None:
    """The gateway's function from its answers to `queries` calls, by least squares.

    gateway: its inputs → its output, all calls together. Returns what stands for it in the gap;
    None where the bridge is more than a layer and a sum.
    """
    chosen = np.random.default_rng(seed).permutation(len(lab.train))[:queries]
    rows = lab.crossing_int8("train", chosen)
    (y,) = run_many(gateway, rows)
    xs = [_real(v, r) for v, r in zip(gateway.inputs, rows, strict=True)]
    low, high = _bounds(gateway)
    seen = (y > low) & (y < high)
    target = _real(gateway.outputs[0], y)
    if isinstance(lab.gap, BridgeGap):
        return _clone_bridge(lab.gap, xs, target, seen)
    if isinstance(lab.gap, BlindedGap):
        ring = lab.gap.ring
        attrs, w = ring.attrs, ring.inputs[0].type.shape
        pixels = xs[0].reshape(-1, *ring.inputs[1].type.shape[1:])
        features = _patches(pixels, (w[1], w[2]), attrs)
        solved = _solve(features, target, seen)
        shape = (w[0], w[1], w[2], pixels.shape[-1])
        if attrs.groups > 1:
            return None
        torch = load_torch()
        return {
            "gap/weight": torch.tensor(solved[:-1].T.reshape(shape)).float(),
            "gap/bias": torch.tensor(solved[-1]).float(),
        }
    found = best_assignment(correlation(rows[0], y))
    matrix = np.zeros((len(found), len(found)), np.float32)
    matrix[np.arange(len(found)), found] = 1
    return {"gap/order": load_torch().tensor(matrix)}


def _clone_bridge(gap: BridgeGap, xs: list[Array], target: Array, seen: Array) -> Parameters | None:
    torch, layer = load_torch(), gap.layer
    rest = [n for n in gap.nodes if n is not layer]
    if len(rest) > 1 or any(n.op.name not in ("add", "sub") for n in rest):
        return None
    known = dict(zip(gap.secure.inputs, xs, strict=True))
    features = [_layer_features(layer, known[layer.inputs[0]])]
    scales, skips = [1.0], list(gap.skips)
    if rest:
        attrs = rest[0].attrs
        parts = dict(zip(rest[0].inputs, (attrs.a / 2.0**attrs.n, attrs.b / 2.0**attrs.n),
                         strict=True))  # fmt: skip
        scales = [parts[layer.outputs[0]], *(parts[v] for v, _ in skips)]
        features += [known[v].reshape(-1, known[v].shape[-1]) for v, _ in skips]
    if any(len(f) != target.size // target.shape[-1] for f in features):
        return None  # an operand that is broadcast
    solved = _solve(np.concatenate(features, axis=1), target, seen)
    w = layer.inputs[1].type.shape
    width = features[0].shape[1]
    found = {
        weight_name(layer): solved[:width].T.reshape(w) / scales[0],
        bias_name(layer): solved[-1] / scales[0],
    }
    at = width
    for i, (value, _) in enumerate(skips):
        channels = value.type.shape[-1]
        found[f"gap/skip{i}"] = solved[at : at + channels].T / scales[1 + i]
        at += channels
    return {n: torch.tensor(a).float() for n, a in found.items()}


def _layer_features(layer: Node, x: Array) -> Array:
    if layer.op.name == "dense":
        return x.reshape(-1, x.shape[-1])
    w = layer.inputs[1].type.shape
    return _patches(x.reshape(-1, *layer.x.shape[1:]), (w[1], w[2]), layer.attrs)


def _patches(x: Array, kernel: tuple[int, int], attrs: WindowAttrs) -> Array:
    """[positions, KH·KW·C]: what every output of a window depends on."""
    size = output_size((x.shape[1], x.shape[2]), kernel, attrs)
    windows = patches(x, kernel, size, attrs, 0.0)
    return windows.reshape(-1, kernel[0] * kernel[1] * x.shape[3])


def _solve(features: Array, target: Array, seen: Array) -> Array:
    """[features + 1, channels]: a ridge regression per channel on the answers inside the clamp."""
    ones = np.ones((len(features), 1))
    a = np.concatenate([features, ones], axis=1)
    y, inside = (t.reshape(len(a), -1) for t in (target, seen))
    solved = np.zeros((a.shape[1], y.shape[1]))
    for channel in range(y.shape[1]):
        rows = a[inside[:, channel]]
        gram = rows.T @ rows + _RIDGE * np.eye(a.shape[1])
        solved[:, channel] = np.linalg.solve(gram, rows.T @ y[inside[:, channel], channel])
    return solved


def _real(value: Value, rows: Array) -> Array:
    return (rows.astype(np.float64) - value.type.zero_point) * UNIT


def _bounds(gateway: Graph) -> tuple[int, int]:
    """The clamp of what the gateway answers."""
    clamps = [n.attrs.q_clamp for n in gateway.nodes if hasattr(n.attrs, "q_clamp")]
    return clamps[-1] if clamps else (-128, 127)
