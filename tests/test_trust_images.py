"""The pair of images: its answers, what the gateway refuses, what is bound to what."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.project import write_project
from tinsmith.codegen.schedule import schedule
from tinsmith.errors import CompileError, DoesNotFit, InternalError
from tinsmith.ir.interpret import run
from tinsmith.machine import trust_zone
from tinsmith.machine.board import Board, load_board
from tinsmith.machine.trust_zone import load_trust_zone
from tinsmith.pass_manager import PassContext
from tinsmith.runner.execute import run_samples
from tinsmith.runner.protocol import Sample
from tinsmith.toolchain.image_record import image_record
from tinsmith.toolchain.secure_image import PairFirmware, build_pair, write_secure_harness
from tinsmith.trust.partition import partition

from .gdb_remote import debugged
from .int8_nets import residual_net
from .trust_pair import (
    ANSWERED,
    BOARDS,
    BYTES,
    CALL,
    DUMP,
    OK,
    REFUSED,
    WRITE,
    WRONG_IMAGE,
    Pair,
    build_probe,
    run_steps,
    set_bytes,
    set_request,
    symbols,
    two_gates,
)

KEY = bytes(range(32))


def protect(folder: Path, board: Board, mode: str, *, debug: bool = True) -> PairFirmware:
    """The pair of `residual_net` for a board."""
    divided = partition(residual_net(), mode, KEY)
    context = PassContext()
    nonsecure = schedule(divided.nonsecure, board, None, False, context)
    secure = [schedule(graph, board, None, False, context) for graph in divided.secure]
    expected = run(
        residual_net(), [np.zeros(v.type.shape, np.int8) for v in divided.nonsecure.inputs]
    )
    write_project(folder / "nonsecure", replace(nonsecure, expected=expected))
    for part in secure:
        write_project(folder / "secure" / part.graph.name, part)
    graphs = [part.graph for part in secure]
    return build_pair(folder, board, nonsecure.graph, graphs, quota=None, debug=debug)


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    @cache
    def build(board: str) -> Pair:
        return build_probe(tmp_path_factory.mktemp(board), board, quota=2)

    return build


@pytest.mark.parametrize(
    ("board", "mode", "debug"),
    [
        ("mps2-an505", "withhold", True),
        ("mps3-an547", "permute", False),
        ("mps2-an505", "coreguard-otp", True),
    ],
)
def test_the_pair_computes_what_the_model_does(
    board: str, mode: str, debug: bool, tmp_path: Path
) -> None:
    graph = residual_net()
    pair = protect(tmp_path, load_board(board), mode, debug=debug)
    rng = np.random.default_rng(0)
    samples = [[rng.integers(-128, 128, (1, 8, 8, 3), dtype=np.int8)] for _ in range(8)]
    types = [[v.type for v in graph.outputs]]
    rows = [Sample(tuple(sample)) for sample in samples]
    results = run_samples(pair.nonsecure.elf, load_board(board), types, rows)
    for result, sample in zip(results, samples, strict=True):
        assert result.status == OK
        assert np.array_equal(result.outputs[0], run(graph, sample)[0])


def test_sizes_are_those_of_each_image(tmp_path: Path) -> None:
    """The physical board too, which only links here."""
    pair = protect(tmp_path, load_board("nucleo-u575zi"), "withhold")
    zone = load_trust_zone("nucleo-u575zi")
    for image, world in ((pair.secure, zone.secure), (pair.nonsecure, zone.non_secure)):
        done = subprocess.run(
            ["arm-none-eabi-size", image.elf], capture_output=True, text=True, check=True
        )
        text, data, bss = (int(n) for n in done.stdout.splitlines()[1].split()[:3])
        assert (image.sizes.flash_bytes, image.sizes.ram_bytes) == (text + data, data + bss)
        assert 0 < image.sizes.model_flash_bytes < image.sizes.flash_bytes
        assert image.stack is not None
        vectors = symbols(image.elf).get("ts_reset", 0)
        assert world.flash.origin <= vectors < world.flash.end


@pytest.mark.parametrize("board", BOARDS)
def test_calls_order_and_quota(board: str, pair_of: Callable[[str], Pair], tmp_path: Path) -> None:
    """Two queries of two calls: a call out of order costs nothing, a fifth call is refused."""
    pair = pair_of(board)
    rng = np.random.default_rng(0)
    given = [rng.integers(-128, 128, (1, 4, 4, 4), dtype=np.int8) for _ in range(2)]
    data = b"".join(array.tobytes() for array in given)
    output = pair.symbols["probe_output"]
    fill = [*set_request(pair), *set_bytes(pair.symbols["probe_input"], data)]
    calls: list[tuple[int, ...]] = [(CALL, 1), (CALL, 0), (DUMP, output, BYTES), (CALL, 1)]
    calls += [(DUMP, output, BYTES), (CALL, 1), (CALL, 2), (CALL, 0), (CALL, 0), (CALL, 0)]
    outcome = run_steps(pair, tmp_path / "run", [*fill, *calls])
    assert outcome.status == 0
    answers = outcome.data[4 * len(fill) :]
    first, second = answers[8 : 8 + BYTES], answers[16 + BYTES : 16 + 2 * BYTES]
    rest = np.frombuffer(answers[:8] + answers[12 + BYTES : 16 + BYTES], "<u4").tolist()
    assert rest == [REFUSED, OK, OK]
    assert first == run(pair.graphs[0], given)[0].tobytes()
    assert second == run(pair.graphs[1], given[:1])[0].tobytes()
    last = np.frombuffer(answers[20 + 2 * BYTES :], "<u4").tolist()
    assert last == [REFUSED, REFUSED, OK, OK, REFUSED]


@pytest.mark.parametrize("board", BOARDS)
def test_nothing_stays_in_the_arena(board: str, pair_of: Callable[[str], Pair]) -> None:
    """Nor in the registers that a caller may read, those of floating point included."""
    pair = pair_of(board)
    argv = pair.argv()
    at = argv.index("-icount")
    with debugged([*argv[:at], *argv[at + 2 :]], pair.folder) as remote:
        remote.run_until([pair.secrets["__acle_se_ts_gateway_call"]])
        remote.set_register(1, pair.symbols["probe_request"])
        words = [pair.symbols[name] for name in ("probe_input", "probe_input")]
        words += [0, pair.symbols["probe_output"]]
        remote.write(pair.symbols["probe_request"], np.array(words, "<u4").tobytes())
        arena = pair.secrets["ts_secure_arena"]
        size = remote.word(pair.secrets["ts_secure_arena_bytes"])
        remote.run_until([pair.secrets["ts_release"]])
        assert any(remote.read(arena, size))
        remote.run_until([pair.symbols["probe_returned"]])
        assert remote.register(0) == ANSWERED
        left = [remote.register(number) for number in (1, 2, 3, 12)]
        remote.run_until([pair.secrets["__acle_se_ts_gateway_call"]])
        assert remote.read(arena, size) == bytes(size)
    assert not any(pair.zone.secure.ram.origin <= word < pair.zone.secure.ram.end for word in left)
    code = disassembled(pair.secure, "__acle_se_ts_gateway_call")
    assert re.search(r"vscclrm\s+{s0-s15, VPR}|vmov.f32\s+s15, #112", code)


def disassembled(elf: Path, function: str | None = None) -> str:
    only = [f"--disassemble={function}"] if function else ["-d"]
    done = subprocess.run(
        ["arm-none-eabi-objdump", *only, elf], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("board", BOARDS)
def test_a_release_image_has_no_semihosting_and_resets(board: str, tmp_path: Path) -> None:
    pair = build_probe(tmp_path / "pair", board, debug=False)
    assert "0xab" not in disassembled(pair.secure)
    secret = pair.secrets["state"]
    outcome = run_steps(pair, tmp_path / "run", [(WRITE, secret, 0)], "-no-reboot")
    assert (outcome.status, outcome.data, outcome.log) == (0, b"", "")


def test_a_fault_wipes_secure_memory_before_the_reset(tmp_path: Path) -> None:
    """The whole RAM of the secure world, what nothing uses included."""
    pair = build_probe(tmp_path / "pair", "mps2-an505", debug=False)
    ram = pair.zone.secure.ram
    places = (ram.origin, pair.secrets["ts_secure_arena"], ram.end - BYTES)
    argv = pair.argv()
    at = argv.index("-icount")
    with debugged([*argv[:at], *argv[at + 2 :]], pair.folder) as remote:
        remote.run_until([pair.secrets["__acle_se_ts_gateway_call"]])
        for place in places:
            remote.write(place, b"secret.." * (BYTES // 8))
        remote.set_register(15, pair.secrets["ts_secure_fault"])
        remote.run_until([pair.secrets["ts_reset"]])
        for place in places:
            assert remote.read(place, BYTES) == bytes(BYTES)


@pytest.mark.parametrize("debug", [True, False])
def test_another_image_is_not_started(debug: bool, tmp_path: Path) -> None:
    """One bit of the non-secure image, or the image of another build."""
    pair = build_probe(tmp_path / "pair", "mps2-an505", debug=debug)
    elf = bytearray(pair.nonsecure.read_bytes())
    place = elf.index(b"probe.bin")
    elf[place] ^= 1
    pair.nonsecure.write_bytes(elf)
    outcome = run_steps(pair, tmp_path / "run", [], *([] if debug else ["-no-reboot"]))
    assert outcome.status == (WRONG_IMAGE if debug else 0)
    assert outcome.data == b""
    assert not (tmp_path / "run" / "result.bin").exists()


def test_the_record_is_the_hash_of_what_is_loaded(pair_of: Callable[[str], Pair]) -> None:
    pair = pair_of("mps2-an505")
    flat = pair.folder / "flat.bin"
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", pair.nonsecure, flat], check=True)
    record = image_record(pair.nonsecure, pair.zone)
    assert record[:32] == hashlib.sha256(flat.read_bytes()).digest()
    assert record in pair.secure.read_bytes()
    with pytest.raises(InternalError, match="not an image of the non-secure world"):
        image_record(pair.secure, pair.zone)


def test_the_same_bytes_each_time(pair_of: Callable[[str], Pair], tmp_path: Path) -> None:
    pair = pair_of("mps2-an505")
    again = build_probe(tmp_path / "pair", "mps2-an505", quota=2)
    assert again.secure.read_bytes() == pair.secure.read_bytes()
    assert again.nonsecure.read_bytes() == pair.nonsecure.read_bytes()


def test_sha256_and_chacha20_are_those_of_their_standards(tmp_path: Path) -> None:
    """FIPS 180-4 over lengths around the block's; RFC 8439, 2.3.2 and A.1."""
    source = Path(__file__).resolve().parent / "c" / "secure_crypto.c"
    secure = paths.RUNTIME_C / "secure"
    files = [source, *(secure / name for name in ("sha256.c", "chacha20.c", "pad.c"))]
    include = paths.RUNTIME_C / "include"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    subprocess.run(
        ["gcc", *flags, f"-I{secure}", f"-I{include}", *files, "-o", tmp_path / "crypto"],
        check=True,
    )
    data = np.random.default_rng(0).integers(0, 256, 300, dtype=np.uint8).tobytes()
    done = subprocess.run([tmp_path / "crypto"], input=data, capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    lengths = (0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 300)
    assert lines[: len(lengths)] == [hashlib.sha256(data[:n]).hexdigest() for n in lengths]
    blocks, pads = lines[len(lengths) : len(lengths) + 3], lines[len(lengths) + 3 :]
    assert blocks == [
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ]
    assert pads[0].startswith(blocks[2])  # the key of this stream is zero
    pieces = {pad[at : at + 16] for pad in pads for at in range(0, 160, 16)}
    assert len(pieces) == 30  # nothing comes twice


def test_without_entropy_no_pad_is_drawn(tmp_path: Path) -> None:
    """The release image has no source but the integrator's, which is weak and refuses."""
    graph = residual_net()
    board = load_board("mps2-an505")
    pair = protect(tmp_path, board, "coreguard-otp", debug=False)
    types = [[v.type for v in graph.outputs]]
    sample = Sample((np.zeros((1, 8, 8, 3), np.int8),))
    assert run_samples(pair.nonsecure.elf, board, types, [sample])[0].status == REFUSED


def test_bad_quotas_and_full_memory_are_errors(tmp_path: Path) -> None:
    board, zone = load_board("mps2-an505"), load_trust_zone("mps2-an505")
    with pytest.raises(CompileError, match="quota of 0 queries"):
        write_secure_harness(tmp_path, board, zone, two_gates(), quota=0, debug=True)
    small = msgspec.structs.replace(zone.secure, flash=trust_zone.Window(0x1000_0000, 4096))
    tight = msgspec.structs.replace(zone, secure=small)
    with pytest.raises(DoesNotFit, match="B of flash"):
        build_probe(tmp_path / "pair", "mps2-an505", zone=tight)
