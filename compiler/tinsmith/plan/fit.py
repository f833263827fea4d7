"""Does the plan fit the board? If not: the numbers, the peak, what is live there, what to try."""

from __future__ import annotations

from ..errors import DoesNotFit
from .model import Buffer, MemoryPlan, short_name

_NAME = 48  # characters of a name
_LISTED = 12  # live buffers named, largest first


def fit(plan: MemoryPlan, ram_budget: int, *, other_ram_bytes: int = 0, board: str = "") -> None:
    """Raise DoesNotFit when the arena exceeds `ram_budget` less `other_ram_bytes` (data, stack)."""
    room = max(ram_budget - other_ram_bytes, 0)
    if plan.arena_bytes <= room:
        return
    where = board or "the budget"
    besides = f", {other_ram_bytes:,} B being data and stack" if other_ram_bytes else ""
    quality = "no plan of this schedule is smaller"
    if not plan.proved_optimal:
        quality = f"no plan of this schedule is below {plan.lower_bound_bytes:,} B"
    raise DoesNotFit(
        f"the arena needs {plan.arena_bytes:,} B, {plan.arena_bytes - room:,} B more than {where} "
        f"has for it\n{_live_at_peak(plan)}",
        node=plan.peak_origin or plan.peak_node or None,
        expected=f"at most {room:,} B of {ram_budget:,} B RAM{besides}; {quality}",
        hint=_advice(plan, room),
    )


def _live_at_peak(plan: MemoryPlan) -> str:
    step = plan.order.index(plan.peak_node) if plan.order else 0
    live = sorted((p.buffer for p in plan.live_at(step)), key=lambda b: (-b.bytes, b.name))
    rows = [f"  {b.bytes:>11,} B  {_describe(b, plan)}" for b in live[:_LISTED]]
    if len(live) > _LISTED:
        rest = live[_LISTED:]
        rows.append(f"  {sum(b.bytes for b in rest):>11,} B  in {len(rest)} smaller ones")
    return "\n".join([f"  live while {short_name(plan.peak_node, _NAME)} runs:", *rows])


def _describe(buffer: Buffer, plan: MemoryPlan) -> str:
    if buffer.is_scratch:
        return f"scratch of {short_name(buffer.name, _NAME)}"
    facts: list[str] = []
    if buffer.is_input:
        facts.append("graph input")
    if buffer.origin:
        facts.append(f"from {buffer.origin}")
    if buffer.is_output:
        facts.append("graph output")
    elif 0 <= buffer.last < len(plan.order):
        facts.append(f"until {short_name(plan.order[buffer.last], _NAME)}")
    return f"{short_name(buffer.name, _NAME)} ({', '.join(facts)})"


def _advice(plan: MemoryPlan, room: int) -> str:
    ideas: list[str] = []
    if plan.lower_bound_bytes <= room:
        ideas.append("look for a smaller plan with --exact-plan")
    ideas += [
        "take a board with more RAM",
        f"give {short_name(plan.peak_node, _NAME)} fewer channels, or its input a lower resolution",
    ]
    return "; ".join(ideas)
