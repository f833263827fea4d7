"""Dense layers whose weights are as those of trained networks: most are small, some are not.

What the kernels that hold two sums in one register execute depends on it.
"""

from __future__ import annotations

import numpy as np

from tinsmith.ir.dtypes import Quant
from tinsmith.ir.graph import Graph, Value

from ..int8_nets import Int8Net

_SPREADS = (1.5, 3.0, 6.0, 10.0, 20.0, 40.0)  # of a Laplace distribution


def drawn_dense(seed: int, count: int) -> Graph:
    """Layers side by side, of one row most of the time, with one scale for all channels."""
    rng = np.random.default_rng(seed)
    net = Int8Net("drawn", seed)
    return net.build(*(_layer(net, rng) for _ in range(count)))


def _layer(net: Int8Net, rng: np.random.Generator) -> Value:
    rows = int(rng.choice([1, 1, 1, 1, 2, 3, 4]))
    depth = int(rng.choice([8, 24, 32, 64, 100, 128, 200, 256, 640, int(rng.integers(8, 300))]))
    out = int(rng.choice([4, 8, 10, 32, 64, 128, 256, int(rng.integers(2, 150))]))
    x = net.input(rows, depth)
    drawn = rng.laplace(0, float(rng.choice(_SPREADS)), (out, depth))
    filters = np.clip(np.round(drawn), -127, 127).astype(np.int8)
    scale = 0.02 / (float(np.abs(drawn).mean()) * depth**0.5)
    one = Quant((scale,) * out, (0,) * out, 0)
    sums = Quant((scale * x.type.scale,) * out, (0,) * out, 0)
    bias = rng.integers(-2000, 2000, out).astype(np.int32)
    return net.add("dense", [x, net.constant("w", filters, one), net.constant("b", bias, sums)])
