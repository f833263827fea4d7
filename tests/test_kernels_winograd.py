"""Winograd convolutions of the DSP extension: every form on the sizes that are special to it and at
the extremes, and what happens when something is wrong in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinsmith
from tinsmith.ir.dtypes import Array, Shape
from tinsmith.ir.graph import Graph, Node
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Case
from tinsmith.kernels import registry as kernel_registry
from tinsmith.kernels.dsp._winograd import has_windows, tiling
from tinsmith.kernels.geometry import conv_geometry
from tinsmith.kernels.kernel import Constant, Kernel
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.ops import registry
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.runner.bench import bench

from .cases import case_graph, case_inputs, cases_of
from .kernel_models import KernelModel, run_on_board
from .shared import shared_models

FEATURES = frozenset({"dsp"})
SAME = (1, 1, 1, 1)
ROWS, STORED = "conv2d_winograd_rows_dsp", "conv2d_winograd_dsp"
INT8 = "conv2d_winograd_int8_"
SMALL, SMALL_INT8 = "conv2d_winograd_2x2_dsp", "conv2d_winograd_2x2_int8_"
ONE, SMALL_ONE = "conv2d_winograd_single_dsp", "conv2d_winograd_2x2_single_dsp"


def _conv(name: str, x: Shape, out: int, window: tuple[int, int], **attrs: Any) -> Case:
    params = ((out, x[1] // attrs.get("groups", 1), *window), (out,))
    return Case(name, (x,), params=params, attrs=Conv2dAttrs(**attrs))


CASES = (
    _conv("one_tile", (1, 8, 4, 4), 2, (3, 3), pads=SAME),
    _conv("tails", (1, 12, 7, 11), 6, (3, 3), pads=SAME),
    _conv("no_border", (1, 8, 9, 12), 4, (3, 3)),
    _conv("wide_border", (1, 8, 5, 6), 4, (3, 3), pads=(3, 3, 3, 3)),
    _conv("clamped", (1, 16, 8, 8), 8, (3, 3), pads=SAME, clamp=(-0.5, 1.0)),
    _conv("relu", (1, 8, 6, 10), 8, (3, 3), pads=SAME, clamp=(0.0, np.inf)),
    _conv("far_stores", (1, 8, 4, 40), 36, (3, 3), pads=SAME),
    _conv("far_positions", (1, 128, 4, 8), 2, (3, 3), pads=SAME),
    _conv("most_channels", (1, 64, 3, 9), 4, (3, 3), pads=(1, 1, 2, 1)),
    _conv("groups", (1, 8, 16, 32), 2, (3, 3), pads=SAME),
    _conv("four_inputs", (1, 4, 9, 7), 8, (3, 3), pads=SAME),
    _conv("two_by_two", (1, 8, 2, 2), 4, (3, 3), pads=SAME),
    _conv("odd_quads", (1, 20, 3, 5), 8, (3, 3), pads=SAME),
    _conv("odd_tiles", (1, 12, 9, 10), 4, (3, 3), pads=(1, 0, 1, 0), clamp=(-0.5, 1.0)),
    _conv("far_rows", (1, 8, 2, 120), 36, (3, 3), pads=SAME),
    _conv("far_single", (1, 128, 4, 5), 4, (3, 3), pads=SAME),
    _conv("all_border", (1, 8, 1, 1), 4, (3, 3), pads=(4, 3, 4, 5)),
)
OTHERS = (
    _conv("stride", (1, 16, 8, 8), 16, (3, 3), pads=SAME, strides=(2, 2)),
    _conv("dilated", (1, 8, 9, 9), 8, (3, 3), pads=(2, 2, 2, 2), dilations=(2, 2)),
    _conv("grouped", (1, 16, 8, 8), 16, (3, 3), pads=SAME, groups=2),
    _conv("three_inputs", (1, 3, 8, 8), 8, (3, 3), pads=SAME),
    _conv("odd_outputs", (1, 8, 8, 8), 5, (3, 3), pads=SAME),
    _conv("narrow", (1, 8, 8, 1), 8, (3, 3), pads=SAME),
)


def _kernels(graph: Graph) -> list[Kernel]:
    pool = [k for k in kernel_registry() if "winograd" in k.name]
    return candidates(graph.nodes[0], graph, FEATURES, pool)


def _graphs() -> list[Graph]:
    return [case_graph(registry()["conv2d"], case) for case in CASES]


def _models() -> Iterator[KernelModel]:
    for graph in _graphs():
        for kernel in _kernels(graph):
            for tight, shift in ((None, 4), (0, 0)):
                yield KernelModel("", graph, kernel, tight, shift=shift)


def _samples(graph: Graph) -> list[list[Array]]:
    """Random inputs, and such that are all at one of the ends."""
    (x,) = case_inputs(graph, 0)
    ends = np.where(np.random.default_rng(1).integers(0, 2, x.shape) > 0, 127, -128)
    return [[x], [ends.astype(np.int8)]]


def _wrong(folder: Path, board: str, models: list[KernelModel]) -> list[bool]:
    models = [replace(m, name=f"m{i}") for i, m in enumerate(models)]
    samples = [_samples(m.graph) for m in models]
    results, _ = run_on_board(folder, load_board(board), models, samples)
    return [
        any(not np.array_equal(run(m.graph, s)[0], r[0]) for s, r in zip(given, rows, strict=True))
        for m, given, rows in zip(models, samples, results, strict=True)
    ]


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500"])
def test_every_form_is_bit_exact(board: str, tmp_path: Path) -> None:
    models = list(_models())
    assert {m.kernel.name for m in models} == {
        k.name for k in kernel_registry() if "winograd" in k.name
    }
    wrong = _wrong(tmp_path, board, models)
    assert [
        f"{m.graph.name} {m.kernel.name}" for m, w in zip(models, wrong, strict=True) if w
    ] == []


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """Constants with one wrong word each, and outputs that come one pixel too close."""
    graph = case_graph(registry()["conv2d"], CASES[1])
    models: list[KernelModel] = []
    for kernel in _kernels(graph):
        for name in ("stream", "channels"):
            for place in (0, -1):
                models.append(KernelModel("", graph, _spoilt(kernel, name, place)))
        models.append(KernelModel("", graph, _closer(kernel), tight=0))
    wrong = _wrong(tmp_path, "mps2-an500", models)
    one_group = (f"{INT8}1_dsp", f"{SMALL_INT8}1_dsp")  # read all before they write
    assert wrong == [m.tight is None or m.kernel.name not in one_group for m in models]


def _spoilt(kernel: Kernel, name: str, place: int) -> Kernel:
    def constants(node: Node, graph: Graph) -> dict[str, Constant]:
        found = dict(kernel.constants(node, graph))
        array = found[name].array.copy()
        array[place] ^= 0x01010100
        return found | {name: replace(found[name], array=array)}

    return replace(kernel, constants=constants)


def _closer(kernel: Kernel) -> Kernel:
    def lead(node: Node, index: int) -> int | None:
        real = kernel.lead_bytes(node, index)
        return None if real is None else real - 6 * 11 - 8

    return replace(kernel, lead_bytes=lead)


def test_where_it_does_not_apply() -> None:
    for case in OTHERS:
        graph = case_graph(registry()["conv2d"], case)
        assert _kernels(graph) == [], case.name
        assert candidates(graph.nodes[0], graph, FEATURES, kernel_registry())
    covered = [c for c in cases_of(registry()["conv2d"]) if c.name == "wide"]
    assert _kernels(case_graph(registry()["conv2d"], covered[0]))


def test_accumulators_that_could_overflow_are_refused() -> None:
    """2^6 times the accumulator has to fit int32, with 2×2 tiles 2^2."""
    graph = _graphs()[7]
    bias = graph.nodes[0].inputs[2]
    for bits, names in ((0, {STORED, SMALL}), (25, {SMALL}), (29, set[str]())):
        large = dict(graph.initializers) | {bias: np.full(bias.type.shape, 2**bits, np.int32)}
        kernels = _kernels(replace(graph, initializers=large))
        assert {k.name for k in kernels} & {STORED, SMALL} == names


def test_channels_whose_scales_are_far_apart_are_left_to_2x2(tmp_path: Path) -> None:
    """Brought to one shift, 64 times the accumulator of one overflows; 4 times it do not."""
    graph = _graphs()[7]
    shift = graph.nodes[0].inputs[4]
    values = graph.constant(shift) + np.array([7, 0], np.int32)
    graph = replace(graph, initializers=dict(graph.initializers) | {shift: values})
    kernels = _kernels(graph)
    assert {k.name for k in kernels} & {STORED, SMALL} == {SMALL}
    models = [KernelModel("", graph, kernel) for kernel in kernels]
    assert not any(_wrong(tmp_path, "mps2-an500", models))


def test_each_doubling_of_groups_saves_scratch() -> None:
    graph = case_graph(registry()["conv2d"], _conv("x", (1, 16, 16, 32), 16, (3, 3), pads=SAME))
    (node,) = graph.nodes
    costs = {
        k.name: (k.instructions(node, graph), k.scratch_bytes(node, graph)) for k in _kernels(graph)
    }
    order = [f"{INT8}4_dsp", f"{INT8}8_dsp", ROWS]
    assert [costs[n][0] for n in order] == sorted(costs[n][0] for n in order)
    assert [costs[n][1] for n in order] == sorted((costs[n][1] for n in order), reverse=True)
    sizes = {
        k.name: sum(c.array.nbytes for c in k.constants(node, graph).values())
        for k in _kernels(graph)
    }
    w = graph.constant(node.inputs[1])
    assert {sizes[n] for n in order} == {w.nbytes + 4 + 12 * 16}
    assert sizes[STORED] == 8 * w.nbytes + 4 + 12 * 16


def test_estimates_are_near_what_is_executed(tmp_path: Path) -> None:
    shapes = ((16, 16, 16), (8, 32, 32))
    cases = [_conv(f"c{c}", (1, c, h, h), o, (3, 3), pads=SAME) for h, c, o in shapes]
    graphs = [case_graph(registry()["conv2d"], case) for case in cases]
    models = [
        KernelModel(f"m{i}_{n}", g, k)
        for i, g in enumerate(graphs)
        for n, k in enumerate(_kernels(g))
    ]
    samples = [[case_inputs(m.graph, 0)] for m in models]
    _, taken = run_on_board(tmp_path, load_board("mps2-an500"), models, samples)
    for model, (instructions,) in zip(models, taken, strict=True):
        estimate = model.kernel.instructions(model.node, model.graph)
        assert abs(estimate / instructions - 1) < 0.05, model.kernel.name


@pytest.mark.parametrize(
    ("pixels", "channels", "first"),
    [(2, 32, SMALL_ONE), (3, 64, SMALL), (4, 64, ONE), (6, 8, SMALL_ONE), (8, 64, STORED)],
)
def test_which_form_is_estimated_least(pixels: int, channels: int, first: str) -> None:
    case = _conv("x", (1, channels, pixels, pixels), channels, (3, 3), pads=SAME)
    graph = case_graph(registry()["conv2d"], case)
    found = candidates(graph.nodes[0], graph, FEATURES, kernel_registry())
    assert found[0].name == first


def test_a_single_tile_takes_half_the_scratch() -> None:
    graph = _graphs()[4]
    (node,) = graph.nodes
    sizes = {k.name: k.scratch_bytes(node, graph) for k in _kernels(graph)}
    patch = {2: 16 * 16, 4: 36 * 16}  # 16 inputs, and as many bytes of products
    assert sizes[SMALL] - patch[2] - 16 * 16 == 2 * (sizes[SMALL_ONE] - patch[2] - 16 * 16)
    assert sizes[STORED] - patch[4] - 36 * 16 == 2 * (sizes[ONE] - patch[4] - 36 * 16)


@pytest.mark.parametrize("size", [2, 4])
def test_tiles_cover_every_output_once_or_more(size: int) -> None:
    for graph in _graphs():
        (node,) = graph.nodes
        g = conv_geometry(node)
        if not has_windows(node, height=size, width=size, channels=128):
            continue
        tiles = tiling(g, size)
        places = [tiles.place(n) for n in range(tiles.count)]
        covered = {
            (y + i, x + j) for y, x in places for i, j in itertools.product(range(size), repeat=2)
        }
        assert covered == set(itertools.product(range(g.out_h), range(g.out_w)))


def test_resnet_8_with_weights_at_int8_size_in_39_kb(tmp_path: Path) -> None:
    """Stack and data are 4,096 B of what is asked for."""
    model = shared_models() / "mlperf_tiny" / "ic_int8.onnx"
    tinsmith.compile(model, board="mps2-an500", out=tmp_path, optimize="flash", ram=43_400)
    report = bench(tmp_path)
    assert report.arena_bytes <= 39_000
    assert report.instructions_per_inference is not None
    assert report.instructions_per_inference <= 7_000_000
    assert report.flash_bytes is not None
    assert report.flash_bytes <= 101_864


def test_resnet_8_in_35_kb(tmp_path: Path) -> None:
    """Both 16→16 layers of 32×32 in tiles of 2×2: 7.15 M without them."""
    model = shared_models() / "mlperf_tiny" / "ic_int8.onnx"
    tinsmith.compile(model, board="mps2-an500", out=tmp_path, ram=39_096)
    report = bench(tmp_path)
    assert report.arena_bytes <= 35_000
    assert report.instructions_per_inference is not None
    assert report.instructions_per_inference <= 6_100_000
