"""Every tuned kernel for Helium on every case it applies to, bit-exact in the emulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinsmith.ir.dtypes import Shape
from tinsmith.ir.opdef import Case
from tinsmith.kernels.mve import _weights
from tinsmith.kernels.mve._uniform import uniform
from tinsmith.ops import registry
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.quant.arithmetic import accumulator_bounds, requantize

from .cases import case_graph
from .test_kernels_dsp import MORE
from .tuned_kernels import SAME, conv_case, variants, wrong

FEATURES = frozenset({"mve"})
BOARD = "mps3-an547"


def _depthwise(name: str, x: Shape, **attrs: Any) -> Case:
    return conv_case(name, x, x[1], (3, 3), **{"pads": SAME, "groups": x[1], **attrs})


# Strips: bands of them, lying ones, masked lines and columns, last blocks that overlap.
MORE_STRIPS = (
    _depthwise("dw_bands_8", (1, 8, 48, 48)),
    _depthwise("dw_bands_in_place", (1, 16, 31, 26)),
    _depthwise("dw_lying", (1, 8, 25, 5)),
    _depthwise("dw_3_by_3", (1, 17, 3, 3)),
    _depthwise("dw_one", (1, 8, 1, 1)),
    _depthwise("dw_bands_2", (1, 16, 48, 49), strides=(2, 2)),
    _depthwise("dw_rows_2", (1, 3, 23, 11), strides=(2, 2)),
    _depthwise("dw_far", (1, 9, 6, 7), pads=(2, 2, 0, 1), clamp=(-0.5, 1.0)),
)

# Flat planes: turns of a loop, blocks that overlap, other borders, one to four outputs of a load.
MORE_FLAT = (
    _depthwise("flat_5", (1, 24, 25, 5)),
    _depthwise("flat_4", (1, 9, 11, 4), clamp=(-0.5, 1.0)),
    _depthwise("flat_3", (1, 16, 3, 3)),
    _depthwise("flat_2", (1, 8, 17, 2), pads=(2, 1, 0, 1)),
    _depthwise("flat_left", (1, 3, 9, 4), pads=(1, 2, 1, 0)),
    _depthwise("flat_bare", (1, 8, 30, 6), pads=(0, 0, 0, 0)),
    _depthwise("flat_cut", (1, 260, 4, 3), pads=(0, 2, 2, 1)),
)

# Windows of any size: bands in place and not, blocks that overlap, a filter's image beyond reach
# of a load, two taps of a window on one byte of a border.
MORE_SIZES = (
    conv_case("any_7", (1, 16, 33, 32), 16, (7, 7), strides=(2, 2), pads=(3, 2, 3, 3), groups=16),
    conv_case("any_bands", (1, 8, 41, 38), 8, (5, 5), pads=(2, 2, 2, 2), groups=8),
    conv_case("any_wide", (1, 8, 9, 58), 8, (7, 7), pads=(3, 3, 3, 3), groups=8),
    conv_case(
        "any_dilated", (1, 11, 17, 13), 11, (3, 5), dilations=(3, 2), pads=(4, 0, 1, 3), groups=11,
        clamp=(-0.5, 1.0),
    ),
    conv_case("any_narrow", (1, 8, 3, 1), 8, (5, 4), pads=(2, 2, 2, 1), groups=8),
)  # fmt: skip

# Four pixels at a time: rows that leave some, lines unrolled or not, strides, tall windows.
MORE_COLUMNS = (
    conv_case("columns_16", (1, 16, 9, 13), 8, (3, 3), pads=SAME),
    conv_case("columns_64", (1, 64, 4, 6), 4, (3, 3), pads=SAME, clamp=(-0.5, 1.0)),
    conv_case("columns_stride", (1, 32, 9, 12), 12, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
    conv_case("columns_tall", (1, 16, 9, 7), 4, (5, 3), dilations=(2, 1), pads=(4, 2, 4, 2)),
    conv_case("columns_cut", (1, 16, 5, 10), 4, (1, 3), strides=(1, 2)),
)

# Strips of windows: bands, odd rows, lines that are no whole words, windows beyond the border.
MORE_WINDOWS = (
    conv_case("windows", (1, 1, 29, 10), 12, (10, 4), strides=(2, 2), pads=(4, 1, 5, 1)),
    conv_case("windows_bands", (1, 3, 43, 40), 8, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
    conv_case("windows_same", (1, 3, 9, 9), 16, (3, 3), pads=SAME, clamp=(-0.5, 1.0)),
    conv_case("windows_far", (1, 2, 5, 4), 4, (3, 3), pads=(4, 5, 6, 4)),
)

MORE_MEANS = (
    Case("pixels", ((1, 5, 5, 16),), ReduceMeanAttrs((1, 2))),
    Case("most", ((1, 16, 16, 8),), ReduceMeanAttrs((1, 2), clamp=(-0.5, 1.0))),
    Case("many", ((1, 20, 29, 11),), ReduceMeanAttrs((1, 2))),
)

# Whole groups of channels, and groups cut short.
MORE_AVERAGES = (
    Case("groups", ((1, 16, 9, 8),), AveragePoolAttrs((3, 3), (2, 2), (1, 1, 1, 1))),
    Case("cut", ((2, 21, 7, 6),), AveragePoolAttrs((2, 3), (1, 2), clamp=(-0.5, 1.0))),
    Case("steep", ((1, 8, 5, 5),), AveragePoolAttrs((2, 1)), data=(-0.01, 0.01)),
)
MORE_MAXIMA = (
    Case("groups", ((1, 32, 9, 8),), MaxPoolAttrs((3, 3), (2, 2), (1, 1, 1, 1))),
    Case("cut", ((2, 37, 7, 6),), MaxPoolAttrs((5, 4), (1, 2), clamp=(-0.5, 1.0))),
)

ALL_MORE = {
    "conv2d": (
        *MORE["conv2d"],
        *MORE_SIZES,
        *MORE_STRIPS,
        *MORE_FLAT,
        *MORE_COLUMNS,
        *MORE_WINDOWS,
    ),
    "reduce_mean": MORE_MEANS,
    "average_pool": (*MORE["average_pool"], *MORE_AVERAGES),
    "max_pool": (*MORE["max_pool"], *MORE_MAXIMA),
}


def test_every_kernel_is_bit_exact(tmp_path: Path) -> None:
    assert not wrong(variants(FEATURES, ALL_MORE), BOARD, tmp_path)


def test_channels_with_shifts_of_their_own_are_bit_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no common shift is exact, which hardly ever happens."""
    monkeypatch.setattr(_weights, "uniform", lambda node, graph: None)
    found = variants(FEATURES, ALL_MORE)
    convolutions = (v for v in found if v[1].op == "conv2d" and not v[2])
    assert not wrong(convolutions, BOARD, tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_a_common_shift_gives_every_output_of_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = case_graph(registry()["conv2d"], conv_case("uniform", (1, 8, 2, 2), 16, (1, 1)))
    (node,) = graph.nodes
    w, bias, multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[1:5])
    shift = shift - rng.integers(0, 6, shift.shape)
    finer = replace(graph, initializers={**graph.initializers, node.inputs[4]: shift})
    common = uniform(node, finer)
    assert common is not None
    low, high = accumulator_bounds(w, bias, -128, 127, node.x.zero_point)
    for c in range(len(bias)):
        acc = np.arange(low[c], high[c] + 1)
        wanted = requantize(acc, int(multiplier[c]), int(shift[c])) + node.y.zero_point
        got = ((acc + common.move[c]) * int(common.multiplier[c]) >> 31) + common.offset
        for step in (common.first, common.second):
            got = (got + (1 << step >> 1)) >> step
        bounds = node.attrs.q_clamp
        assert np.array_equal(np.clip(got, *bounds), np.clip(wanted, *bounds))
