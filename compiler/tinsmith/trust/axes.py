"""In which order an axis holds its elements: terms, and the unification that joins axes.

A term describes one axis. `Fixed` is in natural order; `Free` is a permutation class: any order, as
long as every axis of the class has the same; `Joined` are parts one after the other (concat);
`Nested` is the row-major product of axes (what a reshape makes of several). An axis that holds
order `o` has at position i what the natural tensor has at o[i].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..errors import InternalError
from ..ir.dtypes import Array


@dataclass(frozen=True)
class Fixed:
    """`size` elements in natural order."""

    size: int


@dataclass(frozen=True)
class Free:
    """A permutation class, or a part of one that was bound since."""

    number: int
    size: int


@dataclass(frozen=True)
class Joined:
    """The parts one after the other."""

    parts: tuple[Term, ...]

    @property
    def size(self) -> int:
        return sum(p.size for p in self.parts)


@dataclass(frozen=True)
class Nested:
    """The product of the factors, the last one fastest."""

    factors: tuple[Term, ...]

    @property
    def size(self) -> int:
        return math.prod(f.size for f in self.factors)


Term: TypeAlias = Fixed | Free | Joined | Nested


class Orders:
    """The classes of a graph: fresh ones, and what became of them."""

    def __init__(self) -> None:
        self._bound: dict[int, Term] = {}
        self._count = 0

    def fresh(self, size: int) -> Term:
        """A class of its own; a single element has one order only."""
        if size == 1:
            return Fixed(1)
        self._count += 1
        return Free(self._count, size)

    def resolve(self, term: Term) -> Term:
        """The term in normal form: bound classes replaced, neighbours in natural order merged."""
        if isinstance(term, Free):
            bound = self._bound.get(term.number)
            if bound is None:
                return term
            self._bound[term.number] = self.resolve(bound)
            return self._bound[term.number]
        if isinstance(term, Joined):
            return _joined(self.resolve(p) for p in term.parts)
        if isinstance(term, Nested):
            return _nested(self.resolve(f) for f in term.factors)
        return term

    def pin(self, *terms: Term) -> None:
        """Natural order from now on."""
        for given in terms:
            term = self.resolve(given)
            if isinstance(term, Free):
                self._bound[term.number] = Fixed(term.size)
            elif isinstance(term, Joined):
                self.pin(*term.parts)
            elif isinstance(term, Nested):
                self.pin(*term.factors)

    def equate(self, first: Term, second: Term) -> None:
        """Both axes have one order. Where no common form is known both are pinned."""
        a, b = self.resolve(first), self.resolve(second)
        if a.size != b.size:
            raise InternalError(f"axes of {a.size} and {b.size} elements cannot share an order")
        if a == b:
            return
        if isinstance(a, Fixed) or isinstance(b, Fixed):
            self.pin(a, b)
        elif isinstance(a, Free) or isinstance(b, Free):
            free, other = (a, b) if isinstance(a, Free) else (b, a)
            if free in self.classes(other):
                self.pin(a, b)
            elif isinstance(free, Free):
                self._bound[free.number] = other
        elif isinstance(a, Joined) and isinstance(b, Joined):
            self._align(list(a.parts), list(b.parts), self._split)
        elif isinstance(a, Nested) and isinstance(b, Nested):
            self._align(list(a.factors)[::-1], list(b.factors)[::-1], self._factor)
        else:
            self.pin(a, b)

    def classes(self, term: Term) -> tuple[Free, ...]:
        """The classes that a term is made of."""
        term = self.resolve(term)
        if isinstance(term, Free):
            return (term,)
        parts = () if isinstance(term, Fixed) else _children(term)
        return tuple(dict.fromkeys(c for p in parts for c in self.classes(p)))

    def order(self, term: Term, drawn: Callable[[Free], Array]) -> Array:
        """int64 [size]: natural indices by position, from the permutation of every class."""
        term = self.resolve(term)
        if isinstance(term, Fixed):
            return np.arange(term.size)
        if isinstance(term, Free):
            return drawn(term)
        orders = [self.order(p, drawn) for p in _children(term)]
        if isinstance(term, Joined):
            starts = np.cumsum([0, *(len(o) for o in orders[:-1])])
            return np.concatenate([o + s for o, s in zip(orders, starts, strict=True)])
        whole = orders[0]
        for inner in orders[1:]:
            whole = (whole[:, None] * len(inner) + inner[None, :]).ravel()
        return whole

    def part(self, term: Term, start: int, size: int) -> Term:
        """The elements [start, start + size) of an axis, which stay where they are in it."""
        whole = self.resolve(term).size
        parts = [n for n in (start, size, whole - start - size) if n]
        fresh = [self.fresh(n) for n in parts]
        self.equate(term, Joined(tuple(fresh)) if len(fresh) > 1 else fresh[0])
        return fresh[1 if start else 0]

    def _align(
        self, xs: list[Term], ys: list[Term], cut: Callable[[Term, int], list[Term] | None]
    ) -> None:
        """Equate piece by piece from the front; `cut` takes a larger piece apart."""
        while xs and ys:
            x, y = self.resolve(xs.pop(0)), self.resolve(ys.pop(0))
            if x.size == y.size:
                self.equate(x, y)
                continue
            large, small, rest = (x, y, xs) if x.size > y.size else (y, x, ys)
            pieces = cut(large, small.size)
            if pieces is None:
                self.pin(x, y, *xs, *ys)
                return
            rest[:0] = pieces
            (ys if rest is xs else xs).insert(0, small)

    def _split(self, large: Term, size: int) -> list[Term] | None:
        """An axis in two: its first `size` elements and the others."""
        if isinstance(large, Joined):
            return list(large.parts)
        if isinstance(large, Nested):
            self.pin(large)
        if isinstance(large, Free):
            parts = [self.fresh(size), self.fresh(large.size - size)]
            self._bound[large.number] = Joined(tuple(parts))
            return parts
        return [Fixed(size), Fixed(large.size - size)]

    def _factor(self, large: Term, size: int) -> list[Term] | None:
        """An axis as a product whose fast factor has `size` elements; fastest first."""
        if isinstance(large, Nested):
            return list(large.factors)[::-1]
        if large.size % size:
            return None
        if isinstance(large, Joined):
            self.pin(large)
        if isinstance(large, Free):
            parts = [self.fresh(size), self.fresh(large.size // size)]
            self._bound[large.number] = Nested(tuple(parts[::-1]))
            return parts
        return [Fixed(size), Fixed(large.size // size)]


def _children(term: Joined | Nested) -> Sequence[Term]:
    return term.parts if isinstance(term, Joined) else term.factors


def _joined(parts: Iterable[Term]) -> Term:
    flat: list[Term] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Joined) else (part,):
            last = flat[-1] if flat else None
            if isinstance(last, Fixed) and isinstance(piece, Fixed):
                flat[-1] = Fixed(last.size + piece.size)
            else:
                flat.append(piece)
    return flat[0] if len(flat) == 1 else Joined(tuple(flat))


def _nested(factors: Iterable[Term]) -> Term:
    flat: list[Term] = []
    for factor in factors:
        for piece in factor.factors if isinstance(factor, Nested) else (factor,):
            last = flat[-1] if flat else None
            if isinstance(last, Fixed) and isinstance(piece, Fixed):
                flat[-1] = Fixed(last.size * piece.size)
            elif piece.size != 1:
                flat.append(piece)
    if not flat:
        return Fixed(1)
    return flat[0] if len(flat) == 1 else Nested(tuple(flat))
