"""A training plan as files: update.toml, plan.json, front.png."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from ..train.scheme import Scheme, Update
from .costs import Cost
from .pareto import Point, draw
from .plan import Baseline, TrainingPlan

SCHEME, DATA, PICTURE = "update.toml", "plan.json", "front.png"


def write_plan(plan: TrainingPlan, folder: Path, model: str, board: str) -> None:
    """Into a folder that exists."""
    (folder / SCHEME).write_text(scheme_text(plan.scheme, _comment(plan, model, board)))
    text = msgspec.json.format(msgspec.json.encode(plan_data(plan, model, board)), indent=2)
    (folder / DATA).write_bytes(text + b"\n")
    gains = [
        (row.name, row.cost.ram_bytes, row.measured.gain_over(plan.analysis.head)[0])
        for row in plan.baselines
        if row.cost is not None and row.cost.ram_bytes <= 2 * plan.budget.ram_bytes
    ]
    title = f"{model} on {board}"
    draw(folder / PICTURE, plan.front, gains, plan.budget.ram_bytes, title)


def scheme_text(scheme: Scheme, comment: str = "") -> str:
    """The scheme as `read_scheme` reads it: the same again."""
    lines = [f"# {line}" for line in comment.splitlines()]
    if scheme.classes is not None:
        lines.append(f"classes = {scheme.classes}")
    for key in ("loss", "rule", "gradients"):
        lines.append(f'{key} = "{getattr(scheme, key)}"')
    for update in scheme.update:
        lines += ["", "[[update]]", *_keys(update)]
    return "\n".join(lines) + "\n"


def _keys(update: Update) -> list[str]:
    values = {k: v for k in update.__struct_fields__ if (v := getattr(update, k)) is not None}
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    """TOML of these types is JSON."""
    return msgspec.json.encode(value).decode()


def _comment(plan: TrainingPlan, model: str, board: str) -> str:
    best = plan.best
    gain, error = 100 * (best.gain or 0.0), 100 * (best.error or 0.0)
    return (
        f"For {model} on {board}: {best.cost.ram_bytes:,} B of RAM, of them "
        f"{best.cost.state_bytes:,} B of state.\n"
        f"About {best.cost.instructions:,} instructions a step.\n"
        f"Gained {gain:+.1f} ± {error:.1f} points over the classifier alone in a short fine-tune,\n"
        f"at a learning rate that fell from {plan.rate:g} to 0."
    )


def plan_data(plan: TrainingPlan, model: str, board: str) -> dict[str, Any]:
    """Gains and accuracies are fractions; bytes and instructions whole numbers."""
    return {
        "model": model,
        "board": board,
        "ram_budget_bytes": plan.budget.ram_bytes,
        "instruction_budget": plan.budget.instructions,
        "learning_rate": plan.rate,
        "scheme": msgspec.to_builtins(plan.scheme),
        "best": _point(plan.best),
        "best_sum": {"candidate": str(plan.found.best), "proved": plan.found.proved},
        "front": [_point(p) for p in plan.front],
        "baselines": [_baseline(b, plan) for b in plan.baselines],
        "contributions": [
            {
                "part": str(c.part),
                "gain": c.gain,
                "standard_error": c.error,
                "state_bytes": c.bytes,
            }
            for c in plan.analysis.contributions
        ],
    }


def _cost(cost: Cost) -> dict[str, int]:
    return {
        "ram_bytes": cost.ram_bytes,
        "arena_bytes": cost.arena_bytes,
        "state_bytes": cost.state_bytes,
        "stack_bytes": cost.stack_bytes,
        "instructions": cost.instructions,
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "candidate": str(point.candidate),
        **_cost(point.cost),
        "predicted_gain": None if math.isnan(point.predicted) else point.predicted,
        "gain": point.gain,
        "standard_error": point.error,
    }


def _baseline(row: Baseline, plan: TrainingPlan) -> dict[str, Any]:
    gain, error = row.measured.gain_over(plan.analysis.head)
    return {
        "name": row.name,
        "accuracy": row.measured.accuracy,
        "gain": gain,
        "standard_error": error,
        **({"fits": plan.budget.admits(row.cost), **_cost(row.cost)} if row.cost else {}),
    }
