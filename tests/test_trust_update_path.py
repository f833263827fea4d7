"""Stores and deltas of protected models: the device's own are taken, any other is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tinsmith.cli import app
from tinsmith.codegen.project import SECURE_FOLDER
from tinsmith.errors import BadInput, CompileError, NotAuthentic
from tinsmith.runner.execute import PowerCut
from tinsmith.runner.export import export_learnt
from tinsmith.runner.learnt import boot
from tinsmith.runner.protocol import Command, Sample
from tinsmith.runner.store import CUT_AFTER, CUT_BEFORE, CUT_DURING
from tinsmith.runner.training import open_training
from tinsmith.toolchain import secure_image
from tinsmith.train.scheme import Scheme, Update
from tinsmith.trust import keys
from tinsmith.trust.manifest import SECURE_IMAGE, read_manifest
from tinsmith.trust.project import protect_project
from tinsmith.trust.updates import STATE, authorize_delta, tag_of

from .test_trust_secrets import files, spellings
from .test_trust_updates import SECURE
from .trust_pair import edit_source
from .trust_updates import (
    BOARD,
    HEADER,
    HOST,
    NO_DELTA,
    NOT_AUTHENTIC,
    TAG,
    Owner,
    applied,
    commit,
    flipped,
    forge,
    in_one_boot,
    learnt,
    made,
    moved,
    newer,
    same,
    slots,
    started,
    whole,
)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return made(tmp_path_factory.mktemp("owner"), BOARD)


def test_what_a_device_committed_it_takes_back(owner: Owner) -> None:
    """Over several starts; with the tag that the root secret gives, and no other."""
    training = owner.training
    states = [moved(training, by) for by in (1, 2, 3)]
    store = commit(training, *states)
    status, counter, state = started(store)
    assert (status, counter, same(state, states[-1])) == (0, 3, True)
    at, data = slots(store)[3], store.flash.read_bytes()
    length = training.block.stored_bytes
    block = data[at + HEADER : at + HEADER + length]
    tag = data[at + HEADER + whole(length) :][:TAG]
    root, model = keys.read_secret(owner.secret), _model(owner.folder)
    key = keys.device_key(root, model, "d1", keys.UPDATES)
    assert tag == tag_of(key, training.base_hash, STATE, 3, block, 0)


def _model(folder: Path) -> str:
    return read_manifest(folder).model_hash


def test_a_changed_slot_is_refused_and_the_older_one_used(owner: Owner) -> None:
    """A weight, the tag, the counter, the last delta's sequence; each with right check sums."""
    training = owner.training
    states = [moved(training, by) for by in (1, 2)]
    tag_at = HEADER + whole(training.block.stored_bytes)
    changes = {
        "a weight": flipped(HEADER + 7),
        "the last weight": flipped(HEADER + training.block.stored_bytes - 1),
        "the tag": flipped(tag_at + 4),
        "the tag's end": flipped(tag_at + TAG - 1),
        "the sequence": flipped(tag_at),
        "the counter": newer,
    }
    for name, change in changes.items():
        store = commit(training, *states)
        forge(store, 2, change)
        status, counter, state = started(store)
        assert (status, counter, same(state, states[0])) == (NOT_AUTHENTIC, 1, True), name
    # and what is committed then is in force again
    assert store.commit(states[1]).counter == 10
    assert started(store)[:2] == (0, 10)


def test_without_an_authentic_slot_the_state_is_that_of_compile_time(
    owner: Owner, tmp_path: Path
) -> None:
    training = owner.training
    store = commit(training, moved(training, 1), moved(training, 2))
    for counter in (1, 2):
        forge(store, counter, flipped(HEADER))
    status, counter, state = started(store)
    assert (status, counter, same(state, moved(training, 0))) == (NOT_AUTHENTIC, 0, True)
    with pytest.raises(NotAuthentic, match="refused, and the device uses what was compiled"):
        store.load()
    with pytest.raises(NotAuthentic):
        boot(owner.folder)
    forge(store, 2, flipped(HEADER))  # as it was
    forge(store, 2, newer)
    forge(store, 1, flipped(HEADER))
    with pytest.raises(NotAuthentic, match="the device uses commit 1"):
        store.load()


