"""Where each form of Winograd wins: 3×3 layers of many sizes, measured in QEMU, as a table.

    python -m tests.benchmarks.bench_winograd [--board mps2-an386]

Thousands of instructions / of estimated cycles of the best kernel of each family; the least
instructions with weights of any size, and with weights at int8 size, are in bold.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import Cost
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.runner.measure_kernels import Job, measure_kernels

from ..int8_nets import Int8Net
from .tables import markdown

SIZES = (
    (2, 32), (3, 64), (4, 8), (4, 64), (5, 32), (6, 8), (6, 64), (8, 8), (8, 64),
    (9, 16), (10, 64), (12, 32), (16, 16),
)  # fmt: skip
# Beginnings of kernels' names, by the title of their column.
FAMILIES = {
    "direct": ("conv2d_pairs_dsp",),
    "4×4": ("conv2d_winograd_dsp",),
    "4×4 single": ("conv2d_winograd_single",),
    "2×2": ("conv2d_winograd_2x2_dsp",),
    "2×2 single": ("conv2d_winograd_2x2_single",),
}
INT8_FAMILIES = {
    "int8: direct": ("conv2d_gemm_dsp", "conv2d_pairs_int8"),
    "4×4, rows": ("conv2d_winograd_int8", "conv2d_winograd_rows"),
    "2×2": ("conv2d_winograd_2x2_int8",),
}


def layers(sizes: Sequence[tuple[int, int]]) -> Graph:
    """Convolutions with a border, of pixels each way × channels."""
    net, made = Int8Net("sizes", 1), []
    for pixels, channels in sizes:
        x = net.input(1, pixels, pixels, channels)
        weights = net.weights(x, (channels, 3, 3, channels), 9 * channels)
        attrs = Conv2dAttrs((1, 1), (1, 1, 1, 1), layout="NHWC")
        made.append(net.add("conv2d", [x, *weights], attrs))
    return net.build(*made)


def cells(found: dict[str, Cost], families: dict[str, tuple[str, ...]]) -> list[str]:
    best = [
        min((c for k, c in found.items() if k.startswith(names)), default=None, key=_instructions)
        for names in families.values()
    ]
    least = min(_instructions(c) for c in best if c)
    return [_cell(c, bold=_instructions(c) == least) if c else "" for c in best]


def _instructions(cost: Cost) -> float:
    return cost.instructions


def _cell(cost: Cost, *, bold: bool) -> str:
    first = f"{cost.instructions / 1000:.1f}"
    first = f"**{first}**" if bold else first
    return first if cost.cycles is None else f"{first} / {cost.cycles / 1000:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="mps2-an386")
    board = load_board(parser.parse_args().board)
    graph = layers(SIZES)
    jobs = [
        Job(node, graph, kernel)
        for node in graph.nodes
        for kernel in candidates(node, graph, board.target.features, registry())
        if kernel.features
    ]
    measured = list(zip(jobs, measure_kernels(jobs, board), strict=True))
    rows = []
    for node, (pixels, channels) in zip(graph.nodes, SIZES, strict=True):
        found = {job.kernel.name: cost for job, cost in measured if job.node is node}
        best = [*cells(found, FAMILIES), *cells(found, INT8_FAMILIES)]
        rows.append([f"{pixels}×{pixels}, {channels} channels", *best])
    print(markdown(["layer", *FAMILIES, *INT8_FAMILIES], rows))


if __name__ == "__main__":
    main()
