"""Deltas of a learnt state: the same bytes from C and from Python, and every refusal."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinsmith import paths
from tinsmith.errors import BadInput
from tinsmith.train.delta import _differences, decode_delta, encode_delta

from .host_c import DRIVER, SANITIZE, WARNINGS

HASH = bytes(range(32))
OTHER = bytes(31) + b"\1"
HEADER, CRC = 56, 4
EXPORT, APPLY = 0, 1
OK, DAMAGED, FOREIGN, TOO_SMALL = 0, 20, 21, 22


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exe = tmp_path_factory.mktemp("delta") / "delta_test"
    argv = ["gcc", "-std=c11", "-O1", *WARNINGS, *SANITIZE, f"-I{paths.RUNTIME_C / 'include'}"]
    sources = [paths.RUNTIME_C / "src" / "ts_delta.c", DRIVER / "delta_test.c"]
    subprocess.run([*argv, *sources, "-o", exe], check=True)
    return exe


class Device:
    """Collects requests for one run of the C program."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.requests: list[bytes] = []

    def export(self, base: bytes, state: bytes, capacity: int, pieces: int = 3) -> None:
        head = struct.pack("<6I", EXPORT, len(base), pieces, 7, capacity, 0)
        self.requests.append(head + HASH + base + state)

    def apply(self, base: bytes, state: bytes, delta: bytes, hash_: bytes = HASH) -> None:
        head = struct.pack("<6I", APPLY, len(base), 2, 0, 0, len(delta))
        self.requests.append(head + hash_ + base + state + delta)

    def run(self) -> bytes:
        data = b"".join(self.requests)
        done = subprocess.run([self.program], input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return done.stdout

    def exported(self) -> list[tuple[int, bytes]]:
        data, at, found = self.run(), 0, []
        while at < len(data):
            status, size = struct.unpack_from("<II", data, at)
            found.append((status, data[at + 8 : at + 8 + size]))
            at += 8 + size
        return found

    def applied(self, length: int) -> list[tuple[int, int, bytes]]:
        """Status, counter and state after each request."""
        data = self.run()
        found = []
        for at in range(0, len(data), 8 + length):
            status, counter = struct.unpack_from("<II", data, at)
            found.append((status, counter, data[at + 8 : at + 8 + length]))
        assert len(found) == len(self.requests)
        return found


def _blocks(rng: np.random.Generator, length: int, kind: int) -> tuple[bytes, bytes]:
    """A base and a state whose differences are dense, sparse, small, or few and in runs."""
    base = rng.integers(0, 256, length, dtype=np.uint8)
    base[rng.random(length) < 0.3] = 0
    d = rng.integers(0, 256, length)
    if kind >= 1:
        d[rng.random(length) < 0.6] = 0
    if kind >= 2:
        d = rng.integers(-9, 9, length) * (rng.random(length) < 0.7)
    if kind == 3:
        d *= np.repeat(rng.random(length // 100 + 1) < 0.2, 100)[:length]
    return base.tobytes(), (base + d).astype(np.uint8).tobytes()


def _limit(length: int) -> int:
    return length + length // 64 + 64  # TS_DELTA_MAX_BYTES


def test_c_and_python_write_the_same_bytes_and_read_them_back(program: Path) -> None:
    rng = np.random.default_rng(1)
    lengths = [1, 2, 3, 63, 64, 65, 66, 129, 1000, 5000]
    cases = [_blocks(rng, n, kind) for n in lengths for kind in range(4)]
    cases += [(bytes(n), bytes(n)) for n in (1, 64, 65, 128, 16448, 16449, 40000)]
    device = Device(program)
    for i, (base, state) in enumerate(cases):
        device.export(base, state, _limit(len(base)), 1 + i % 4)
    for (base, state), (status, delta) in zip(cases, device.exported(), strict=True):
        assert status == OK
        assert delta == encode_delta(base, state, HASH, 7)
        assert len(delta) <= _limit(len(base))
        device = Device(program)
        device.apply(base, bytes(len(base)), delta)
        assert device.applied(len(base)) == [(OK, 7, state)]
        again = decode_delta(base, delta, HASH)
        assert (again.state, again.counter) == (state, 7)


# Differences as a network has them: long runs of nothing, small steps, and anything.
_RUNS = st.lists(
    st.one_of(
        st.tuples(st.just("0"), st.integers(1, 300)),
        st.tuples(st.just("nibble"), st.integers(1, 80)),
        st.tuples(st.just("byte"), st.integers(1, 80)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(runs=_RUNS, seed=st.integers(0, 2**32 - 1))
def test_runs_of_any_kind_round_trip(program: Path, runs: list[tuple[str, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranges = {"0": (0, 1), "nibble": (-8, 8), "byte": (0, 256)}
    d = np.concatenate([rng.integers(*ranges[kind], n) for kind, n in runs])
    base = rng.integers(0, 256, len(d), dtype=np.uint8)
    state = (base + d).astype(np.uint8).tobytes()
    device = Device(program)
    device.export(base.tobytes(), state, _limit(len(d)))
    ((status, delta),) = device.exported()
    assert (status, delta) == (OK, encode_delta(base.tobytes(), state, HASH, 7))
    assert decode_delta(base.tobytes(), delta, HASH).state == state


def test_small_steps_take_half_a_byte_and_what_stays_next_to_nothing() -> None:
    rng = np.random.default_rng(2)
    base = rng.integers(0, 256, 20000, dtype=np.uint8)
    small = (base + rng.integers(-8, 8, 20000)).astype(np.uint8)
    assert len(encode_delta(base.tobytes(), small.tobytes(), HASH, 0)) < 20000 * 0.53
    assert len(encode_delta(base.tobytes(), base.tobytes(), HASH, 0)) <= HEADER + CRC + 4
    other = rng.integers(0, 256, 20000, dtype=np.uint8)
    assert len(encode_delta(base.tobytes(), other.tobytes(), HASH, 0)) <= _limit(20000)


def test_a_buffer_that_is_too_small_is_refused(program: Path) -> None:
    base, state = _blocks(np.random.default_rng(3), 300, 0)
    whole = len(encode_delta(base, state, HASH, 7))
    device = Device(program)
    for capacity in (0, HEADER + CRC - 1, HEADER + CRC, whole - 1, whole):
        device.export(base, state, capacity)
    assert [s for s, _ in device.exported()] == [TOO_SMALL] * 4 + [OK]


def _sealed(delta: bytes) -> bytes:
    """With a check sum that fits, so that what is inside is looked at."""
    return delta[:-CRC] + struct.pack("<I", zlib.crc32(delta[:-CRC]))


def _replaced(delta: bytes, at: int, number: int) -> bytes:
    return _sealed(delta[:at] + struct.pack("<I", number) + delta[at + 4 :])


def test_a_delta_of_another_model_or_damaged_leaves_the_state(program: Path) -> None:
    base, state = _blocks(np.random.default_rng(4), 200, 2)
    now = bytes(reversed(base))
    delta = encode_delta(base, state, HASH, 7)
    body = delta[HEADER:-CRC]
    bad = {
        DAMAGED: [
            b"",
            delta[: HEADER + CRC - 1],
            delta[:-1],
            delta + b"\0",
            b"X" + delta[1:],
            _sealed(b"X" + delta[1:]),
            _replaced(delta, 48, len(body) + 1),
            _replaced(delta, 52, 0),
            _sealed(delta[:HEADER] + body + b"\0" + bytes(CRC)),
            _replaced(_sealed(delta[:HEADER] + body + b"\0" + bytes(CRC)), 48, len(body) + 1),
            _replaced(_sealed(delta[:HEADER] + body[:-1] + bytes(CRC)), 48, len(body) - 1),
            _replaced(_sealed(delta[:HEADER] + b"\xff\xff" + bytes(CRC)), 48, 2),
            _replaced(_sealed(delta[:HEADER] + b"\xff" + bytes(CRC)), 48, 1),
            _replaced(_sealed(delta[:HEADER] + b"\x7f" + bytes(CRC)), 48, 1),
            _replaced(_sealed(delta[:HEADER] + bytes(CRC)), 48, 0),
        ],
        FOREIGN: [_replaced(delta, 4, 2), _replaced(delta, 8, 9), _replaced(delta, 44, 201)],
    }
    device, wanted = Device(program), []
    for status, deltas in bad.items():
        for wrong in deltas:
            device.apply(base, now, wrong)
            wanted.append((status, 0, now))
            with pytest.raises(BadInput):
                decode_delta(base, wrong, HASH)
    device.apply(base, now, delta, OTHER)
    wanted.append((FOREIGN, 0, now))
    device.apply(base, now, delta)
    wanted.append((OK, 7, state))
    assert device.applied(200) == wanted
    with pytest.raises(BadInput, match="is for model 0001020304050607 with 200 bytes of state"):
        decode_delta(base, delta, OTHER)


def test_every_flipped_bit_is_noticed(program: Path) -> None:
    base, state = _blocks(np.random.default_rng(5), 60, 2)
    delta = encode_delta(base, state, HASH, 7)
    device = Device(program)
    for bit in range(8 * len(delta)):
        wrong = bytearray(delta)
        wrong[bit // 8] ^= 1 << bit % 8
        device.apply(base, state, bytes(wrong))
    assert {s for s, _, _ in device.applied(60)} == {DAMAGED}


def test_rubbish_with_good_check_sums_reads_and_writes_nothing_outside(program: Path) -> None:
    rng = np.random.default_rng(6)
    base, state = _blocks(rng, 150, 2)
    delta = encode_delta(base, state, HASH, 7)
    device, wanted = Device(program), []
    for i in range(3000):
        body = bytearray(delta[HEADER:-CRC])
        for _ in range(rng.integers(1, 4)):  # runs of other lengths, of other kinds, and anything
            at = int(rng.integers(len(body)))
            body[at] = int(rng.choice([body[at] ^ 1, body[at] ^ 0x40, rng.integers(256)]))
        if i % 2:
            del body[rng.integers(1, len(body) + 1) :]
        wrong = _replaced(delta[:HEADER] + bytes(body) + bytes(CRC), 48, len(body))
        differences = _differences(bytes(body), len(base))
        if differences is None:
            wanted.append((DAMAGED, base))
        else:
            after = (np.frombuffer(base, np.uint8) + differences).tobytes()
            wrong = _replaced(wrong, 52, zlib.crc32(after))
            wanted.append((OK, after))
            assert decode_delta(base, wrong, HASH).state == after
        device.apply(base, base, wrong)
    assert [(s, after) for s, _, after in device.applied(150)] == wanted
    assert 300 < sum(s == OK for s, _ in wanted) < 2700
