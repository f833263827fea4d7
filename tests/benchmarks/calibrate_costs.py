"""Fits the cost formulas of `targets/*/costs.toml` to layers that are measured in QEMU.

    python -m tests.benchmarks.calibrate_costs [--target cortex-m4]… [--write]

Layers are drawn with a seed; every kernel that applies is measured on them, and a formula fitted by
least squares of the relative error, no coefficient being negative. The errors printed are those of
fits to three quarters of the layers on the others: that of 9 in 10, and the largest. What is
written is compared with layers of real networks by check_costs.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from scipy.optimize import nnls

from tinsmith import paths
from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.counts import counts
from tinsmith.kernels.kernel import Kernel
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import FORM, PART, Cost, Formula, load_costs
from tinsmith.runner.histogram import Executed
from tinsmith.runner.measure_kernels import Job, execute_kernels
from tinsmith.toolchain.tuned import compiler_version

from .drawn_convolutions import drawn_convolutions
from .drawn_dense import drawn_dense
from .drawn_layers import drawn_layers
from .drawn_others import drawn_others

BOARDS = {
    "cortex-m0": "mps2-an385-armv6m",
    "cortex-m3": "mps2-an385",
    "rv32imac": "qemu-riscv32",
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
    "cortex-m55": "mps3-an547",
}
_BY_WEIGHTS = ("ops/dense_halves.c.j2", "ops/dense_blocked.c.j2")
FOLDS = 4
LEAST = 3  # layers of a form of a template; with fewer, its own estimate is scaled
MOST = 40  # layers of a kernel
REST = "c"  # of all functions without a name among the counts
SCALED = 6  # layers; with fewer, only the kernel's own estimate is scaled


@dataclass(frozen=True)
class Measured:
    job: Job
    executed: Executed

    @property
    def cost(self) -> Cost:
        found = self.executed
        return Cost(float(found.instructions), found.cycles, found.code_bytes)

    @cached_property
    def counts(self) -> dict[str, float]:
        return counts(self.job.kernel, self.job.node, self.job.graph)


def _tuned(features: frozenset[str]) -> list[Kernel]:
    """With Helium, those of the DSP extension are not worth their time, unless they are named."""
    rest = [k for k in registry() if "mve" in k.features or not k.features]
    return rest if "mve" in features else list(registry())


def measured(layers: Graph, target: str, most: int, kernels: list[Kernel]) -> list[Measured]:
    """Every kernel on the layers it applies to, `most` of each at most; of a portable convolution
    a third of it where there are tuned ones, and twice as many where there are none."""
    board = load_board(BOARDS[target])
    jobs: list[Job] = []
    used: dict[str, int] = defaultdict(int)
    features = board.target.features
    tuned = features & {"dsp", "mve"}
    for node in (n for n in layers.nodes if not n.op.is_view):
        for kernel in candidates(node, layers, features, kernels):
            portable = kernel.op == "conv2d" and not kernel.features
            own = (most // 3 if tuned else 2 * most) if portable else most
            if used[kernel.name] < own:
                used[kernel.name] += 1
                jobs.append(Job(node, layers, kernel))
    found = execute_kernels(jobs, board, print)
    return [Measured(job, executed) for job, executed in zip(jobs, found, strict=True)]


def alike(kernel: Kernel) -> tuple[str, str]:
    """Equal for kernels of one form of one template, which cost the same, whatever the operator."""
    return kernel.template, kernel.name.removeprefix(f"{kernel.op}_")


def fitted(rows: list[Measured], value: str) -> dict[str, float]:
    """Coefficients of the counts, none negative; those that matter to no layer are left out."""
    names = sorted({name for row in rows for name in row.counts})
    if "outputs" not in names:  # every part is counted
        names.remove("estimate")
    names = names if len(rows) >= SCALED else ["estimate"]
    parts: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts[name.partition(PART)[0] if PART in name else ""].append(name)
    if set(parts) == {""}:
        return _solved(rows, names, [getattr(row.cost, value) for row in rows], value)
    found: dict[str, float] = {}
    spent = [spent_by_part(row.executed, set(parts) - {"", REST}, value) for row in rows]
    for part, own in parts.items():
        if part:
            found |= _solved(rows, own, [s[part] for s in spent], value)
    return found


def spent_by_part(executed: Executed, parts: set[str], value: str) -> dict[str, float]:
    """What the functions NAME_part executed, and REST: all others."""
    found = dict.fromkeys((*parts, REST), 0.0)
    for function, (instructions, cycles) in executed.functions.items():
        name = function.partition(".")[0]  # .constprop.0: a copy for some arguments
        ends = [part for part in parts if name.endswith(f"_{part}")]
        own = instructions if value == "instructions" else cycles or 0.0
        found[max(ends, key=len, default=REST)] += own
    return found


def _solved(
    rows: list[Measured], names: list[str], spent: list[float], value: str
) -> dict[str, float]:
    """What of all rows costs `spent`, by least squares of the error relative to all of them."""
    known = np.array([[row.counts.get(n, 0.0) for n in names] for row in rows])
    truth = np.array([getattr(row.cost, value) for row in rows])
    scaled, right = known / truth[:, None], np.array(spent) / truth
    norm = np.maximum(np.abs(scaled).max(0), 1e-30)
    found = nnls(scaled / norm, right)[0] / norm
    shares = (scaled * found).max(0)
    kept = [n for n, share in zip(names, shares, strict=True) if share > 1e-3]
    columns = [names.index(n) for n in kept]
    if not kept:
        return {}
    found = nnls(scaled[:, columns] / norm[columns], right)[0] / norm[columns]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(BOARDS))
    parser.add_argument("--layers", type=int, default=700)
    parser.add_argument("--most", type=int, default=MOST, help="layers of a kernel")
    parser.add_argument("--only", nargs="*", default=[], help="kernels; the others stay")
    parser.add_argument("--write", action="store_true", help="targets/*/costs.toml")
    arguments = parser.parse_args()
    for target in arguments.target or BOARDS:
        rows = defaultdict(list)
        features = load_board(BOARDS[target]).target.features
        kernels = list(registry()) if arguments.only else _tuned(features)
        by_function = [k for k in kernels if k.op == "conv2d" and k.features & {"dsp", "mve"}]
        two_sums = [k for k in kernels if k.template in _BY_WEIGHTS]
        plain = [k for k in kernels if k not in by_function or "mve" in k.features]
        for layers, kinds, most in (
            (drawn_layers(1, arguments.layers), plain, arguments.most),
            (drawn_others(3, 3 * arguments.layers), plain, arguments.most),
            (drawn_dense(7, 2 * arguments.most), two_sums, arguments.most),
            (drawn_convolutions(5, 3 * arguments.layers), by_function, 4 * arguments.most),
        ):
            asked = [k for k in kinds if not arguments.only or k.name in arguments.only]
            for row in measured(layers, target, most, asked):
                rows[alike(row.job.kernel)].append(row)
        formulas = {
            name: formula
            for group in rows.values()
            for formula in [calibrated(group)]
            for name in {row.job.kernel.name for row in group}
        }
        for name, f in sorted(formulas.items()):
            print(f"{name:28} {f.layers:3} layers {f.error:7.2%} {f.worst:7.2%} {f.code_bytes:5} B")
        known = load_costs(target)
        if arguments.only and known is not None:
            formulas = known.kernels | formulas
        if arguments.write:
            (paths.TARGETS / target / "costs.toml").write_text(text(target, formulas))


if __name__ == "__main__":
    main()
