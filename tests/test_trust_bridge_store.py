"""What a layer in the secure image has learnt lasts as all the rest does: whole, or as it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Value
from tinsmith.runner.compare import verify
from tinsmith.runner.execute import PowerCut
from tinsmith.runner.learn import Settings, learn
from tinsmith.runner.store import CUT_AFTER, CUT_BEFORE, CUT_DURING, DeviceStore
from tinsmith.runner.training import open_training
from tinsmith.train.scheme import Scheme, Update
from tinsmith.trust.project import Protection

from .own_models import compile_own


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learns in both images: around the cut, and the layer at it."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    scheme = Scheme(update=(Update(node="*blocks.1.*", bias=True, weights=1.0),))
    trust = Protection("withhold", "blocks.1.pointwise_relu6.q")
    return compile_own("digits_dscnn", folder, "host", train=scheme, trust=trust).folder


def test_it_learns_keeps_and_answers_as_the_simulator(project: Path, tmp_path: Path) -> None:
    data = np.load(paths.GRAPHS / "digits_dscnn" / "samples.npz")
    np.savez(tmp_path / "data.npz", x=data["x"][:40], y=data["label"][:40])
    copy = tmp_path / "simulated"
    shutil.copytree(project, copy)
    settings = Settings(epochs=1, rate=0.01)
    learnt = learn(project, tmp_path / "data.npz", settings)
    same = learn(copy, tmp_path / "data.npz", replace(settings, simulate=True))
    assert learnt.history.losses == same.history.losses
    training = learnt.training
    assert training.secured is not None
    secret = [training.graph.state[i] for i in training.secured.numbers]
    assert len(secret) == 3  # weights, what rounding left, biases
    assert all(np.array_equal(learnt.state[v], a) for v, a in same.state.items())
    assert any(not np.array_equal(learnt.state[v], training.graph.initializers[v]) for v in secret)
    assert verify(project).ok
    held = (project / "flash.bin").read_bytes()
    assert not any(learnt.state[v].tobytes()[:64] in held for v in secret)
    DeviceStore(training).erase()


def test_power_may_fail_in_any_operation_of_a_commit(project: Path) -> None:
    training = open_training(project)
    store = DeviceStore(training)
    rng = np.random.default_rng(4)
    states: list[dict[Value, Array]] = []
    for _ in range(2):
        drawn = {v: rng.integers(-9, 9, v.type.shape) for v in training.graph.state}
        states.append({v: a.astype(v.type.dtype.numpy) for v, a in drawn.items()})
    old, new = states
    operations = store.commit(old).operations
    found: set[int] = set()
    for at in (1, operations // 2, operations - 1, operations):
        for place in (CUT_BEFORE, CUT_DURING, CUT_AFTER):
            store.erase()
            store.commit(old)
            with pytest.raises(PowerCut):
                store.commit(new, (at, place))
            held, counter = store.load()
            state = states[counter - 1]
            assert all(np.array_equal(held[v], state[v]) for v in state)
            found.add(counter)
    assert found == {1, 2}
    store.erase()
