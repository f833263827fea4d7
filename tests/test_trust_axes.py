"""Permutation classes: terms, unification, one rule per operator, permutations from a key."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from tinsmith.errors import InternalError
from tinsmith.ir.opdef import OpDef
from tinsmith.ops import registry
from tinsmith.trust.axes import Fixed, Free, Joined, Nested, Orders, Term
from tinsmith.trust.keystream import permutation
from tinsmith.trust.rules import RULES, pinned_because

KEY = bytes(range(32))


@pytest.mark.parametrize("op", registry().values(), ids=lambda op: op.name)
def test_every_operator_has_a_rule_or_a_reason(op: OpDef) -> None:
    assert op.name in RULES or len((pinned_because(op) or "").split()) >= 3


def test_no_rule_is_left_over() -> None:
    assert set(RULES) <= set(registry())


def test_equal_axes_become_one_class() -> None:
    orders = Orders()
    a, b, c = (orders.fresh(6) for _ in range(3))
    orders.equate(a, b)
    orders.equate(b, c)
    assert orders.resolve(a) == orders.resolve(c)
    orders.pin(a)
    assert orders.resolve(c) == Fixed(6)


def test_a_concat_refines_both_sides() -> None:
    orders = Orders()
    whole = orders.fresh(10)
    first = Joined((orders.fresh(4), orders.fresh(6)))
    second = Joined((orders.fresh(7), orders.fresh(3)))
    orders.equate(whole, first)
    orders.equate(whole, second)
    assert [c.size for c in orders.classes(whole)] == [4, 3, 3]
    assert orders.resolve(first) == orders.resolve(second)


def test_a_flattened_axis_is_a_product() -> None:
    orders = Orders()
    channels = orders.fresh(3)
    flat = orders.fresh(12)
    orders.equate(flat, Nested((Fixed(4), channels)))
    assert orders.order(flat, lambda c: np.array([2, 0, 1])).tolist() == [
        2, 0, 1, 5, 3, 4, 8, 6, 7, 11, 9, 10,
    ]  # fmt: skip
    outer = orders.fresh(12)
    orders.equate(outer, Nested((orders.fresh(6), Fixed(2))))
    orders.equate(outer, flat)
    assert orders.resolve(flat) == orders.resolve(outer)


def test_forms_without_a_common_one_are_pinned() -> None:
    orders = Orders()
    product = Nested((orders.fresh(5), orders.fresh(2)))
    other = Nested((orders.fresh(2), orders.fresh(5)))
    orders.equate(product, other)
    assert orders.resolve(product) == Fixed(10)
    assert orders.resolve(other) == Fixed(10)
    joined = Joined((orders.fresh(4), orders.fresh(6)))
    product = Nested((orders.fresh(5), orders.fresh(2)))
    orders.equate(joined, product)
    assert orders.resolve(joined) == orders.resolve(product) == Fixed(10)


def test_a_class_inside_itself_is_pinned() -> None:
    orders = Orders()
    a = orders.fresh(8)
    orders.equate(a, Nested((a, Fixed(1))))
    assert isinstance(orders.resolve(a), Free)
    b, c = orders.fresh(4), orders.fresh(4)
    orders.equate(Joined((b, c)), Joined((c, b)))
    assert orders.resolve(b) == orders.resolve(c)


def test_sizes_must_agree() -> None:
    orders = Orders()
    with pytest.raises(InternalError):
        orders.equate(orders.fresh(3), orders.fresh(4))


def _random_term(orders: Orders, size: int, rng: np.random.Generator, depth: int = 3) -> Term:
    kind = rng.integers(0, 4) if depth and size > 3 else rng.integers(0, 2)
    if kind == 0 and rng.integers(0, 3) == 0:
        return Fixed(size)
    if kind == 2:
        at = int(rng.integers(1, size))
        parts = (_random_term(orders, n, rng, depth - 1) for n in (at, size - at))
        return Joined(tuple(parts))
    divisors = [d for d in range(2, size) if size % d == 0]
    if kind == 3 and divisors:
        d = int(rng.choice(divisors))
        factors = (_random_term(orders, n, rng, depth - 1) for n in (d, size // d))
        return Nested(tuple(factors))
    return orders.fresh(size)


@pytest.mark.parametrize("seed", range(60))
def test_equated_axes_get_one_permutation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    orders = Orders()
    size = int(rng.choice([6, 12, 24, 30]))
    terms = [_random_term(orders, size, rng) for _ in range(4)]
    for a, b in itertools.pairwise(terms):
        orders.equate(a, b)
    drawn = {c: rng.permutation(c.size) for t in terms for c in orders.classes(t)}
    found = [orders.order(t, drawn.__getitem__) for t in terms]
    assert sorted(found[0].tolist()) == list(range(size))
    assert all(np.array_equal(f, found[0]) for f in found)


def test_permutations_are_reproducible_and_separate() -> None:
    first = permutation(KEY, "channels/0", 64)
    assert np.array_equal(first, permutation(KEY, "channels/0", 64))
    assert not np.array_equal(first, permutation(KEY, "channels/1", 64))
    assert not np.array_equal(first, permutation(bytes(32), "channels/0", 64))
    assert sorted(first.tolist()) == list(range(64))


def test_the_generator_is_the_stated_one() -> None:
    """Computed apart: HMAC blocks, big-endian words, rejection, Fisher-Yates from the end."""
    import hashlib
    import hmac

    data = b"".join(
        hmac.new(KEY, b"channels/7\0" + i.to_bytes(4, "big"), hashlib.sha256).digest()
        for i in range(4)
    )
    numbers = iter(np.frombuffer(data, ">u4").tolist())
    want = list(range(10))
    for j in range(9, 0, -1):
        number = next(numbers)
        while number >= 2**32 - 2**32 % (j + 1):
            number = next(numbers)
        r = number % (j + 1)
        want[j], want[r] = want[r], want[j]
    assert permutation(KEY, "channels/7", 10).tolist() == want


def test_permutations_are_unbiased() -> None:
    """All 24 orders of four elements, 4800 draws: chi-squared below the 0.1 % point (49.7)."""
    counts = Counter(tuple(permutation(KEY, f"draw/{i}", 4).tolist()) for i in range(4800))
    assert len(counts) == 24
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 49.7
