"""Projects for a GPU that learn, run whole on an emulated driver: the bits of `run_step`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.project import read_graph
from tinsmith.errors import CompileError, MissingTool
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Value
from tinsmith.ir.interpret import run
from tinsmith.runner.compare import verify
from tinsmith.runner.execute import run_sequence
from tinsmith.runner.project import device_samples
from tinsmith.runner.protocol import Sample
from tinsmith.runner.store import DeviceStore
from tinsmith.runner.training import open_training, train_project
from tinsmith.toolchain import nvcc
from tinsmith.train.scheme import Scheme, Update

pytest.importorskip("tvm", reason="these boards need TVM: pip install 'tinsmith[tvm]'")

from .cuda_emulation import emulated, make_driver
from .test_training_c import DSCNN, RESNET, Net, agree, label, oracle

STEPS = 12
AUTOENCODER = Net(
    "digits_autoencoder", Scheme(loss="mse", update=(Update(last=3, bias=True, weights=1.0),))
)


def _has_nvcc() -> bool:
    try:
        nvcc.find_nvcc()
    except MissingTool:
        return False
    return True


needs_nvcc = pytest.mark.skipif(not _has_nvcc(), reason="nvcc is not installed")


@contextmanager
def _gpu(folder: Path, **settings: str) -> Generator[None]:
    driver = folder / "emulated"
    if not driver.is_dir():
        make_driver(next(folder.glob("*_kernels.cu")).read_text(), driver)
    with emulated(driver, **settings):
        yield


@pytest.fixture(scope="module")
def dscnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "dscnn"
    DSCNN.compile(folder, "cuda-sm90")
    return folder


@needs_nvcc
def test_steps_are_bit_exact(dscnn: Path) -> None:
    """Recorded as a graph and launched one by one, threads forward and backward."""
    for settings in ({}, {"graphs": "0"}, {"order": "backward"}):
        with _gpu(dscnn, **settings):
            agree(dscnn, DSCNN, STEPS)


@needs_nvcc
def test_a_store_keeps_what_it_learnt(dscnn: Path) -> None:
    """Another start of the program finds it; a delta of random changes, the largest, fits too."""
    training, rng = open_training(dscnn), np.random.default_rng(3)
    state = {
        v: rng.integers(-120, 120, v.type.shape).astype(v.type.dtype.numpy)
        for v in training.graph.state
    }
    store = DeviceStore(training)
    start = {v: training.graph.initializers[v] for v in training.graph.state}
    with _gpu(dscnn):
        assert store.commit(state).counter == 1
        found, counter = store.load()
        delta = store.export_delta(state)
        patched, _ = store.apply_delta(delta, start)
    assert counter == 1
    for value, array in state.items():
        np.testing.assert_array_equal(found[value], array)
        np.testing.assert_array_equal(patched[value], array)


@needs_nvcc
def test_without_a_driver(dscnn: Path) -> None:
    """A device that is not there is said to be so, by steps and by the store."""
    training = open_training(dscnn)
    samples, labels = DSCNN.samples(1)
    rows = device_samples(training.project.graph, samples)
    with _gpu(dscnn, devices="0"):
        with pytest.raises(MissingTool, match="finds no GPU"):
            train_project(training, rows, labels.reshape(-1, 1), 0.01)
        with pytest.raises(MissingTool, match="finds no GPU"):
            DeviceStore(training).load()


@needs_nvcc
@pytest.mark.parametrize("net", [RESNET, AUTOENCODER], ids=label)
def test_other_networks_learn_the_same(net: Net, tmp_path: Path) -> None:
    net.compile(tmp_path, "cuda-sm80")
    with _gpu(tmp_path, capability="8.0"):
        agree(tmp_path, net, 4)


@needs_nvcc
def test_the_model_runs_with_what_it_learnt(dscnn: Path) -> None:
    """And before its first step as it was compiled."""
    training = open_training(dscnn)
    samples, labels = DSCNN.samples(4)
    rows = device_samples(training.project.graph, samples)
    given, rates = labels.reshape(-1, 1), np.full(4, 0.01, np.float32)
    learn, learn_types = training.steps(rows, given, rates)
    ask = [Sample((row,)) for row in rows[0]]
    outputs = [v.type for v in training.project.graph.outputs]
    with _gpu(dscnn):
        verify(dscnn).check()
        types = [*learn_types, *[outputs] * 4]
        results = run_sequence(
            training.project.elf(), training.project.board, types, [*learn, *ask]
        )
    start = {v: training.graph.initializers[v] for v in training.graph.state}
    _, after = oracle(training.graph, rows, given, rates, start)
    for got, row in zip(results[-4:], rows[0], strict=True):
        np.testing.assert_array_equal(got.outputs[0], _answer(dscnn, after, row))


def _answer(folder: Path, state: Mapping[Value, Array], row: Array) -> Array:
    graph = read_graph(folder)
    known = {v: a for v, a in state.items() if v in graph.initializers}
    assert known
    return run(replace(graph, initializers={**graph.initializers, **known}), [row])[0]


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(rule="stochastic", update=DSCNN.scheme.update),
        Scheme(gradients="float32", update=DSCNN.scheme.update),
        Scheme(momentum=0.9, update=DSCNN.scheme.update),
    ],
    ids=["stochastic", "float32", "momentum"],
)
def test_what_has_no_rule_is_refused(scheme: Scheme, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="kernel for this scheme") as caught:
        replace(DSCNN, scheme=scheme).compile(tmp_path, "cuda-sm80")
    assert "residual8" in str(caught.value)
