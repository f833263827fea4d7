"""Networks and single layers on this machine's CPU, beside other runtimes in the same run.

`python tests/benchmarks/bench_tvm.py --markdown docs/tvm.md`. Times depend on the machine and what
else it does; ratios are paired and hold better. `--real-time` (root only) lets nothing else run
while a runtime has its turn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.layer_chains import CHAINS, LAYERS, Chain
from tests.benchmarks.tables import markdown, write_between
from tests.shared import shared_models
from tinsmith.commands.against import thread_counts
from tinsmith.peers.compare import Comparison, Row, ThreadRun, compare

PEERS = ("onnxruntime", "onnxruntime uint8", "litert", "executorch")
HEAD = ("model", "threads", "µs", "int8 peak", "onnxruntime", "its uint8 form", "LiteRT",
        "ExecuTorch", "to its better form")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """goal: the ratio to onnxruntime's better form that we want. chain: a single layer's model."""

    name: str
    label: str
    goal: float
    path: str = ""
    dtype: str = "int8"
    chain: Chain | None = None

    def model(self, folder: Path) -> Path:
        if self.chain is None:
            return shared_models() / self.path
        made = folder / f"{self.chain.name}.onnx"
        onnx.save(self.chain.model(), made)
        return made

    @property
    def parts(self) -> int:
        """Layers that a measured time is divided by."""
        return LAYERS if self.chain else 1


CASES = (
    *(Case(n, n, 1.5, f"mlperf_tiny/{n}_int8.onnx") for n in ("kws", "vww", "ic", "ad")),
    *(
        Case(n, n, goal, f"mcu_nets/{n}_int8.onnx")
        for n, goal in (("mcunet-5fps", 1.3), ("mbv2-w0.35", 1.3), ("proxyless-w0.3", 1.3))
    ),
    Case("resnet8-f32", "ResNet-8, float32", 1.0, "mlperf_tiny/ic_f32.onnx", "float32"),
    *(Case(c.name, c.label, 1.0, chain=c) for c in CHAINS),
)


def measure(
    cases: Sequence[Case], options: argparse.Namespace
) -> Iterator[tuple[Case, Comparison]]:
    for case in cases:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            yield (
                case,
                compare(
                    case.model(folder),
                    board=options.board,
                    against=options.against,
                    out=folder / "out",
                    dtype=case.dtype,
                    threads=thread_counts(options.threads),
                    rounds=options.rounds,
                    layers=options.layers,
                    undisturbed=real_time if options.real_time else nullcontext,
                ),
            )


@contextmanager
def real_time() -> Generator[None]:
    """Real-time priority for every thread of this process, and those that it makes meanwhile."""
    try:
        _schedule(os.SCHED_FIFO, 1)
    except PermissionError as error:
        raise SystemExit(f"--real-time: {error}") from error
    try:
        yield
    finally:
        _schedule(os.SCHED_OTHER, 0)


def _schedule(policy: int, priority: int) -> None:
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):
            os.sched_setscheduler(int(thread), policy, os.sched_param(priority))


def best_ratio(run: ThreadRun) -> Row | None:
    """onnxruntime in its better form: the row with the smaller ratio."""
    rows = [r for r in run.rows if r.label.startswith("onnxruntime") and r.slower is not None]
    return min(rows, key=lambda r: r.slower.median if r.slower else 0, default=None)


def cells(case: Case, comparison: Comparison, run: ThreadRun) -> list[str]:
    ours = run.ours.seconds
    if ours is None:
        return [case.label, str(run.threads), run.ours.note, *[""] * (len(HEAD) - 3)]
    share = comparison.peak_share(run)
    rows = {r.label: r for r in run.rows}
    ratios = [_ratio(rows.get(label)) for label in PEERS]
    best = best_ratio(run)
    verdict = ""
    if best is not None and best.slower is not None:
        low, high = best.slower.low, best.slower.high
        met = "" if best.slower.median >= case.goal else f" (goal {case.goal})"
        verdict = f"**{best.slower.median:.2f}** [{low:.2f}, {high:.2f}]{met}"
    time_ = f"{ours * 1e6 / case.parts:.1f}"
    peak = "" if share is None else f"{share:.0%}"
    return [case.label, str(run.threads), time_, peak, *ratios, verdict]


def _ratio(row: Row | None) -> str:
    return "" if row is None or row.slower is None else f"{row.slower.median:.2f}"


def markdown_of(results: Sequence[tuple[Case, Comparison]]) -> str:
    return markdown(HEAD, (cells(case, made, run) for case, made in results for run in made.runs))


def slow_layers(made: Comparison, count: int = 6) -> Iterator[str]:
    """The layers that take longest, with their rate and share of the peak."""
    total = sum(layer.seconds for layer in made.layers)
    for layer in sorted(made.layers, key=lambda x: -x.seconds)[:count]:
        share = "" if layer.peak_share is None else f", {layer.peak_share:.0%} of the peak"
        part = f"{layer.seconds * 1e6:.1f} us, {layer.seconds / total:.0%}"
        yield f"  {layer.op} {layer.shapes}: {part}{share}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="linux-x86_64")
    parser.add_argument("--against", default="all")
    parser.add_argument("--threads", default="1,all")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--layers", action="store_true", help="print the slowest layers")
    parser.add_argument("--real-time", action="store_true", help="with real-time priority")
    parser.add_argument("--only", nargs="*", help="parts of names of models")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--markdown", type=Path, help="write the table into this file")
    options = parser.parse_args()
    cases = [c for c in CASES if not options.only or any(o in c.name for o in options.only)]
    options.out.mkdir(parents=True, exist_ok=True)
    results: list[tuple[Case, Comparison]] = []
    start = time.monotonic()
    for case, made in measure(cases, options):
        results.append((case, made))
        for run in made.runs:
            busy = f", others {run.others:.1f} cores"
            print(" | ".join(cells(case, made, run)) + busy, flush=True)
        for line in slow_layers(made):
            print(line, flush=True)
    print(f"\n{markdown_of(results)}\n\n{time.monotonic() - start:.0f} s")
    data = [msgspec.to_builtins(made) for _, made in results]
    (options.out / "tvm.json").write_text(json.dumps(data, indent=1) + "\n")
    if options.markdown:
        write_between(options.markdown, "benchmarks", markdown_of(results))


if __name__ == "__main__":
    main()
