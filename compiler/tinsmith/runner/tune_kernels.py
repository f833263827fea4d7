"""Measures the kernels between which the estimates of a model's layers do not decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from ..codegen.choices import Choices
from ..ir.graph import Graph
from ..kernels.aim import Aim
from ..kernels.candidate import Candidate
from ..kernels.costs import layer_key
from ..machine.board import Board
from ..machine.costs import Cost
from ..machine.measured import Measured, MeasuredLayer
from .measure_kernels import Job, measure_kernels


@dataclass(frozen=True)
class Comparison:
    """A kernel that could be a node's. estimate, measured: in the unit of the objective."""

    node: str
    kernel: str
    estimate: float
    measured: float


@dataclass(frozen=True)
class TunedKernels:
    """found: all that is known now. compared: of this model. fresh: how many were measured now."""

    found: Measured
    compared: tuple[Comparison, ...]
    fresh: int


def tune_kernels(
    graph: Graph,
    board: Board,
    aim: Aim,
    within: float,
    known: Measured,
    progress: Callable[[str], None] = lambda step: None,
) -> TunedKernels:
    """Measure the kernels of a QUANTIZED graph whose estimate is at most `within` (a fraction)
    above the least of their node, where there are several; not again what is `known`.

    Raises CompileError for a board without an emulator that counts, MissingTool.
    """
    close: dict[str, list[Candidate]] = {}
    for candidates in Choices.of(graph, board, aim).candidates.values():
        limit = (1 + within) * candidates[0].value(aim.objective)
        group = [c for c in candidates if c.value(aim.objective) <= limit and _is_alone(c)]
        for c in group if len(group) > 1 else ():
            close.setdefault(layer_key(c.kernel, c.node, graph), []).append(c)
    costs = dict(known.costs)
    missing = {key: users[0] for key, users in close.items() if key not in costs}
    jobs = [Job(c.node, graph, c.kernel) for c in missing.values()]
    costs |= dict(zip(missing, measure_kernels(jobs, board, progress), strict=True))
    names = {m.key: (m.node, m.kernel) for m in known.measured}
    names |= {key: (c.node.name, c.kernel.name) for key, c in missing.items()}
    layers = tuple(MeasuredLayer(key, *names[key], cost) for key, cost in costs.items())
    compared = tuple(
        Comparison(c.node.name, c.kernel.name, c.value(aim.objective), _value(c, costs[key], aim))
        for key, users in close.items()
        for c in users
    )
    return TunedKernels(msgspec.structs.replace(known, measured=layers), compared, len(missing))


def _is_alone(candidate: Candidate) -> bool:
    """Whether it can run outside its model: what learns has state."""
    node, graph = candidate.node, candidate.graph
    return not any(v in graph.storage for v in (*node.inputs, *node.outputs))


def _value(candidate: Candidate, cost: Cost, aim: Aim) -> float:
    return replace(candidate, cost=cost).value(aim.objective)
