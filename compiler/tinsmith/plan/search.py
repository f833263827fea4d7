"""Offsets by first fit: in several orders of the clusters, and then in orders that learn.

What does not fit below the best arena so far goes to an earlier place in the order, and all is laid
down again: "squeaky wheel" optimisation (Joslin and Clements, 1999). Large problems, those of a
training step, end within bytes of the lower bound, where moves at random stay 10 % above it.

Seeded, and limited by a number of tries, not by time: the same problem gives the same offsets on
every machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from .constraints import Problem

PATIENCE = 60  # tries without a better arena before it starts from another order
CLOSE = 1.03  # of the bound: from there on it ends sooner when nothing gets better
SHAKEN = 8  # clusters of the best order moved at random where it starts from that
LARGE = (2, 4, 16)  # at least this part of the largest cluster
NO_LIMIT = 1 << 62

Offsets = tuple[int, ...]


def first_fit(problem: Problem, order: Sequence[int]) -> tuple[Offsets, int]:
    """Place the clusters in the given order, each at the lowest offset allowed; offsets and arena
    bytes."""
    offsets, top, _ = _Rules(problem).place(order, NO_LIMIT)
    return tuple(offsets), top


def search(
    problem: Problem, bound: int, budget: int | None, placements: int
) -> tuple[Offsets, int]:
    """The best offsets of at most `placements` tries, and the arena in bytes.

    It ends as soon as the arena is no larger than `bound`. budget: bytes; it tries four times as
    long again where they are exceeded.
    """
    rules = _Rules(problem)
    starts = sorted(
        ((rules.place(order, NO_LIMIT), order) for order in _starting_orders(problem)),
        key=lambda start: start[0][1],
    )
    (offsets, arena, _), best_order = starts[0]
    rng = random.Random(0)
    order, stale, restarts = list(best_order), 0, 0
    tries, spent, bettered = placements, 0, 0
    while arena > bound:
        if arena <= CLOSE * bound and spent - bettered > placements // 6:
            break
        if spent >= tries:
            if budget is None or arena <= budget or tries > placements:
                break
            tries = 5 * placements
            continue
        spent += 1
        found, top, stuck = rules.place(order, arena - 1)
        if stuck is None:
            offsets, arena, best_order, stale, bettered = found, top, list(order), 0, spent
            continue
        stale += 1
        if stale <= PATIENCE:
            _move(order, stuck, rng.uniform(0.0, 0.95))
            continue
        stale, restarts = 0, restarts + 1
        if restarts % 2:
            order = list(starts[(restarts // 2 + 1) % len(starts)][1])
        else:
            order = list(best_order)
            for _ in range(SHAKEN):
                order.insert(rng.randrange(len(order)), order.pop(rng.randrange(len(order))))
    return tuple(offsets), arena


def _move(order: list[int], cluster: int, share: float) -> None:
    """To that share of the way from the front to where it is."""
    at = order.index(cluster)
    order.insert(int(at * share), order.pop(at))


class _Rules:
    """The rules of a problem as placing wants them: what a cluster forbids the others."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.forbids = tuple(
            tuple((rule.other, -rule.high, -rule.low) for rule in rules)
            for rules in problem.forbidden
        )

    def place(self, order: Sequence[int], limit: int) -> tuple[list[int], int, int | None]:
        """(offsets, arena bytes, the first cluster that ends above `limit`); with such a cluster
        the offsets are those of the ones before it, −1 of the others."""
        size, alignment = self.problem.bytes, self.problem.alignment
        blocked: list[list[tuple[int, int]]] = [[] for _ in size]
        offsets = [-1] * len(size)
        top = 0
        for i in order:
            at = 0
            blocked[i].sort()
            for low, high in blocked[i]:
                if low >= at:
                    break
                if at < high:
                    at = -(-high // alignment) * alignment
            top = max(top, at + size[i])
            if top > limit:
                return offsets, top, i
            offsets[i] = at
            for other, low, high in self.forbids[i]:
                if offsets[other] < 0:
                    blocked[other].append((at + low, at + high))
        return offsets, top, None


def _starting_orders(problem: Problem) -> list[list[int]]:
    """By size, by bytes of neighbours in time, by size × lifetime, by lifetime, in time, against
    time; and the large ones against time, then the others by size.

    Against time lays an output down before its input, so that the input can start a lead above it.
    """
    size, life = problem.bytes, problem.lifetime
    degree = [sum(size[f.other] for f in fs) for fs in problem.forbidden]
    every = list(range(len(size)))
    return [
        sorted(every, key=lambda i: (-size[i], i)),
        sorted(every, key=lambda i: (-size[i], -i)),
        sorted(every, key=lambda i: (-degree[i] - size[i], -i)),
        sorted(every, key=lambda i: (-size[i] * life[i], -i)),
        sorted(every, key=lambda i: (-life[i], -size[i], i)),
        every,
        every[::-1],
        *(_large_first(problem, share) for share in LARGE),
    ]


def _large_first(problem: Problem, share: int) -> list[int]:
    size = problem.bytes
    large = [i for i in reversed(range(len(size))) if size[i] * share >= max(size)]
    held = set(large)
    others = (i for i in range(len(size)) if i not in held)
    return large + sorted(others, key=lambda i: (-size[i], i))
