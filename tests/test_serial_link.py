"""The serial link against a board that is a process: every fault ends in the right bytes."""

from __future__ import annotations

import random
import select
import subprocess
from pathlib import Path

import pytest

from tinsmith import paths
from tinsmith.errors import InternalError
from tinsmith.serial_link import link as link_module
from tinsmith.serial_link.files import RemoteFiles
from tinsmith.serial_link.frames import Frame, Kind, encode_frame
from tinsmith.serial_link.line import NoAnswer, SerialPort, with_uart
from tinsmith.serial_link.link import Link, SessionLost, WrongFirmware
from tinsmith.serial_link.session import Statistics, serve

from .host_c import DRIVER, SANITIZE, WARNINGS
from .serial_proxy import Faults

IDENTITY = b"the echo of the test"
DATA = bytes(random.Random(5).randrange(256) for _ in range(1500))
ANSWER = bytes(b ^ 0x5A for b in DATA)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "ts_board.h").write_text('#define TS_LINK_NAME "echo"\n')
    serial = paths.RUNTIME_C / "serial"
    sources = [DRIVER / "serial_echo.c", *(serial / f"{n}.c" for n in ("ts_frame", "ts_link"))]
    command = ["gcc", "-std=c11", "-O1", *WARNINGS, *SANITIZE, f"-I{folder}", f"-I{serial}"]
    command += [f"-I{paths.RUNTIME_C / 'include'}", f"-I{paths.RUNTIME_C / 'harness'}"]
    command += [*sources, serial / "remote_files.c", serial / "files.c", "-o", folder / "echo"]
    subprocess.run(command, check=True)
    return folder / "echo"


class Bench:
    """A board on a line with faults. resets: after so many bytes from it, it starts again."""

    baud = 0

    def __init__(self, program: Path, faults: Faults, seed: int = 1, resets: tuple = ()) -> None:
        self._program, self._faults = program, faults
        self._rng = random.Random(seed)
        self._resets = list(resets)
        self._moved = 0
        self._boot()

    def _boot(self) -> None:
        pipe = subprocess.PIPE
        self._child = subprocess.Popen([self._program], stdin=pipe, stdout=pipe, bufsize=0)

    def write(self, data: bytes) -> None:
        self._child.stdin.write(self._faults.spoil(data, self._rng))

    def read(self, seconds: float) -> bytes:
        if not select.select([self._child.stdout], [], [], seconds)[0]:
            return b""
        data = self._child.stdout.read(64)
        self._moved += len(data)
        if self._resets and self._moved > self._resets[0]:
            del self._resets[0]
            self.close()
            self._boot()
            return b""
        return self._faults.spoil(data, self._rng)

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        self._child.stdin.close()
        self._child.stdout.close()


