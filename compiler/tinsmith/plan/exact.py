"""The smallest arena by constraint programming (OR-tools CP-SAT), an optional extra.

Every forbidden difference of two offsets becomes a disjunction: below it or above it.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import InternalError, MissingTool
from .constraints import Problem


def solve_exact(
    problem: Problem, hint: tuple[int, ...], bound: int, time_limit_s: float
) -> tuple[tuple[int, ...], int, int]:
    """(offsets per cluster, arena bytes, lower bound in bytes); optimal when the last two are
    equal.

    hint: offsets of a plan that works; the result is never worse. bound: a known lower bound.
    One worker with a fixed seed: a result proved in time is the same on every machine; one that the
    clock cut short may not be.
    """
    cp = _load()
    unit = problem.alignment
    top = max(o + size for o, size in zip(hint, problem.bytes, strict=True))
    model: Any = cp.CpModel()
    at = [
        model.new_int_var(0, (top - size) // unit, f"at{i}") for i, size in enumerate(problem.bytes)
    ]
    arena = model.new_int_var(bound, top, "arena")
    for i, forbidden in enumerate(problem.forbidden):
        model.add(arena >= at[i] * unit + problem.bytes[i])
        model.add_hint(at[i], hint[i] // unit)
        for k, rule in enumerate(forbidden):
            if rule.other < i:  # each pair is listed at both
                above = model.new_bool_var(f"above{i}_{k}")
                difference = at[i] - at[rule.other]
                model.add(difference >= -(-rule.high // unit)).only_enforce_if(above)
                model.add(difference <= rule.low // unit).only_enforce_if(~above)
    model.minimize(arena)
    solver: Any = cp.CpSolver()
    solver.parameters.num_search_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = time_limit_s
    status: str = solver.status_name(solver.solve(model))
    if status == "UNKNOWN":
        return hint, top, bound
    if status not in ("OPTIMAL", "FEASIBLE"):
        raise InternalError(f"CP-SAT says {status} to a plan that works", where="plan_arena")
    offsets = tuple(int(solver.value(v)) * unit for v in at)
    found = max(o + size for o, size in zip(offsets, problem.bytes, strict=True))
    proved = found if status == "OPTIMAL" else int(solver.best_objective_bound)
    return offsets, found, max(bound, proved)


def _load() -> Any:
    try:
        return importlib.import_module("ortools.sat.python.cp_model")
    except ModuleNotFoundError as error:
        raise MissingTool(
            "the exact memory planner needs OR-tools, which is not installed",
            hint="pip install 'tinsmith[plan]', or plan without --exact-plan",
        ) from error
