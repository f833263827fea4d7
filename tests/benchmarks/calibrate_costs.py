"""Fits the cost formulas of `targets/*/costs.toml` to layers that are measured in QEMU.

    python -m tests.benchmarks.calibrate_costs [--target cortex-m4]… [--write]

Layers are drawn with a seed; every kernel that applies is measured on them, and a formula fitted to
most of them by least squares of the relative error, no coefficient being negative. The errors
printed are those on the others, and on the layers of the MLPerf Tiny networks.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from tinsmith.ir.graph import Graph, Value
from tinsmith.kernels import registry
from tinsmith.kernels.costs import counts
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import Cost, Formula, evaluate
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.runner.measure_kernels import Job, measure_kernels

from ..int8_nets import Int8Net

BOARDS = {
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m55": "mps3-an547",
}
HELD_OUT = 4  # every fourth layer of a kernel is not fitted to
MOST = 40  # layers of a kernel
MOST_MACS = 1_500_000


@dataclass(frozen=True)
class Measured:
    job: Job
    cost: Cost

    @property
    def counts(self) -> dict[str, float]:
        return counts(self.job.kernel, self.job.node, self.job.graph)


def drawn_layers(seed: int, count: int) -> Graph:
    """Layers side by side, of the sizes that small networks have."""
    rng = np.random.default_rng(seed)
    net = Int8Net("drawn", seed)
    made: list[Value] = []
    while len(made) < count:
        height = int(rng.integers(2, 33))
        width = height if rng.random() < 0.6 else int(rng.integers(2, 33))
        channels, out = (_channels(rng) for _ in range(2))
        if rng.random() < 0.25:
            made.append(_other(net, rng, (1, height, width, channels)))
        elif rng.random() < 0.2:
            x = net.input(1, 1, 1, int(rng.choice([1, 2, 4, 10]) * channels))
            made.append(net.dense(x, int(rng.choice([out, 2, 10, 12]))))
        else:
            y = _window(net, rng, (height, width, channels), out)
            made += [y] if y is not None else []
    return net.build(*made)


def _channels(rng: np.random.Generator) -> int:
    if rng.random() < 0.1:
        return int(rng.integers(1, 60))
    return int(rng.choice([8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 4 * rng.integers(1, 33)]))


def _window(
    net: Int8Net, rng: np.random.Generator, shape: tuple[int, int, int], out: int
) -> Value | None:
    height, width, channels = shape
    kind = str(rng.choice(["point", "window", "window", "first", "depthwise", "depthwise"]))
    channels = int(rng.integers(1, 4)) if kind == "first" else channels
    out = channels if kind == "depthwise" else out
    kernel = 1 if kind == "point" else int(rng.choice([3, 3, 5, 7]))
    kernel = min(kernel, 3) if kind == "window" else kernel
    stride = 1 if kernel == 1 else int(rng.choice([1, 1, 2]))
    groups = channels if kind == "depthwise" else 1
    macs = height * width * out * kernel**2 * channels // groups // stride**2
    if macs > MOST_MACS or min(height, width) < kernel:
        return None
    # As TensorFlow pads: at stride 2 an even size has one less at the top.
    pads = [max((-(-s // stride) - 1) * stride + kernel - s, 0) for s in (height, width)]
    before = [p // 2 for p in pads]
    after = [p - b for p, b in zip(pads, before, strict=True)]
    attrs = Conv2dAttrs((stride, stride), (*before, *after), groups=groups, layout="NHWC")
    x = net.input(1, height, width, channels)
    per_group = channels // groups
    weights = net.weights(x, (out, kernel, kernel, per_group), kernel * kernel * per_group)
    return net.add("conv2d", [x, *weights], attrs)


def _other(net: Int8Net, rng: np.random.Generator, shape: tuple[int, ...]) -> Value:
    kind = str(rng.choice(["add", "reduce_mean", "max_pool", "average_pool", "softmax", "concat"]))
    x = net.input(*shape)
    if kind == "add":
        return net.add("add", [x, net.input(*shape)])
    if kind == "reduce_mean":
        return net.add("reduce_mean", [x], ReduceMeanAttrs((1, 2)))
    if kind == "softmax":
        return net.add("softmax", [net.input(1, shape[-1])])
    if kind == "concat":
        return net.concat([x, net.input(*shape)])
    window = int(rng.choice([2, 3, min(shape[1], shape[2])]))
    return net.pool(kind, x, window, int(rng.choice([1, 2])))


def measured(layers: Graph, target: str, most: int) -> list[Measured]:
    """Every kernel on the layers it applies to, `most` of each at most."""
    board = load_board(BOARDS[target])
    jobs: list[Job] = []
    used: dict[str, int] = defaultdict(int)
    for node in layers.nodes:
        for kernel in (
            () if node.op.is_view else candidates(node, layers, board.target.features, registry())
        ):
            if used[kernel.name] < most:
                used[kernel.name] += 1
                jobs.append(Job(node, layers, kernel))
    costs = measure_kernels(jobs, board, print)
    return [Measured(job, cost) for job, cost in zip(jobs, costs, strict=True)]


def fitted(rows: list[Measured], value: str) -> dict[str, float]:
    """Coefficients of the counts, none negative; those that matter to no layer are left out."""
    names = sorted({name for row in rows for name in row.counts})
    known = np.array([[row.counts.get(n, 0.0) for n in names] for row in rows])
    truth = np.array([getattr(row.cost, value) for row in rows])
    scaled = known / truth[:, None]
    norm = np.maximum(np.abs(scaled).max(0), 1e-30)
    found = nnls(scaled / norm, np.ones(len(rows)))[0] / norm
    shares = (scaled * found).max(0)
    kept = [n for n, share in zip(names, shares, strict=True) if share > 1e-3]
    columns = [names.index(n) for n in kept]
    found = nnls(scaled[:, columns] / norm[columns], np.ones(len(rows)))[0] / norm[columns]
    return {n: float(f"{c:.5g}") for n, c in zip(kept, found, strict=True) if c > 0}


def calibrated(rows: list[Measured]) -> Formula:
    """Fitted to most layers; judged on the others."""
    held = [row for i, row in enumerate(rows) if i % HELD_OUT == HELD_OUT - 1]
    others = [row for i, row in enumerate(rows) if i % HELD_OUT != HELD_OUT - 1]
    forms = {"instructions": fitted(others, "instructions")}
    if rows[0].cost.cycles is not None:
        forms["cycles"] = fitted(others, "cycles")
    worst = max(abs(e) for row in held or rows for e in errors(row, forms).values())
    size = round(statistics.median(row.cost.code_bytes for row in rows))
    return Formula(code_bytes=size, layers=len(others), error=round(worst, 4), **forms)


def errors(row: Measured, forms: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        value: evaluate(form, row.counts) / getattr(row.cost, value) - 1
        for value, form in forms.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(BOARDS))
    parser.add_argument("--layers", type=int, default=300)
    parser.add_argument("--most", type=int, default=MOST)
    arguments = parser.parse_args()
    for target in arguments.target or BOARDS:
        rows = defaultdict(list)
        for row in measured(drawn_layers(1, arguments.layers), target, arguments.most):
            rows[row.job.kernel.name].append(row)
        for name, group in rows.items():
            formula = calibrated(group)
            print(f"{name:30} {len(group):3} {formula.error:7.2%} {formula.code_bytes:5}")
            print("    ", formula.instructions)
            print("    ", formula.cycles)


if __name__ == "__main__":
    main()
