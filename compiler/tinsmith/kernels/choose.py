"""One option per layer, for the least cost within a room of bytes: an exact dynamic program.

Options have bytes of their own and code that layers share: a function counts once, however many
layers call it. The program goes from layer to layer and keeps, for each set of functions that the
layers so far use and later ones could, the pairs (bytes, cost) that no other beats in both. A pair
goes as soon as a Lagrangian bound of the layers to come says that it leads to nothing better than
what is known. Where the cheapest choice of all fits, nothing is searched.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

Status = Literal["optimal", "bounded", "too large"]

MOST_PAIRS = 100_000  # of a layer: beyond it the choice is good, not proved
MOST_SETS = 1024
_HIGHEST_PRICE = 2.0**40
_BISECTIONS = 16


@dataclass(frozen=True)
class Option:
    """cost: of the layer; bytes: of its own; function: what it calls, of `code_bytes` in all."""

    cost: float
    bytes: int = 0
    function: Hashable = None
    code_bytes: int = 0


@dataclass(frozen=True)
class Choice:
    """picks: an option's index per layer. cost: Σ of the options' costs; bytes: with their code.

    status: "optimal"; "bounded": the search was cut short; "too large": nothing fits the room, and
    these are the fewest bytes.
    """

    picks: tuple[int, ...]
    cost: float
    bytes: int
    status: Status = "optimal"


Layers: TypeAlias = Sequence[Sequence[Option]]
_Set: TypeAlias = frozenset[Hashable]


def choose(layers: Layers, room: int | None = None, price: float = 0.0) -> Choice:
    """The choice with the least Σ cost + price · bytes whose bytes are at most `room`.

    Deterministic; of equals the earlier options win. Every layer has at least one.
    """
    order = _side_by_side(layers)
    ordered = [layers[i] for i in order]
    found = _choose(ordered, room, price)
    picks = dict(zip(order, found.picks, strict=True))
    return replace(found, picks=tuple(picks[i] for i in range(len(order))))


def _choose(layers: Layers, room: int | None, price: float) -> Choice:
    free = _cheapest(layers, price)
    if room is None or free.bytes <= room:
        return free
    smallest = _cheapest([[replace(o, cost=0.0) for o in layer] for layer in layers], 1.0)
    smallest = _choice(layers, smallest.picks)
    if smallest.bytes > room:
        return replace(smallest, status="too large")
    low, high = 0.0, 1.0
    while (best := _cheapest(layers, price + high)).bytes > room:
        low, high = high, 2 * high
        if high > _HIGHEST_PRICE:
            best = smallest
            break
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        found = _cheapest(layers, price + middle)
        if found.bytes > room:
            low = middle
        else:
            high = middle
            best = min(best, found, key=lambda c: c.cost + price * c.bytes)
    return _within(layers, room, price, best, (low, high))


def _side_by_side(layers: Layers) -> list[int]:
    """Layers that could share a function beside each other, so that few functions stay open."""
    group: dict[Hashable, int] = {}
    keys: list[tuple[int, int]] = []
    for i, layer in enumerate(layers):
        functions = [o.function for o in layer if o.function is not None]
        first = min((group[f] for f in functions if f in group), default=i)
        for function in functions:
            group.setdefault(function, first)
        keys.append((first, i))
    return [i for _, i in sorted(keys)]


def _open(layers: Layers) -> list[_Set]:
    """Per layer the functions that later ones could call."""
    found: list[_Set] = []
    later: set[Hashable] = set()
    for layer in reversed(layers):
        found.append(frozenset(later))
        later |= {o.function for o in layer if o.function is not None}
    return found[::-1]


def _choice(layers: Layers, picks: Sequence[int]) -> Choice:
    """What picks cost, a function counting once."""
    chosen = [layer[p] for layer, p in zip(layers, picks, strict=True)]
    code = {o.function: o.code_bytes for o in chosen if o.function is not None}
    size = sum(o.bytes for o in chosen) + sum(code.values())
    return Choice(tuple(picks), sum(o.cost for o in chosen), size)


def _cheapest(layers: Layers, price: float) -> Choice:
    """Without a room: one path per set of open functions."""
    paths: dict[_Set, tuple[float, tuple[Any, int] | None]] = {frozenset(): (0.0, None)}
    proved = True
    for layer, later in zip(layers, _open(layers), strict=True):
        reached: dict[_Set, tuple[float, tuple[Any, int] | None]] = {}
        for used, (value, path) in paths.items():
            for index, option in enumerate(layer):
                own = option.function is not None and option.function not in used
                size = option.bytes + (option.code_bytes if own else 0)
                total = value + option.cost + price * size
                after = (used | {option.function}) & later
                if after not in reached or total < reached[after][0]:
                    reached[after] = (total, (path, index))
        proved = proved and len(reached) <= MOST_SETS
        paths = dict(sorted(reached.items(), key=lambda item: item[1][0])[:MOST_SETS])
    link = min(paths.values(), key=lambda found: found[0])[1]
    picks: list[int] = []
    while link is not None:
        link, index = link
        picks.append(index)
    found = _choice(layers, picks[::-1])
    return found if proved else replace(found, status="bounded")


def _bounds(layers: Layers, price: float, prices: Sequence[float]) -> list[list[tuple[float, Any]]]:
    """Per layer and λ: (λ, the least Σ cost + (price + λ) · bytes of the later ones, no code)."""
    found: list[list[tuple[float, Any]]] = []
    rest = dict.fromkeys(prices, 0.0)
    for layer in reversed(layers):
        found.append(list(rest.items()))
        rest = {p: r + min(o.cost + (price + p) * o.bytes for o in layer) for p, r in rest.items()}
    return found[::-1]


def _within(
    layers: Layers, room: int, price: float, best: Choice, prices: tuple[float, ...]
) -> Choice:
    """Better than `best`, within the room, if there is one."""
    limit = best.cost + price * best.bytes
    sets: list[_Set] = [frozenset()]
    state, size = np.zeros(1, np.int64), np.zeros(1, np.int64)
    value = np.zeros(1)
    trail: list[tuple[Any, Any]] = []
    proved = True
    opened = _open(layers)
    for layer, later, bounds in zip(layers, opened, _bounds(layers, price, prices), strict=True):
        numbers: dict[_Set, int] = {}
        parts: list[tuple[Any, ...]] = []
        for index, option in enumerate(layer):
            fresh = [option.function is not None and option.function not in s for s in sets]
            afters = [(s | {option.function}) & later for s in sets]
            targets = np.array([numbers.setdefault(a, len(numbers)) for a in afters])
            grown = size + option.bytes + np.array(fresh)[state] * option.code_bytes
            spent = value + option.cost + price * (grown - size)
            places = np.arange(len(state))
            parts.append((targets[state], grown, spent, places, np.full(len(state), index)))
        new, grown, spent, place, option_of = (np.concatenate(p) for p in zip(*parts, strict=True))
        least = np.max([spent + rest - p * (room - grown) for p, rest in bounds], axis=0)
        kept = np.flatnonzero((grown <= room) & (least < limit - 1e-9 * abs(limit)))
        if not len(kept):
            return best if proved else replace(best, status="bounded")
        kept = kept[np.lexsort((spent[kept], grown[kept], new[kept]))]
        kept = kept[_undominated(new[kept], spent[kept])]
        if len(kept) > MOST_PAIRS:
            proved = False
            kept = kept[np.argsort(least[kept], kind="stable")[:MOST_PAIRS]]
        state, size, value = new[kept], grown[kept], spent[kept]
        trail.append((place[kept], option_of[kept]))
        sets = list(numbers)
    at = int(np.argmin(value))
    picks: list[int] = []
    for place, option_of in reversed(trail):
        picks.append(int(option_of[at]))
        at = int(place[at])
    return replace(_choice(layers, picks[::-1]), status="optimal" if proved else "bounded")


def _undominated(state: Any, value: Any) -> Any:
    """Of pairs sorted by state, then bytes: whether each costs less than all before it."""
    keep = np.ones(len(state), bool)
    starts = np.flatnonzero(np.r_[True, state[1:] != state[:-1]])
    for first, last in zip(starts, [*starts[1:], len(state)], strict=True):
        part = value[first:last]
        keep[first + 1 : last] = part[1:] < np.minimum.accumulate(part)[:-1]
    return keep
