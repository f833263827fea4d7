"""Why a node has the kernel it has: the runner-up, and what spoke against it."""

from __future__ import annotations

from .candidate import Candidate
from .select import Selection


def runner_up(selection: Selection, chosen: Candidate) -> tuple[Candidate, str] | None:
    """The best of the other kernels of a node and why it was not taken; None where there is no
    other."""
    others = [c for c in selection.candidates[chosen.node.name] if c is not chosen]
    return (others[0], _against(selection, chosen, others[0])) if others else None


def _against(selection: Selection, chosen: Candidate, other: Candidate) -> str:
    aim = selection.aim
    if aim.pin(chosen.node) == chosen.kernel.name:
        return "the file says otherwise"
    needs, limit = selection.needs, selection.limit
    if needs is not None and limit is not None:
        need = needs[other.node.name, other.kernel.name]
        if need > limit:
            return f"{need - limit:,} B of RAM too many"
    unit = "cycles" if aim.objective == "cycles" else "instructions"
    value, least = other.value(aim.objective), chosen.value(aim.objective)
    if value > least or (value == least and not aim.price):
        return f"{value / least - 1:+.1%} {unit}" if least else f"{value:+,.0f} {unit}"
    more = other.constant_bytes - chosen.constant_bytes
    if more > 0:
        return f"{more:,} B more of flash"
    return "shares no code"
