"""Proof that no smaller arena exists, by complete search; for problems of inference's size.

Every forbidden difference of two offsets leaves two ways out: one cluster far enough above the
other, or far enough below. Ways taken are a system of differences, whose least solution is a
longest path. The search finds two clusters that break a rule in the least solution so far and tries
both ways; a solution above the limit ends a branch. When all branches have ended no arena within
the limit exists. Leads of any sign are allowed, unlike in first fit. The ways tried are counted,
not the time: the same problem ends the same way on every machine.

Of a large problem only the clusters of a few steps are searched, around the peak and ever more of
them: where even those have no smaller arena, all have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .constraints import Problem

WAYS = 40_000  # tried in one proof
MOST_RULES = 1000  # of what is searched; with more it would not end

Offsets = tuple[int, ...]


@dataclass(frozen=True)
class Proof:
    """The best offsets, their arena, and a bound below which there is none; all in bytes."""

    offsets: Offsets
    arena: int
    lower_bound: int


@dataclass(frozen=True)
class _Rule:
    """low < offset a − offset b < high is forbidden; in units of the alignment."""

    a: int
    b: int
    low: int
    high: int

    def is_broken(self, at: list[int]) -> bool:
        return self.low < at[self.a] - at[self.b] < self.high

    @property
    def ways(self) -> tuple[_Way, _Way]:
        return _Way(self.b, self.a, self.high), _Way(self.a, self.b, -self.low)


@dataclass(frozen=True)
class _Way:
    """offset `above` ≥ offset `below` + distance."""

    below: int
    above: int
    distance: int


def prove(
    problem: Problem,
    offsets: Offsets,
    arena: int,
    bound: int,
    *,
    peak: int = 0,
    enough: int = 0,
    ways: int = WAYS,
) -> Proof:
    """Look for an arena below `arena`, that of `offsets`, until one of `bound` bytes is found or
    none is left. Without an answer in so many ways the lower bound stays `bound`. enough: bytes
    below which a smaller arena is of no use.

    peak: of a large problem the step around which clusters are searched; its offsets stay as they
    are, the lower bound is that of these clusters.
    """
    if _rules(problem) <= MOST_RULES:
        return _prove(problem, offsets, arena, bound, enough, ways)[0]
    reach = 1
    while ways > 0 and arena > max(bound, enough):
        part, held = problem.during(peak - reach, peak + reach)
        if _rules(part) > MOST_RULES:
            break
        best, ways = _prove(part, tuple(offsets[c] for c in held), arena, bound, enough, ways)
        bound, reach = best.lower_bound, 2 * reach
    return Proof(offsets, arena, bound)


def _rules(problem: Problem) -> int:
    return sum(map(len, problem.forbidden)) // 2


def _prove(
    problem: Problem, offsets: Offsets, arena: int, bound: int, enough: int, ways: int
) -> tuple[Proof, int]:
    """The proof, and how many of the ways are left."""
    search = _Search(problem, ways)
    while arena > max(bound, enough) and search.left > 0:
        found = search.within(arena - 1)
        if found is None:
            return Proof(offsets, arena, bound if search.has_given_up else arena), search.left
        offsets = found
        arena = max(o + size for o, size in zip(found, problem.bytes, strict=True))
    return Proof(offsets, arena, bound), search.left


class _Search:
    def __init__(self, problem: Problem, ways: int) -> None:
        self.problem = problem
        self.left = ways
        unit = problem.alignment
        listed = (
            (min(problem.bytes[i], problem.bytes[rule.other]), i, rule)
            for i, rules in enumerate(problem.forbidden)
            for rule in rules
            if rule.other < i  # each pair is listed at both
        )
        self.rules = [  # the largest clusters first
            _Rule(i, rule.other, rule.low // unit, -(-rule.high // unit))
            for _, i, rule in sorted(listed, key=lambda x: (-x[0], x[1], x[2]))
        ]
        self.taken: list[list[_Way]] = []  # by the cluster below
        self.most: list[int] = []

    @property
    def has_given_up(self) -> bool:
        return self.left <= 0

    def within(self, limit: int) -> Offsets | None:
        """Offsets of a plan of at most `limit` bytes; None: there is none, or it gave up."""
        unit = self.problem.alignment
        self.most = [(limit - size) // unit for size in self.problem.bytes]
        at = self._solve([0] * len(self.most)) if min(self.most) >= 0 else None
        return None if at is None else tuple(x * unit for x in at)

    def _solve(self, at: list[int]) -> list[int] | None:
        """A solution, from the least one without any ways."""
        self.taken = [[] for _ in at]
        path: list[_Way] = []  # the ways taken, one of each level but the last
        levels: list[Iterator[tuple[_Way, list[int]]]] = []
        while True:
            open_ways = self._open_ways(at)
            if open_ways is None:
                return at
            levels.append(iter(open_ways))
            while (step := next(levels[-1], None)) is None or self.left <= 0:
                levels.pop()
                if not levels or self.left <= 0:
                    return None
                self.taken[path.pop().below].pop()
            way, at = step
            self.taken[way.below].append(way)
            path.append(way)

    def _open_ways(self, at: list[int]) -> list[tuple[_Way, list[int]]] | None:
        """Of the broken rule that leaves the fewest its ways, each with the least solution; None
        where no rule is broken."""
        best: list[tuple[_Way, list[int]]] | None = None
        for rule in self.rules:
            if rule.is_broken(at):
                open_ways = [(w, raised) for w in rule.ways if (raised := self._raised(at, w))]
                if best is None or len(open_ways) < len(best):
                    best = open_ways
                if len(best) < 2:  # it decides itself
                    break
        return best and sorted(best, key=lambda x: sum(x[1]))

    def _raised(self, at: list[int], way: _Way) -> list[int] | None:
        """The least solution with one more way; None where it is above the limit."""
        self.left -= 1
        raised = list(at)
        waiting = [way]
        while waiting:
            edge = waiting.pop()
            least = raised[edge.below] + edge.distance
            if least > self.most[edge.above]:
                return None
            if least > raised[edge.above]:
                raised[edge.above] = least
                waiting += self.taken[edge.above]
        return raised
