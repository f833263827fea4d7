"""Every tuned kernel of the DSP extension on every case it applies to, bit-exact on M4 and M7.

Selection would show only the cheapest kernel of each case; here each one runs, apart from its
input and as close to it as it allows, with guards around every buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinsmith.ir.dtypes import DType, Shape
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Case
from tinsmith.kernels import registry as kernel_registry
from tinsmith.kernels.kernel import Kernel
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.ops import registry
from tinsmith.ops._clamp import INF
from tinsmith.ops._sum import SumAttrs
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.dense import DenseAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs

from .cases import case_graph, case_inputs, cases_of, with_one_scale
from .kernel_models import KernelModel, run_on_board

FEATURES = frozenset({"dsp"})
BOARDS = ("mps2-an386", "mps2-an500")
SAME = (1, 1, 1, 1)


def _conv(name: str, x: Shape, out: int, window: tuple[int, int], **attrs: Any) -> Case:
    params = ((out, x[1] // attrs.get("groups", 1), *window), (out,))
    return Case(name, (x,), params=params, attrs=Conv2dAttrs(**attrs))


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
        Case("lanes_most", ((1, 4, 16, 17),), AveragePoolAttrs((16, 16))),
    ),
    "max_pool": (
        Case("lanes", ((1, 8, 9, 7),), MaxPoolAttrs((3, 2), (2, 1), (1, 0, 0, 1))),
        Case("lanes_whole", ((2, 4, 8, 8),), MaxPoolAttrs((2, 2), (2, 2), clamp=(-0.5, 1.0))),
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
        _conv("pw_loop", (1, 140, 3, 3), 6, (1, 1)),
        _conv("pw_eight", (1, 8, 6, 5), 10, (1, 1)),
        _conv("pw_eight_odd", (1, 8, 3, 3), 37, (1, 1), clamp=(-0.5, 1.0)),
        _conv("pw_four", (1, 4, 5, 3), 18, (1, 1)),
        _conv("pw_28", (1, 28, 1, 3), 3, (1, 1), clamp=(-0.5, 1.0)),
        _conv("pw_stride", (1, 16, 7, 6), 8, (1, 1), strides=(2, 2)),
        _conv("first", (1, 3, 12, 11), 8, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
        _conv("first_inner", (1, 3, 9, 25), 6, (3, 3), strides=(2, 2), clamp=(-0.5, 1.0)),
        _conv("first_around", (1, 2, 7, 6), 4, (5, 3), pads=(3, 2, 1, 1)),
        _conv("first_column", (1, 1, 11, 9), 4, (4, 4), strides=(2, 2), pads=(3, 2, 3, 1)),
        _conv("first_odd", (1, 3, 7, 8), 6, (3, 3), pads=(1, 1, 1, 2)),
        _conv("first_odd_even", (1, 3, 5, 9), 4, (3, 3), pads=(0, 2, 0, 1), clamp=(-0.5, 1.0)),
        _conv("first_odd_inner", (1, 1, 9, 19), 8, (5, 5), pads=(1, 0, 0, 0)),
        _conv("thin", (1, 1, 9, 8), 4, (3, 3), pads=SAME),
        _conv("outside", (1, 4, 2, 3), 4, (3, 3), pads=(3, 3, 3, 3)),
        _conv("column", (1, 5, 9, 4), 4, (4, 1), dilations=(2, 3), pads=(3, 0, 3, 0)),
        _conv("dw_even", (1, 8, 9, 10), 8, (3, 3), groups=8, pads=SAME),
        _conv("dw_bands", (1, 4, 33, 40), 4, (3, 3), groups=4, pads=SAME),
        _conv("dw_bands_stride", (1, 4, 29, 45), 4, (3, 3), groups=4, strides=(2, 2), pads=SAME),
        _conv("dw_stride", (1, 8, 8, 8), 8, (3, 3), groups=8, strides=(2, 2), pads=(0, 0, 1, 1)),
        _conv("dw_5", (1, 8, 9, 10), 8, (5, 5), groups=8, pads=(2, 2, 2, 2)),
        _conv("dw_7", (1, 4, 30, 23), 4, (7, 7), groups=4, pads=(3, 3, 3, 3)),
        _conv("dw_7_stride", (1, 4, 19, 17), 4, (7, 7), groups=4, strides=(2, 2), pads=(3,) * 4),
        _conv("dw_row", (1, 4, 1, 21), 4, (1, 5), groups=4, pads=(0, 2, 0, 2)),
        _conv("dw_wide", (1, 260, 2, 3), 260, (3, 3), groups=260, pads=SAME),
        _conv("dw_wide_stride", (1, 260, 4, 4), 260, (3, 3), groups=260, strides=(2, 2), pads=SAME),
        _conv("dw_small", (1, 4, 2, 2), 4, (5, 5), groups=4, pads=(2, 2, 2, 2)),
        _conv("dw_grow", (1, 4, 5, 5), 4, (3, 3), groups=4, pads=(2, 2, 2, 2)),
        _conv("winograd", (1, 8, 8, 16), 6, (3, 3), pads=SAME),
        _conv("winograd_shifted", (1, 12, 11, 8), 4, (3, 3), pads=(3, 1, 0, 1)),
        _conv("same_8", (1, 8, 9, 7), 6, (3, 3), pads=SAME),
    ),
}


def _graphs() -> Iterator[Graph]:
    for op in registry().values():
        for case in (*cases_of(op, DType.INT8), *MORE.get(op.name, ())):
            graph = case_graph(op, case)
            if len(graph.nodes) == 1:
                yield graph
                if op.name == "dense":
                    yield with_one_scale(graph)


def _variants() -> Iterator[tuple[Graph, Kernel, dict[str, int]]]:
    tuned = [k for k in kernel_registry() if k.features == FEATURES]
    for graph in _graphs():
        (node,) = graph.nodes
        for kernel in candidates(node, graph, FEATURES, tuned):
            yield graph, kernel, {}
            for position in range(len(graph.inputs)):
                if kernel.lead_bytes(node, position) is not None:
                    yield graph, kernel, {"tight": position}
                if kernel.scratch_lead_bytes(node, position) is not None:
                    yield graph, kernel, {"covered": position}


@pytest.mark.parametrize("board", BOARDS)
def test_every_kernel_is_bit_exact(board: str, tmp_path: Path) -> None:
    variants = list(_variants())
    models = [KernelModel(f"m{i}", g, k, **near) for i, (g, k, near) in enumerate(variants)]
    samples = [[case_inputs(m.graph, seed) for seed in (0, 1)] for m in models]
    results, _ = run_on_board(tmp_path, load_board(board), models, samples)
    wrong = [
        f"{m.graph.name} {m.kernel.name} output over {m.tight} scratch over {m.covered}"
        for m, given, rows in zip(models, samples, results, strict=True)
        for sample, got in zip(given, rows, strict=True)
        if not np.array_equal(run(m.graph, sample)[0], got[0])
    ]
    assert not wrong


def test_scratch_closer_than_its_lead_would_be_seen(tmp_path: Path) -> None:
    """The control of the above: 8 bytes closer, a row is overwritten before it is widened."""
    graph = next(g for g in _graphs() if g.name.startswith("dense") and g.nodes[0].x.elements == 72)
    kernel = next(k for k in kernel_registry() if k.name == "dense_pairs_row_dsp")
    spoilt = replace(kernel, scratch_lead_bytes=lambda node, index: node.x.elements - 8)
    model = KernelModel("m", graph, spoilt, covered=0)
    sample = case_inputs(graph, 0)
    results, _ = run_on_board(tmp_path, load_board("mps2-an386"), [model], [[sample]])
    assert not np.array_equal(run(graph, sample)[0], results[0][0][0])
