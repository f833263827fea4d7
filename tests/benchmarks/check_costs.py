"""What layers of real networks cost, as targets/*/costs.toml says and as QEMU counts.

    python -m tests.benchmarks.check_costs [--target cortex-m4]… [--within 0.03]

The layers that weigh 1 % of their model or more, with the kernels that they get by instructions, by
cycles where those are known, and with --optimize flash. Fails when one is off by more than
--within.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tinsmith.codegen.choices import Choices
from tinsmith.kernels.aim import OBJECTIVES, Aim
from tinsmith.kernels.candidate import Candidate
from tinsmith.machine.board import Board, load_board
from tinsmith.machine.costs import Cost
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import canonical, lower
from tinsmith.runner.measure_kernels import Job, measure_kernels

from ..shared import shared_models
from .calibrate_costs import BOARDS

NETWORKS = dict.fromkeys(("kws", "vww", "ic", "ad"), "mlperf_tiny") | {"mcunet-5fps": "mcu_nets"}
LEAST = 0.01  # of a model's instructions


@dataclass(frozen=True)
class Layer:
    """share: of its model's instructions."""

    network: str
    said: Candidate
    counted: Cost
    share: float

    @property
    def errors(self) -> tuple[float, float | None]:
        """Relative, of instructions and of cycles; None where those are not known."""
        instructions = self.said.cost.instructions / self.counted.instructions - 1
        if self.said.cost.cycles is None or self.counted.cycles is None:
            return instructions, None
        return instructions, self.said.cost.cycles / self.counted.cycles - 1

    @property
    def worst(self) -> float:
        return max(abs(e) for e in self.errors if e is not None)

    def __str__(self) -> str:
        errors = "".join(f" {e:+7.2%}" if e is not None else "       -" for e in self.errors)
        name, kernel = self.said.node.name[:32], self.said.kernel.name
        return f"{self.network:11} {name:32} {kernel:31} {self.share:6.1%}{errors}"


def layers(network: str, board: Board) -> Iterator[Layer]:
    """Of one network, each kernel of a node once."""
    path = shared_models() / NETWORKS[network] / f"{network}_int8.onnx"
    context = PassContext()
    graph = lower(canonical(path, context), "int8", None, "auto", context)
    known = [o for o in OBJECTIVES if o != "ram" and (o != "cycles" or board.target.cycles)]
    choices = [Choices.of(graph, board, Aim(o)).select().chosen for o in known]
    found = {(c.node.name, c.kernel.name): c for chosen in choices for c in chosen}
    jobs = [Job(c.node, graph, c.kernel) for c in found.values()]
    counted = dict(zip(found, measure_kernels(jobs, board), strict=True))
    total = sum(counted[c.node.name, c.kernel.name].instructions for c in choices[0])
    for key, said in found.items():
        share = counted[key].instructions / total
        if share >= LEAST:
            yield Layer(network, said, counted[key], share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(BOARDS))
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--within", type=float, default=0.03)
    arguments = parser.parse_args()
    failed = False
    for target in arguments.target or ("cortex-m4", "cortex-m7"):
        board = load_board(BOARDS[target])
        found = [x for n in arguments.network or NETWORKS for x in layers(n, board)]
        far = [x for x in found if x.worst > arguments.within]
        for layer in found:
            print(layer, "  <--" if layer in far else "")
        worst = max(found, key=lambda x: x.worst)
        print(f"{target}: {len(found)} layers, {len(far)} off by more than {arguments.within:.0%}")
        print(f"the worst: {worst}")
        failed |= bool(far)
    sys.exit(failed)


if __name__ == "__main__":
    main()