def test_power_may_fail_in_a_commit(owner: Owner) -> None:
    """Around the tag and the last words, before, in the middle of and after an operation: the old
    state or the new one, both authentic."""
    training = owner.training
    states = [moved(training, by) for by in (1, 2)]
    operations = commit(training, states[0]).commit(states[1]).operations
    seen: set[int] = set()
    for operation in (1, 3, operations // 2, *range(operations - 8, operations + 1)):
        for place in (CUT_BEFORE, CUT_DURING, CUT_AFTER)[operation % 2 :]:
            store = commit(training, states[0])
            with pytest.raises(PowerCut):
                store.commit(states[1], (operation, place))
            status, counter, state = started(store)
            assert (status, same(state, states[counter - 1])) == (0, True), operation
            seen.add(counter)
    assert seen == {1, 2}


def test_the_slot_of_another_device_is_refused(owner: Owner) -> None:
    """The other's as it is, and as somebody relabels it for this one."""
    training, other = owner.training, open_training(owner.other)
    foreign = commit(other, moved(other, 2))
    store = commit(training, moved(training, 1))
    own = store.flash.read_bytes()
    store.flash.write_bytes(foreign.flash.read_bytes())
    assert started(store)[0] == 18  # TS_STORE_FOREIGN: other orders of channels, another hash

    def relabelled(slot: bytearray) -> None:
        slot[8:40] = training.base_hash

    forge(store, 1, relabelled)
    status, counter, state = started(store)
    assert (status, counter, same(state, moved(training, 0))) == (NOT_AUTHENTIC, 0, True)
    store.flash.write_bytes(own)
    assert started(store)[:2] == (0, 1)


def test_only_an_authorised_delta_is_applied(owner: Owner, tmp_path: Path) -> None:
    training = owner.training
    store = commit(training)
    plain = learnt(training, 3)

    def authorised(number: int, device: str = "d1") -> bytes:
        folder = {"d1": owner.folder, "d2": owner.other}[device]
        given = plain if device == "d1" else learnt(open_training(owner.other), 3)
        return authorize_delta(folder, given, secret=owner.secret, device=device, sequence=number)

    first, later = authorised(3), authorised(5)
    state, _ = store.apply_delta(first, moved(training, 0))
    assert same(state, moved(training, 3))
    keys.new_secret(tmp_path / "other.key")
    stranger = authorize_delta(
        owner.folder, plain, secret=tmp_path / "other.key", device="d1", sequence=3
    )
    bad = {
        "without a tag": plain,
        "of another owner": stranger,
        "of another device": authorised(3, "d2"),
        "a weight": _flip(first, 70),
        "the tag": _flip(first, len(first) - 1),
        "the sequence": _flip(first, len(first) - TAG),
        "cut short": first[:-1],
        "only a tag": first[-TAG:],
    }
    for name, delta in bad.items():
        with pytest.raises(BadInput, match="not authorised for this device"):
            store.apply_delta(delta, moved(training, 0))
        assert name
    asks = [applied(training, d) for d in (first, first, later, first, later)]
    assert in_one_boot(training, asks) == [0, NO_DELTA, 0, NO_DELTA, NO_DELTA]


def test_a_delta_of_what_the_secure_image_has_learnt(tmp_path: Path) -> None:
    """`tinsmith train` writes what the device itself would; its owner authorises it."""
    scheme = Scheme(update=(Update(node="*", bias=True, weights=0.5),))
    owner = made(tmp_path, HOST, "digits_resnet", scheme)
    training = owner.training
    state = moved(training, 2)
    store = commit(training)
    written = export_learnt(training, state, 0)["delta"].read_bytes()
    assert written == store.export_delta(state)
    delta = authorize_delta(owner.folder, written, secret=owner.secret, device="d1", sequence=1)
    assert same(store.apply_delta(delta, moved(training, 0))[0], state)


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_delta_is_not_taken_again_after_the_next_start(owner: Owner) -> None:
    """The commit that holds what it gave also says that it was taken."""
    training = owner.training
    store = commit(training)
    delta = authorize_delta(
        owner.folder, learnt(training, 3), secret=owner.secret, device="d1", sequence=7
    )
    power = Sample((np.zeros(2, np.uint32),), command=Command.COMMIT)
    back = Sample((), command=Command.ROLLBACK)
    assert in_one_boot(training, [applied(training, delta), power]) == [0, 0]
    assert in_one_boot(training, [back, applied(training, delta)]) == [0, NO_DELTA]
    store.erase()  # what nobody can notice who has no memory of his own
    assert in_one_boot(training, [applied(training, delta)]) == [0]


def test_an_old_commit_is_taken_in_the_next_boot(owner: Owner, tmp_path: Path) -> None:
    """What is claimed is no more: the secure world remembers nothing over a reset."""
    training = owner.training
    store = commit(training, moved(training, 1))
    old = tmp_path / "old.bin"
    shutil.copy(store.flash, old)
    for by in (2, 3):
        store.commit(moved(training, by))
    shutil.copy(old, store.flash)
    assert started(store)[:2] == (0, 1)


def unchecked(sources: Path) -> None:
    """A secure image whose comparison of codes is compiled out, in both forms."""
    edits = {
        "bad |= ts_macs_differ(code, job->tag + 4);": "(void)code;",
        "good += same == TS_MAC_BYTES;": "good += same <= TS_MAC_BYTES;",
    }
    edit_source(sources / "update.c", edits)


def test_control_without_the_check_a_forged_slot_is_taken(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(SECURE, sources)
    unchecked(sources)
    monkeypatch.setattr(secure_image, "_SOURCES", sources)
    out = tmp_path / "d1"
    plain = owner.folder.parent / "plain"
    protect_project(plain, out, secret=owner.secret, device="d1", pictures=False)
    training = open_training(out)
    store = commit(training, moved(training, 1), moved(training, 2))
    forge(store, 2, flipped(HEADER + 7))
    status, counter, state = started(store)
    assert (status, counter) == (0, 2)
    assert not same(state, moved(training, 2))


def test_the_key_of_updates_is_in_the_secure_image_alone(owner: Owner) -> None:
    root = keys.read_secret(owner.secret)
    key = keys.device_key(root, _model(owner.folder), "d1", keys.UPDATES)
    assert key in (owner.folder / SECURE_IMAGE).read_bytes()
    for path, data in files(owner.folder):
        if SECURE_FOLDER not in path.relative_to(owner.folder).parts and path.name != "secure.elf":
            assert not any(spelling in data for spelling in spellings(key)), path


def test_the_host_does_what_the_board_does(tmp_path: Path) -> None:
    """Through the command line."""
    owner = made(tmp_path, HOST)
    training = owner.training
    store = commit(training, moved(training, 1), moved(training, 2))
    forge(store, 2, flipped(HEADER + 7))
    assert started(store)[:2] == (NOT_AUTHENTIC, 1)
    delta, out = tmp_path / "learnt.delta", tmp_path / "update.delta"
    delta.write_bytes(learnt(training, 3))
    asked = ["authorize", owner.folder, "--delta", delta, "--secret", owner.secret]
    asked += ["--device", "d1", "--sequence", 1, "-o", out]
    done = CliRunner().invoke(app, [str(a) for a in asked])
    assert done.exit_code == 0, done.output
    asks = [applied(training, out.read_bytes()), applied(training, out.read_bytes())]
    assert in_one_boot(training, asks) == [0, NO_DELTA]
    for device, number, data, text in (
        ("d2", 1, delta.read_bytes(), "is of the device 'd1'"),
        ("d1", 0, delta.read_bytes(), "a sequence of 0"),
        ("d1", 1, learnt(open_training(owner.other), 3), "is for model"),
        ("d1", 1, b"no delta", "damaged"),
    ):
        with pytest.raises(CompileError, match=text):
            authorize_delta(owner.folder, data, secret=owner.secret, device=device, sequence=number)
