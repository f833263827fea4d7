"""Frames of the serial link: Python and C agree, and damage never passes for a frame."""

from __future__ import annotations

import ctypes
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinsmith import paths
from tinsmith.serial_link.frames import OVERHEAD, Frame, FrameReader, Kind, encode_frame
from tinsmith.serial_link.payload_size import SHORTEST, PayloadSize

from .host_c import DRIVER, WARNINGS

MORE, DAMAGED = -2, -1
FRAMES = st.builds(
    Frame,
    st.sampled_from(Kind),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    # runs of zeros and of 254 others are where byte stuffing has its edges
    st.one_of(
        st.binary(max_size=600),
        st.integers(250, 258).map(lambda n: b"\x01" * n),
        st.integers(0, 20).map(lambda n: b"\0" * n),
        st.integers(245, 256).map(lambda n: b"\x01" * n + b"\0"),
    ),
)


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("frames") / "frames.so"
    serial, include = paths.RUNTIME_C / "serial", paths.RUNTIME_C / "include"
    command = ["gcc", "-std=c11", "-O1", "-shared", "-fPIC", *WARNINGS, f"-I{serial}"]
    command += [f"-I{include}", DRIVER / "serial_frame.c", serial / "ts_frame.c", "-o", library]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def _c_encode(library: ctypes.CDLL, frame: Frame) -> bytes:
    body = bytes([frame.kind]) + frame.session.to_bytes(2, "little")
    body += frame.number.to_bytes(2, "little") + frame.payload
    line = ctypes.create_string_buffer(4096)
    count = library.encode(body, len(frame.payload), line)
    return line.raw[:count]


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.data())
def test_a_frame_survives_any_cuts(frame: Frame, data: st.DataObject) -> None:
    line = b"noise" + encode_frame(frame)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=6)))
    reader, found = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        found += reader.feed(line[start:end])
    assert found == [None, frame]


@settings(max_examples=300, deadline=None)
@given(FRAMES, st.data())
def test_damage_is_never_a_frame(frame: Frame, data: st.DataObject) -> None:
    """A byte changed, lost or doubled: the frame itself comes out, or nothing does."""
    line = bytearray(encode_frame(frame))
    at = data.draw(st.integers(0, len(line) - 1))
    how = data.draw(st.sampled_from(["changed", "dropped", "doubled", "cut"]))
    if how == "changed":
        line[at] ^= data.draw(st.integers(1, 255))
    elif how == "dropped":
        del line[at]
    elif how == "doubled":
        line.insert(at, line[at])
    else:
        del line[at:]
    found = [f for f in FrameReader().feed(bytes(line) + b"\0") if f is not None]
    assert found in ([], [frame])
    if how == "changed" and 0 < at < len(line) - 1:
        assert found == []


@settings(max_examples=150, deadline=None)
@given(frame=FRAMES)
def test_c_sends_what_python_reads(in_c: ctypes.CDLL, frame: Frame) -> None:
    line = _c_encode(in_c, frame)
    assert list(FrameReader().feed(line)) == [frame]


@settings(max_examples=150, deadline=None)
@given(frame=FRAMES, data=st.data())
def test_c_reads_what_python_sends(in_c: ctypes.CDLL, frame: Frame, data: st.DataObject) -> None:
    line = bytearray(encode_frame(frame))
    into = ctypes.create_string_buffer(2048)
    assert in_c.decode(bytes(line), len(line), into, 2048) == len(frame.payload)
    assert into.raw[5 : 5 + len(frame.payload)] == frame.payload
    assert in_c.decode(bytes(line), len(line), into, len(frame.payload) + 8) == DAMAGED, "too long"
    at = data.draw(st.integers(1, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    assert in_c.decode(bytes(line), len(line), into, 2048) == DAMAGED


def test_a_reader_does_not_keep_endless_noise() -> None:
    reader = FrameReader()
    for _ in range(100):
        assert list(reader.feed(b"\x55" * 1000)) == []
    frame = Frame(Kind.POLL, 1, 2)
    assert list(reader.feed(encode_frame(frame))) == [None, frame]


@pytest.mark.parametrize(
    ("damage", "low", "high"), [(0.0, 256, 256), (0.01, 25, 60), (0.1, 16, 16)]
)
def test_payloads_fit_the_line(damage: float, low: int, high: int) -> None:
    """At 1 % of bytes damaged the best payload is some forty bytes; a clean line takes all."""
    size = PayloadSize(longest=256)
    for _ in range(300):
        wire = size.best + 2 * OVERHEAD
        size.count(wire, round(wire * damage, 2))  # type: ignore[arg-type]
    assert low <= size.best <= high
    assert size.best >= SHORTEST
