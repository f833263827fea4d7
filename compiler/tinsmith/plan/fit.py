"""Does the plan fit the board? If not: the numbers, the peak, what is live there, what to try."""

from __future__ import annotations

from ..errors import DoesNotFit
from .model import Buffer, MemoryPlan


def fit(plan: MemoryPlan, ram_budget: int, *, other_ram_bytes: int = 0, board: str = "") -> None:
    """Raise DoesNotFit when arena and `other_ram_bytes` (data, bss, stack) exceed `ram_budget`
    bytes."""
    available = ram_budget - other_ram_bytes
    if plan.arena_bytes <= available:
        return
    on = f" on {board}" if board else ""
    besides = f" besides {other_ram_bytes:,} B of data and stack" if other_ram_bytes else ""
    missing = plan.arena_bytes - available
    quality = "which is the smallest possible" if plan.proved_optimal else "the best found"
    step = plan.order.index(plan.peak_node) if plan.order else 0
    live = sorted((p.buffer for p in plan.live_at(step)), key=lambda b: (-b.bytes, b.name))
    rows = "\n".join(f"    {b.bytes:>11,} B  {_describe(b, plan)}" for b in live)
    raise DoesNotFit(
        f"the model needs an arena of {plan.arena_bytes:,} B{besides}, but {max(available, 0):,} B "
        f"of RAM are left{on}: {missing:,} B too much\n"
        f"  live at the peak, {plan.peak_node}:\n{rows}",
        node=_origin(plan, step),
        expected=f"at most {max(available, 0):,} B; the plan has {plan.arena_bytes:,} B, {quality}"
        + ("" if plan.proved_optimal else f" (no plan is below {plan.lower_bound_bytes:,} B)"),
        hint=_advice(plan, available),
    )


def _describe(buffer: Buffer, plan: MemoryPlan) -> str:
    if buffer.is_scratch:
        return f"scratch of {buffer.name}"
    kind = "graph input" if buffer.is_input else "graph output" if buffer.is_output else ""
    until = plan.order[buffer.last] if 0 <= buffer.last < len(plan.order) else "the end"
    facts = [kind, f"from {buffer.origin}" if buffer.origin else "", f"needed until {until}"]
    return f"{buffer.name} ({', '.join(f for f in facts if f)})"


def _origin(plan: MemoryPlan, step: int) -> str | None:
    made = [p.buffer.origin for p in plan.placed if p.buffer.first == step and p.buffer.origin]
    return made[0] if made else plan.peak_node or None


def _advice(plan: MemoryPlan, available: int) -> str:
    ideas: list[str] = []
    if plan.lower_bound_bytes <= available:
        ideas.append(
            f"a plan down to {plan.lower_bound_bytes:,} B may exist: try the exact planner"
        )
    ideas += [
        "choose a board with more RAM",
        "reduce the resolution or the channels of the layer that peaks",
    ]
    return "; ".join(ideas)
