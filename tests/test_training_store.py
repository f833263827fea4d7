"""A compiled model keeps what it has learnt: its store, rollback and deltas, on a device."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.errors import BadInput, CompileError
from tinsmith.runner.execute import PowerCut
from tinsmith.runner.store import CUT_AFTER, CUT_BEFORE, CUT_DURING, DeviceStore
from tinsmith.runner.training import State, TrainingProject, open_training
from tinsmith.train.delta import decode_delta, encode_delta
from tinsmith.train.scheme import Scheme, Update

from .host_c import SANITIZE, compile_c
from .own_models import compile_own

MODEL = paths.GRAPHS / "digits_dscnn"
SCHEME = Scheme(update=(Update(last=2, bias=True, weights=0.25),))


def _compile(
    folder: Path, board: str, scheme: Scheme = SCHEME, name: str | None = None
) -> TrainingProject:
    compile_own("digits_dscnn", folder, board, train=scheme, name=name)
    return open_training(folder)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> TrainingProject:
    return _compile(tmp_path_factory.mktemp("host"), "host")


@pytest.fixture
def store(host: TrainingProject) -> DeviceStore:
    store = DeviceStore(host)
    store.erase()
    return store


def _state(training: TrainingProject, seed: int) -> State:
    """The compiled state with some bytes moved a little."""
    rng = np.random.default_rng(seed)
    packed = training.pack({v: training.graph.initializers[v] for v in training.graph.state})
    moved = np.unique(rng.choice(len(packed), len(packed) // 3))
    for at in moved:
        packed[at] = (int(packed[at]) + int(rng.integers(-3, 4))) % 256
    return training.unpack(packed)


def _same(a: State, b: State) -> bool:
    return all(np.array_equal(a[v], b[v]) for v in b)


def _start(training: TrainingProject) -> State:
    return {v: training.graph.initializers[v] for v in training.graph.state}


def test_what_is_committed_is_there_after_a_restart(store: DeviceStore) -> None:
    state, counter = store.load()
    assert counter == 0
    assert _same(state, _start(store.training))
    for number in (1, 2, 3):
        assert store.commit(_state(store.training, number)).counter == number
        state, counter = store.load()
        assert counter == number
        assert _same(state, _state(store.training, number))


@pytest.mark.parametrize("board", ["mps2-an385", "qemu-riscv32"])
def test_a_device_keeps_it_too(board: str, tmp_path: Path) -> None:
    training = _compile(tmp_path, board)
    store = DeviceStore(training)
    state = _state(training, 1)
    operations = store.commit(state).operations
    with pytest.raises(PowerCut):
        store.commit(_state(training, 2), (operations // 2, CUT_DURING))
    assert _same(store.load()[0], state)
    delta = store.export_delta(state)
    start = _start(training)
    assert delta == _encoded(training, state, counter=1)
    assert _same(store.apply_delta(delta, start)[0], state)


def test_power_cut_in_a_commit_leaves_the_old_or_the_new_state(store: DeviceStore) -> None:
    old, new = _state(store.training, 1), _state(store.training, 2)
    store.commit(old)
    first = store.flash.read_bytes()
    count = store.commit(new).operations
    found: list[int] = []
    for operation in {1, 2, 3, count // 2, *range(count - 2, count + 1)}:
        for place in (CUT_BEFORE, CUT_DURING, CUT_AFTER):
            store.flash.write_bytes(first)
            with pytest.raises(PowerCut):
                store.commit(new, (operation, place))
            state, counter = store.load()
            assert _same(state, {1: old, 2: new}[counter])
            found.append(counter)
            assert store.commit(new).counter > counter
    assert set(found) == {1, 2}


def _encoded(training: TrainingProject, state: State, counter: int) -> bytes:
    base = training.pack(_start(training)).tobytes()
    return encode_delta(base, training.pack(state).tobytes(), training.base_hash, counter)


def test_a_delta_goes_from_device_to_device(store: DeviceStore) -> None:
    training = store.training
    state, other = _state(training, 1), _state(training, 2)
    store.commit(state)
    delta = store.export_delta(state)
    assert delta == _encoded(training, state, counter=1)
    after, counter = store.apply_delta(delta, other)
    assert counter == 1
    assert _same(after, state)
    base = training.pack(_start(training)).tobytes()
    assert decode_delta(base, delta, training.base_hash).state == training.pack(state).tobytes()


def test_a_delta_that_is_refused_leaves_the_state(store: DeviceStore) -> None:
    state = _state(store.training, 1)
    delta = store.export_delta(state)
    foreign = encode_delta(bytes(100), bytes(100), bytes(32), 1)
    for wrong, why in ((delta[:-1], "damaged"), (foreign, "of another model"), (b"", "damaged")):
        with pytest.raises(BadInput, match=why) as error:
            store.apply_delta(wrong, state)
        assert error.value.expected is None  # the state was compared


def test_the_store_of_another_model_is_refused(store: DeviceStore, tmp_path: Path) -> None:
    store.commit(_state(store.training, 1))
    scheme = Scheme(update=(Update(last=2, bias=True, weights=0.25, select="first"),))
    other = DeviceStore(_compile(tmp_path, "host", scheme))
    assert other.training.base_hash != store.training.base_hash
    other.flash.write_bytes(store.flash.read_bytes())
    with pytest.raises(CompileError, match="another model has learnt"):
        other.load()
    with pytest.raises(CompileError, match="another model has learnt"):
        other.commit(_state(other.training, 1))
    other.erase()
    assert other.commit(_state(other.training, 1)).counter == 1


def test_every_board_has_the_same_base(host: TrainingProject, tmp_path: Path) -> None:
    assert _compile(tmp_path, "mps2-an386").base_hash == host.base_hash


def test_the_documented_program_compiles_and_learns(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "learning.md").read_text()
    (source,) = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "kws"
    _compile(folder, "host", name="kws")
    shutil.rmtree(folder / "harness")
    for name in ("nor_flash.c", "nor_flash.h"):
        shutil.copy(paths.RUNTIME_C / "harness" / name, folder)
    (folder / "main.c").write_text(source + _MAIN)
    done = subprocess.run([compile_c(folder, *SANITIZE)], check=False)
    assert done.returncode == 0


_MAIN = """
#include "nor_flash.h"

static uint8_t memory[65536];
static int8_t features[KWS_TRAIN_INPUT_0_BYTES];
static uint32_t learnt[KWS_STATE_BYTES / 4];

int main(void)
{
    ts_nor nor = {.get = ts_nor_memory_get, .put = ts_nor_memory_put, .user = memory, .random = 1};
    ts_nor_init(&nor, sizeof memory, 2048, 8);
    memset(memory, 0xff, sizeof memory);
    if (start(&nor.flash, 0, sizeof memory) != 0 || learn(features, 3, 0.1f) != 0 || keep() != 0) {
        return 1;
    }
    memcpy(learnt, model.state, sizeof learnt);
    if (learn(features, 4, 0.1f) != 0 || learn(features, 10, 0.1f) != -1 ||
        learn(features, 4, -1.0f) != -1 || memcmp(learnt, model.state, sizeof learnt) == 0) {
        return 2;
    }
    if (start(&nor.flash, 0, sizeof memory) != 0) {
        return 3;
    }
    return memcmp(learnt, model.state, sizeof learnt) == 0 ? 0 : 4;
}
"""
