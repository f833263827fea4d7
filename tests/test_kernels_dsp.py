"""Every tuned kernel of the DSP extension on every case it applies to, bit-exact on M4 and M7."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Case
from tinsmith.kernels import registry as kernel_registry
from tinsmith.machine.board import load_board
from tinsmith.ops._clamp import INF
from tinsmith.ops._sum import SumAttrs
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.dense import DenseAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs

from .cases import case_inputs
from .kernel_models import KernelModel, run_on_board
from .tuned_kernels import SAME, conv_case, one_node_graphs, variants, wrong

FEATURES = frozenset({"dsp"})
BOARDS = ("mps2-an386", "mps2-an500")

# Sizes at which loops run more than once, tails remain, or all of the border is special.
MORE = {
    "reduce_mean": (
        Case("pixels", ((1, 5, 5, 12),), ReduceMeanAttrs((1, 2))),
        Case("most", ((1, 16, 16, 4),), ReduceMeanAttrs((1, 2), clamp=(-0.5, 1.0))),
        Case("one_row", ((1, 1, 3, 8),), ReduceMeanAttrs((1, 2))),
    ),
    "average_pool": (
        Case("lanes", ((1, 8, 9, 7),), AveragePoolAttrs((3, 2), (2, 1), (1, 0, 0, 1))),
        Case("lanes_whole", ((1, 4, 8, 8),), AveragePoolAttrs((2, 2), (2, 2), clamp=(-0.5, 1.0))),
        Case("lanes_most", ((1, 4, 9, 17),), AveragePoolAttrs((8, 16))),
        Case("lanes_lines", ((2, 8, 9, 10),), AveragePoolAttrs((5, 5), (2, 1), (2, 2, 2, 2))),
        Case(
            "lanes_counted",
            ((1, 4, 7, 8),),
            AveragePoolAttrs((3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True, ceil_mode=True),
        ),
        Case(
            "lanes_dilated",
            ((1, 8, 9, 9),),
            AveragePoolAttrs((2, 3), (1, 2), (2, 1, 2, 2), (3, 2), clamp=(-0.5, 1.0)),
        ),
    ),
    "max_pool": (
        Case("lanes", ((1, 8, 9, 7),), MaxPoolAttrs((3, 2), (2, 1), (1, 0, 0, 1))),
        Case("lanes_whole", ((2, 4, 8, 8),), MaxPoolAttrs((2, 2), (2, 2), clamp=(-0.5, 1.0))),
        Case("lanes_lines", ((2, 8, 9, 10),), MaxPoolAttrs((5, 5), (2, 1), (2, 2, 2, 2))),
        Case("lanes_far", ((1, 1400, 2, 5),), MaxPoolAttrs((2, 4), clamp=(-0.5, 1.0))),
        Case("lanes_dilated", ((1, 8, 9, 9),), MaxPoolAttrs((5, 4), (1, 2), (2, 1, 2, 2), (2, 2))),
        Case("lanes_outside", ((1, 4, 4, 5),), MaxPoolAttrs((2, 2), (1, 2), (3, 2, 2, 3))),
    ),
    "add": (
        Case("eights", ((1, 4, 4, 3), (1, 4, 4, 3)), attrs=SumAttrs(clamp=(-0.5, 1.0))),
        Case("eight", ((1, 8), (1, 8))),
        Case("three", ((1, 3, 13), (1, 3, 13)), attrs=SumAttrs(clamp=(0.0, INF))),
    ),
    "dense": (
        Case("few", ((1, 3),), params=((5, 3), (5,))),
        Case("four_more", ((1, 20),), params=((8, 20), (8,)), attrs=DenseAttrs((-0.5, 1.0))),
        Case("eight", ((1, 72),), params=((4, 72), (4,))),
        Case("loop", ((2, 150),), params=((6, 150), (6,))),
    ),
    "conv2d": (
        conv_case("pw_loop", (1, 140, 3, 3), 6, (1, 1)),
        conv_case("pw_eight", (1, 8, 6, 5), 10, (1, 1)),
        conv_case("pw_eight_odd", (1, 8, 3, 3), 37, (1, 1), clamp=(-0.5, 1.0)),
        conv_case("pw_four", (1, 4, 5, 3), 18, (1, 1)),
        conv_case("pw_28", (1, 28, 1, 3), 3, (1, 1), clamp=(-0.5, 1.0)),
        conv_case("pw_stride", (1, 16, 7, 6), 8, (1, 1), strides=(2, 2)),
        conv_case("first", (1, 3, 12, 11), 8, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
        conv_case("first_inner", (1, 3, 9, 25), 6, (3, 3), strides=(2, 2), clamp=(-0.5, 1.0)),
        conv_case("first_around", (1, 2, 7, 6), 4, (5, 3), pads=(3, 2, 1, 1)),
        conv_case("first_column", (1, 1, 11, 9), 4, (4, 4), strides=(2, 2), pads=(3, 2, 3, 1)),
        conv_case("first_odd", (1, 3, 7, 8), 6, (3, 3), pads=(1, 1, 1, 2)),
        conv_case("first_odd_even", (1, 3, 5, 9), 4, (3, 3), pads=(0, 2, 0, 1), clamp=(-0.5, 1.0)),
        conv_case("first_odd_inner", (1, 1, 9, 19), 8, (5, 5), pads=(1, 0, 0, 0)),
        conv_case("thin", (1, 1, 9, 8), 4, (3, 3), pads=SAME),
        conv_case("outside", (1, 4, 2, 3), 4, (3, 3), pads=(3, 3, 3, 3)),
        conv_case("column", (1, 5, 9, 4), 4, (4, 1), dilations=(2, 3), pads=(3, 0, 3, 0)),
        conv_case("dw_even", (1, 8, 9, 10), 8, (3, 3), groups=8, pads=SAME),
        conv_case("dw_bands", (1, 4, 33, 40), 4, (3, 3), groups=4, pads=SAME),
        conv_case(
            "dw_bands_stride", (1, 4, 29, 45), 4, (3, 3), groups=4, strides=(2, 2), pads=SAME
        ),
        conv_case(
            "dw_stride", (1, 8, 8, 8), 8, (3, 3), groups=8, strides=(2, 2), pads=(0, 0, 1, 1)
        ),
        conv_case("dw_5", (1, 8, 9, 10), 8, (5, 5), groups=8, pads=(2, 2, 2, 2)),
        conv_case("dw_7", (1, 4, 30, 23), 4, (7, 7), groups=4, pads=(3, 3, 3, 3)),
        conv_case(
            "dw_7_stride", (1, 4, 19, 17), 4, (7, 7), groups=4, strides=(2, 2), pads=(3,) * 4
        ),
        conv_case("dw_row", (1, 4, 1, 21), 4, (1, 5), groups=4, pads=(0, 2, 0, 2)),
        conv_case("dw_wide", (1, 260, 2, 3), 260, (3, 3), groups=260, pads=SAME),
        conv_case(
            "dw_wide_stride", (1, 260, 4, 4), 260, (3, 3), groups=260, strides=(2, 2), pads=SAME
        ),
        conv_case("dw_small", (1, 4, 2, 2), 4, (5, 5), groups=4, pads=(2, 2, 2, 2)),
        conv_case("dw_grow", (1, 4, 5, 5), 4, (3, 3), groups=4, pads=(2, 2, 2, 2)),
        conv_case("winograd", (1, 8, 8, 16), 6, (3, 3), pads=SAME),
        conv_case("winograd_shifted", (1, 12, 11, 8), 4, (3, 3), pads=(3, 1, 0, 1)),
        conv_case("same_8", (1, 8, 9, 7), 6, (3, 3), pads=SAME),
    ),
}


@pytest.mark.parametrize("board", BOARDS)
def test_every_kernel_is_bit_exact(board: str, tmp_path: Path) -> None:
    assert not wrong(variants(FEATURES, MORE), board, tmp_path)


def test_scratch_closer_than_its_lead_would_be_seen(tmp_path: Path) -> None:
    """The control of the above: 8 bytes closer, a row is overwritten before it is widened."""
    graphs = one_node_graphs(MORE)
    graph = next(g for g in graphs if g.name.startswith("dense") and g.nodes[0].x.elements == 72)
    kernel = next(k for k in kernel_registry() if k.name == "dense_pairs_row_dsp")
    spoilt = replace(kernel, scratch_lead_bytes=lambda node, index: node.x.elements - 8)
    model = KernelModel("m", graph, spoilt, covered=0)
    sample = case_inputs(graph, 0)
    results, _ = run_on_board(tmp_path, load_board("mps2-an386"), [model], [[sample]])
    assert not np.array_equal(run(graph, sample)[0], results[0][0][0])
