"""Random networks, every place, every mode: cut, locked, joined again, they compute the same."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.trust import cut
from tinsmith.trust.partition import join, partition

from .test_random_graphs import networks

KEY = bytes(range(32))


def test_every_legal_cut_of_random_networks() -> None:
    tried: list[str] = []

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(networks("random"), st.integers(0, 2**16))
    def check(graph: Graph, seed: int) -> None:
        rng = np.random.default_rng(seed)
        samples = [
            [rng.integers(-128, 128, v.type.shape).astype(np.int8) for v in graph.inputs]
            for _ in range(3)
        ]
        for place in cut.places(graph):
            for mode in cut.MODES:
                try:
                    parts = partition(graph, mode, KEY, cut=place.value.name)
                except cut.TrustError:
                    continue
                tried.append(mode)
                joined = join(parts)
                for sample in samples:
                    for got, want in zip(run(joined, sample), run(graph, sample), strict=True):
                        np.testing.assert_array_equal(got, want, err_msg=f"{mode} {place.value}")

    with mock.patch.object(cut, "MIN_CHANNELS", 2):
        check()
    assert min(tried.count(mode) for mode in cut.MODES) >= 20  # else the networks are too small