@pytest.fixture
def bench(echo: Path):
    made: list[Bench] = []

    def make(faults: Faults | None = None, **how) -> Bench:
        made.append(Bench(echo, faults or Faults(), **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _serve(line: Bench, data: bytes = DATA, flash: Path | None = None) -> tuple[bytes, Statistics]:
    files = RemoteFiles({"samples.bin": data}, ("outputs.bin",), flash)
    found = Statistics()
    assert serve(line, {IDENTITY: Path("echo")}, files, statistics=found, stall_seconds=20) == 0
    return bytes(files.written["outputs.bin"]), found


FAULTS = {
    "none": Faults(),
    "corrupted": Faults(corrupted=0.01),
    "dropped": Faults(dropped=0.01),
    "duplicated": Faults(duplicated=0.01),
    "truncated": Faults(truncated=0.005),
    "all": Faults(0.005, 0.003, 0.003, 0.002),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_the_right_bytes_come_through(bench, kind: str, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    flash.write_bytes(b"\xff" * 12)
    got, found = _serve(bench(FAULTS[kind]), flash=flash)
    assert got == ANSWER
    assert flash.read_bytes() == b"\xff\xff\xffmark" + b"\xff" * 5
    assert (found.traffic.damaged > 0) == (kind != "none")
    assert found.payload_bytes == 2 * len(DATA) + 2 * 12  # the flash as one block


def test_an_empty_file(bench) -> None:
    assert _serve(bench(), b"")[0] == b""


def test_a_reset_in_mid_transfer_is_noticed(bench) -> None:
    """Never a result that is half of one boot and half of the next."""
    for at in (60, 200, 900, 1700):
        line = bench(resets=(at,))
        with pytest.raises(SessionLost):
            _serve(line)
        assert _serve(line)[0] == ANSWER  # and the board serves the next session


def test_a_host_that_was_interrupted_can_begin_again(bench) -> None:
    line = bench()
    first = Link(line)
    first.begin({IDENTITY: Path("echo")})
    assert first.exchange(b"\x40\0")[:1] == b"O"
    assert _serve(line)[0] == ANSWER
    with pytest.raises(SessionLost):
        first.exchange(b"\x40\0\0")  # the session of the first is over


def test_a_frame_of_another_session_is_refused(bench) -> None:
    line = bench()
    link = Link(line)
    link.begin({IDENTITY: Path("echo")})
    line.write(encode_frame(Frame(Kind.DATA, link._session ^ 1, 1, b"\x40\0")))
    assert link.exchange(b"\x40\0")[:1] == b"O"  # as if the stranger had not spoken


def test_wrong_firmware_is_refused(bench) -> None:
    with pytest.raises(WrongFirmware, match=r"'echo', build 746865206563") as caught:
        Link(bench()).begin({b"another build".ljust(20): Path("build/firmware.elf")})
    assert "flash build/firmware.elf" in caught.value.render()


def test_another_version_is_refused(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "VERSION", 2)
    with pytest.raises(WrongFirmware, match="speaks version 1 of the serial link"):
        Link(bench()).begin({IDENTITY: Path("echo")})


def test_silence_ends_in_an_error(bench) -> None:
    line = bench(Faults(dropped=1.0))
    with pytest.raises(NoAnswer, match=r"did not answer within 0\.4 seconds"):
        Link(line).begin({IDENTITY: Path("echo")}, seconds=0.4)
    line = bench()
    link = Link(line, stall_seconds=0.3)
    link.begin({IDENTITY: Path("echo")})
    line._faults = Faults(dropped=1.0)
    with pytest.raises(NoAnswer, match=r"said nothing for 0\.3 seconds"):
        link.exchange(b"\x40\0")


def test_a_port_that_is_not_there() -> None:
    with pytest.raises(NoAnswer, match="cannot open the port /dev/no-such-port"):
        SerialPort("/dev/no-such-port", 115_200)
    with pytest.raises(NoAnswer, match="cannot open the port nonsense://"):
        SerialPort("nonsense://", 115_200)


@pytest.mark.parametrize(
    "call", [b"Q", b"R\0", b"R\7\1\0\0\0", b"W\0\5\0ab", b"O", b"Or\xff\xfe", b"X\0"]
)
def test_nonsense_from_the_firmware_is_an_error(call: bytes) -> None:
    files = RemoteFiles({"samples.bin": b"x"}, ())
    assert files.carry_out(b"Orsamples.bin", 100) == b"\0"
    with pytest.raises(InternalError, match="made a call"):
        files.carry_out(call, 100)


def test_files_that_nobody_offered_stay_shut() -> None:
    files = RemoteFiles({"samples.bin": b"x"}, ("outputs.bin",))
    for call in (b"Or/etc/passwd", b"Owsamples.bin", b"Or../samples.bin", b"Ouflash.bin"):
        assert files.carry_out(call, 100) == b""


def test_a_damaged_whole_is_not_taken() -> None:
    """Were a damaged frame ever to look whole, the check over all bytes would show it."""
    files = RemoteFiles({"samples.bin": b"x"}, ())
    with pytest.raises(SessionLost):
        files.carry_out(b"X" + bytes(4) + b"\1\2\3\4" + bytes(4), 100)
    assert files.status is None


def test_an_emulator_without_a_uart_is_an_error() -> None:
    with pytest.raises(Exception, match="no serial port here"):
        with_uart(["qemu-system-arm", "-M", "x"], 3)
