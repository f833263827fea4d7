"""The exact choice among options: against every choice there is, on random small instances."""

from __future__ import annotations

import itertools
import random

import pytest

from tinsmith.kernels import choose as module
from tinsmith.kernels.choose import Layers, Option, choose


def drawn(rng: random.Random) -> list[list[Option]]:
    functions = [(name, 10 * rng.randrange(1, 9)) for name in "abcde"]
    layers: list[list[Option]] = []
    for _ in range(rng.randrange(1, 7)):
        options = []
        for _ in range(rng.randrange(1, 5)):
            name, code = rng.choice([*functions, (None, 0)])
            cost = float(rng.randrange(1, 60))
            options.append(Option(cost, rng.randrange(0, 50), name, code))
        layers.append(options)
    return layers


def totals(layers: Layers, picks: tuple[int, ...]) -> tuple[float, int]:
    chosen = [layer[p] for layer, p in zip(layers, picks, strict=True)]
    code = {o.function: o.code_bytes for o in chosen if o.function}
    return sum(o.cost for o in chosen), sum(o.bytes for o in chosen) + sum(code.values())


@pytest.mark.parametrize("seed", range(150))
def test_no_choice_is_better(seed: int) -> None:
    rng = random.Random(seed)
    layers = drawn(rng)
    price = rng.choice([0.0, 0.0, 0.5, 3.0])
    every = [totals(layers, p) for p in itertools.product(*(range(len(o)) for o in layers))]
    sizes = sorted(size for _, size in every)
    for room in (None, sizes[0], sizes[len(sizes) // 4], sizes[-1], sizes[0] - 1):
        found = choose(layers, room, price)
        assert (found.cost, found.bytes) == totals(layers, found.picks)
        if room is not None and sizes[0] > room:
            assert found.status == "too large"
            assert found.bytes == sizes[0]
            continue
        least = min(c + price * b for c, b in every if room is None or b <= room)
        assert found.status == "optimal"
        assert room is None or found.bytes <= room
        assert found.cost + price * found.bytes == pytest.approx(least)


def test_large_instances_are_proved_and_alike() -> None:
    rng = random.Random(1)

    def option(layer: int, kernel: int) -> Option:
        shared = (layer % 20, kernel)
        return Option(rng.uniform(1e3, 1e6), rng.randrange(10, 60_000), shared, 700)

    layers = [[option(i, k) for k in range(5)] for i in range(90)]
    small = sum(min(o.bytes for o in layer) for layer in layers)
    found = choose(layers, 2 * small)
    assert found.status == "optimal"
    assert found.bytes <= 2 * small
    assert found == choose(layers, 2 * small)


def test_a_search_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    layers = [[Option(rng.random(), rng.randrange(1000)) for _ in range(6)] for _ in range(30)]
    room = 2 * sum(min(o.bytes for o in layer) for layer in layers)
    proved = choose(layers, room)
    monkeypatch.setattr(module, "MOST_PAIRS", 3)
    found = choose(layers, room)
    assert proved.status == "optimal"
    assert found.status == "bounded"
    assert found.bytes <= room
    assert proved.cost <= found.cost < 1.2 * proved.cost


def test_nothing_to_choose() -> None:
    assert choose([], 0).picks == ()
    assert choose([[Option(3.0, 5)]], 4).status == "too large"
