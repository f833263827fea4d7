"""Fits the cost formulas of `targets/*/costs.toml` to layers that are measured in QEMU.

    python -m tests.benchmarks.calibrate_costs [--target cortex-m4]… [--write | --check]

Layers are drawn with a seed; every kernel that applies is measured on them, and a formula fitted by
least squares of the relative error, no coefficient being negative. The errors printed are those of
fits to three quarters of the layers on the others: that of 9 in 10, and the largest. --check prints
those of the file that is there, on the layers of the MLPerf Tiny networks.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
from scipy.optimize import nnls

from tinsmith import paths
from tinsmith.codegen.choices import Choices
from tinsmith.ir.graph import Graph, Value
from tinsmith.kernels import registry
from tinsmith.kernels.counts import counts
from tinsmith.kernels.kernel import Kernel
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import FORM, Cost, Formula
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import canonical, lower
from tinsmith.runner.measure_kernels import Job, measure_kernels
from tinsmith.toolchain.tuned import compiler_version

from ..int8_nets import Int8Net
from ..shared import shared_models

BOARDS = {
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m55": "mps3-an547",
}
FOLDS = 4
LEAST = 3  # layers of a form of a template; with fewer, its own estimate is scaled
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


def _tuned(features: frozenset[str]) -> list[Kernel]:
    """With Helium, those of the DSP extension are not worth their time."""
    rest = [k for k in registry() if "mve" in k.features or not k.features]
    return rest if "mve" in features else list(registry())


def measured(layers: Graph, target: str, most: int) -> list[Measured]:
    """Every kernel on the layers it applies to, `most` of each at most; half of it of a portable
    one, as those take long."""
    board = load_board(BOARDS[target])
    jobs: list[Job] = []
    used: dict[str, int] = defaultdict(int)
    features = board.target.features
    for node in (n for n in layers.nodes if not n.op.is_view):
        for kernel in candidates(node, layers, features, _tuned(features)):
            if used[kernel.name] < (most if kernel.features else most // 2):
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
    """Fitted to all layers; its errors are those of fits to three quarters, on the others."""
    errors = []
    for fold in range(min(FOLDS, len(rows))):
        others = [row for i, row in enumerate(rows) if i % FOLDS != fold]
        part = _fit(others or rows, 0.0, 0.0)
        errors += [off(part, row) for i, row in enumerate(rows) if i % FOLDS == fold]
    return _fit(rows, float(np.quantile(errors, 0.9)), max(errors))


def _fit(rows: list[Measured], error: float, worst: float) -> Formula:
    estimates = [max(row.counts["estimate"], 1.0) for row in rows]
    pairs = list(zip(rows, estimates, strict=True))
    has_cycles = rows[0].cost.cycles is not None
    seen = Counter(n for row in rows for n, count in row.counts.items() if FORM in n and count)
    return Formula(
        instructions=fitted(rows, "instructions"),
        cycles=fitted(rows, "cycles") if has_cycles else {},
        code_bytes=round(statistics.median(row.cost.code_bytes for row in rows)),
        layers=len(rows),
        error=round(error, 4),
        worst=round(worst, 4),
        per_estimate=_ratio(row.cost.instructions / e for row, e in pairs),
        cycles_per_estimate=_ratio((row.cost.cycles or 0.0) / e for row, e in pairs),
        forms=tuple(sorted(n for n, times in seen.items() if times >= LEAST)),
    )


def _ratio(values: Iterable[float]) -> float:
    return float(f"{statistics.median(values):.4g}")


def off(formula: Formula, row: Measured) -> float:
    """The larger of the relative errors of instructions and cycles."""
    found, truth = formula.cost(row.counts), row.cost
    pairs = [(found.instructions, truth.instructions), (found.cycles or 0.0, truth.cycles or 0.0)]
    return max(abs(a / b - 1) for a, b in pairs if b)


def text(target: str, formulas: dict[str, Formula]) -> str:
    """costs.toml."""
    lines = [
        "# What kernels cost on this core, fitted to layers measured in QEMU. Written by",
        f"# python -m tests.benchmarks.calibrate_costs --target {target} --write",
        f'compiler = "{compiler_version(load_board(BOARDS[target]))}"',
    ]
    for name, formula in sorted(formulas.items()):
        lines += ["", f"[kernels.{name}]"]
        fields = msgspec.to_builtins(formula).items()
        lines += [f"{key} = {_toml(value)}" for key, value in fields]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(n)} = {c:.5g}' for n, c in value.items())} }}"
    return json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)


def check_models(target: str, least: float) -> list[tuple[str, str, str, float, float]]:
    """(model, node, kernel, share, error) of the MLPerf Tiny layers that weigh `least` or more,
    with the kernels they get."""
    folder, board = shared_models() / "mlperf_tiny", load_board(BOARDS[target])
    found = []
    for name in ("kws", "vww", "ic", "ad"):
        context = PassContext()
        graph = lower(
            canonical(folder / f"{name}_int8.onnx", context), "int8", None, "auto", context
        )
        chosen = Choices.of(graph, board).select().chosen
        costs = measure_kernels([Job(c.node, graph, c.kernel) for c in chosen], board)
        total = sum(cost.instructions for cost in costs)
        for c, truth in zip(chosen, costs, strict=True):
            share = truth.instructions / total
            error = c.cost.instructions / truth.instructions - 1
            if truth.cycles and c.cost.cycles:
                error = max(error, c.cost.cycles / truth.cycles - 1, key=abs)
            if share >= least:
                found.append((name, c.node.name[:32], c.kernel.name, share, error))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(BOARDS))
    parser.add_argument("--layers", type=int, default=700)
    parser.add_argument("--most", type=int, default=MOST, help="layers of a kernel")
    parser.add_argument("--write", action="store_true", help="targets/*/costs.toml")
    parser.add_argument("--check", action="store_true", help="what is written, on MLPerf Tiny")
    arguments = parser.parse_args()
    for target in arguments.target or BOARDS:
        if arguments.check:
            for name, node, kernel, share, error in check_models(target, 0.01):
                print(f"{name:4} {node:32} {kernel:28} {share:6.1%} {error:+7.2%}")
            continue
        rows = defaultdict(list)
        for row in measured(drawn_layers(1, arguments.layers), target, arguments.most):
            rows[row.job.kernel.name].append(row)
        formulas = {name: calibrated(group) for name, group in rows.items()}
        for name, f in sorted(formulas.items()):
            print(f"{name:28} {f.layers:3} layers {f.error:7.2%} {f.worst:7.2%} {f.code_bytes:5} B")
        if arguments.write:
            (paths.TARGETS / target / "costs.toml").write_text(text(target, formulas))


if __name__ == "__main__":
    main()
