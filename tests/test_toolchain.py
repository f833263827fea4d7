"""Building firmware: sizes, budgets, stack, clear failures, the same bytes each time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tinsmith.errors import DoesNotFit, InternalError, MissingTool
from tinsmith.machine.board import Board, load_board
from tinsmith.toolchain import stack
from tinsmith.toolchain.compile_c import build, source_files
from tinsmith.toolchain.firmware import build_firmware
from tinsmith.toolchain.harness import write_harness
from tinsmith.toolchain.sizes import Sizes, check_budget, measure_sizes
from tinsmith.toolchain.stack import worst_case_stack

from .firmware import LOOP_MODEL, compile_project, loop_firmware
from .int8_nets import residual_net


def _with_memory(board: Board, **bytes_of: int) -> Board:
    regions = (
        msgspec.structs.replace(r, bytes=bytes_of.get(r.name, r.bytes)) for r in board.regions
    )
    return replace(board, regions=tuple(regions))


def test_sizes_agree_with_binutils(tmp_path: Path) -> None:
    built = compile_project(tmp_path, residual_net(), "mps2-an500")
    done = subprocess.run(
        ["arm-none-eabi-size", built.elf], capture_output=True, text=True, check=True
    )
    text, data, bss = (int(n) for n in done.stdout.splitlines()[1].split()[:3])
    sizes = built.sizes
    assert sizes.flash_bytes == text + data
    assert sizes.ram_bytes == data + bss
    assert sizes.stack_reserved_bytes == 4096


def test_model_flash_is_what_the_model_adds(tmp_path: Path) -> None:
    """Symbols of the model's sources cover its part of flash but for padding and literals."""
    built = compile_project(tmp_path, residual_net(), "mps2-an385")
    done = subprocess.run(
        ["arm-none-eabi-nm", "--print-size", built.elf], capture_output=True, text=True, check=True
    )
    symbols = re.findall(r"^\S+ (\S+) [tTrR] (\S+)$", done.stdout, re.M)
    harness = r"main|ts_|fault|vectors|mem|open_file|residual_harness|__"
    model = sum(int(size, 16) for size, name in symbols if not re.match(harness, name))
    assert model <= built.sizes.model_flash_bytes <= model + 256
    assert built.sizes.model_flash_bytes < built.sizes.flash_bytes


def test_ram_is_arena_plus_a_few_words(tmp_path: Path) -> None:
    built = compile_project(tmp_path, residual_net(), "mps2-an386")
    header = (tmp_path / "residual.h").read_text()
    arena = int(re.search(r"RESIDUAL_ARENA_BYTES (\d+)", header).group(1))
    assert arena <= built.sizes.ram_bytes <= arena + 32


@pytest.mark.parametrize("board", ["host", "mps3-an547", "qemu-riscv32"])
def test_the_same_bytes_in_another_folder(board: str, tmp_path: Path) -> None:
    elves = []
    for name in ("one", "another"):
        compile_project(tmp_path / name, residual_net(), board)
        elves.append((tmp_path / name / "build" / "firmware.elf").read_bytes())
    assert elves[0] == elves[1]


def test_a_physical_board_has_two_elves(tmp_path: Path) -> None:
    """Of one model in one size; that of the board itself sets the board up first."""
    built = compile_project(tmp_path, residual_net(), "nucleo-u575zi")
    stems = ("residual", "residual_weights")
    twin = measure_sizes(tmp_path / "build" / "twin.elf", stems)
    assert (twin.ram_bytes, twin.model_flash_bytes) == (
        built.sizes.ram_bytes,
        built.sizes.model_flash_bytes,
    )
    steps = 24 * len(load_board("nucleo-u575zi").setup)
    assert steps <= built.sizes.flash_bytes - twin.flash_bytes <= steps + 256
    done = subprocess.run(
        ["arm-none-eabi-readelf", "-h", built.elf], capture_output=True, text=True, check=True
    )
    assert "0x80" in done.stdout  # entry in its own flash at 0x08000000


@pytest.mark.parametrize(
    ("region", "size", "message"),
    [
        ("ram", 4096, r"[\d,]+ B of ram \(with 4,096 B of stack\).* 4,096 B of mps2-an386"),
        ("flash", 2000, r"[\d,]+ B of flash, [\d,]+ B more than the 2,000 B of mps2-an386"),
    ],
)
def test_a_board_too_small_is_refused_with_the_numbers(
    region: str, size: int, message: str, tmp_path: Path
) -> None:
    graph = residual_net()
    compile_project(tmp_path, graph, "mps2-an386")
    small = _with_memory(load_board("mps2-an386"), **{region: size})
    with pytest.raises(DoesNotFit, match=message) as error:
        build_firmware(tmp_path, graph, small, peak_node="Add 'sum'")
    assert error.value.node == ("Add 'sum'" if region == "ram" else None)


def test_the_users_budgets_replace_the_boards() -> None:
    board, sizes = load_board("mps2-an500"), Sizes(50_000, 20_000, 4096, 40_000)
    check_budget(sizes, board)
    check_budget(sizes, board, ram=24_096, flash=50_000)
    with pytest.raises(DoesNotFit, match=r"24,096 B of RAM.* 96 B more .* 24,000 B") as error:
        check_budget(sizes, board, ram=24_000, node="Conv 'c'")
    assert error.value.node == "Conv 'c'"
    with pytest.raises(DoesNotFit, match=r"50,000 B of flash, 1 B more"):
        check_budget(sizes, board, flash=49_999)


def test_a_stack_too_small_is_refused(tmp_path: Path) -> None:
    graph = residual_net()
    compile_project(tmp_path, graph, "mps2-an386")
    board = replace(load_board("mps2-an386"), stack_bytes=320)
    with pytest.raises(
        DoesNotFit, match="B of stack and the harness 256 B; mps2-an386 reserves 320"
    ):
        build_firmware(tmp_path, graph, board)


def test_code_that_does_not_compile_is_shown(tmp_path: Path) -> None:
    board = load_board("mps2-an500")
    loop_firmware(tmp_path, board)
    (tmp_path / "bad.c").write_text("int f(int unused) { return 300L + (char)f; }\n")
    with pytest.raises(InternalError, match=r"(?s)arm-none-eabi-gcc cannot compile bad\.c.*unused"):
        build(tmp_path, board)


def test_a_missing_function_is_shown_by_the_linker(tmp_path: Path) -> None:
    board = load_board("qemu-riscv32")
    loop_firmware(tmp_path, board)
    (tmp_path / "loop_model.c").write_text("typedef int nothing;\n")
    with pytest.raises(InternalError, match=r"(?s)linking for qemu-riscv32 failed.*loop_model_run"):
        build(tmp_path, board)


@pytest.mark.parametrize(
    ("board", "tool", "package"),
    [
        ("mps2-an500", "arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
        ("qemu-riscv32", "riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf picolibc"),
        ("host", "gcc", "gcc libc6-dev"),
    ],
)
def test_a_missing_compiler_says_how_to_install_it(
    board: str, tool: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match=f"{tool} is not installed") as error:
        build(tmp_path, load_board(board))
    assert error.value.hint is not None
    assert error.value.hint.startswith(f"sudo apt-get install {package}")


def test_another_boards_harness_is_replaced(tmp_path: Path) -> None:
    for name in ("mps2-an386", "host"):
        write_harness(tmp_path, load_board(name), [LOOP_MODEL])
    names = {path.name for path in source_files(tmp_path)}
    assert "host.c" in names
    assert not names & {"semihosting.c", "counter_systick.c"}


STACK_C = """
#include <stdint.h>
void sink(volatile uint8_t *bytes);
__attribute__((noinline)) void sink(volatile uint8_t *bytes) { bytes[0] = 1; }
__attribute__((noinline)) static void deep(void) { volatile uint8_t b[400]; sink(b); }
__attribute__((noinline)) static void flat(void) { volatile uint8_t b[40]; sink(b); }
__attribute__((noinline, used)) void root(int which) { if (which) { deep(); } flat(); }
__attribute__((noinline, used)) int again(int n)
{
    return n < 2 ? 1 : n * again(n - 1) + again(n - 2);
}
__attribute__((noinline, used)) void jump(void (*f)(void)) { f(); f(); }
__attribute__((naked, used)) void naked_root(void) { %s }
"""
NAKED = {
    "mps2-an385": (
        '__asm__("push {r4-r7, lr}\\n sub sp, #64\\n add sp, #64\\n pop {r4-r7, pc}");',
        84,
    ),
    "qemu-riscv32": ('__asm__("addi sp, sp, -96\\n addi sp, sp, 96\\n ret");', 96),
}


@pytest.mark.parametrize("name", NAKED)
def test_stack_follows_the_deepest_calls(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    cc = board.target.cc
    naked, naked_bytes = NAKED[name]
    (tmp_path / "obj").mkdir()
    (tmp_path / "a.c").write_text(STACK_C % naked)
    command = [cc, *board.target.cflags, "-fstack-usage", "-c", "a.c", "-o", "obj/a.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    elf = tmp_path / "a.elf"
    keep = [f"-Wl,-u,{s}" for s in ("root", "again", "jump", "naked_root")]
    link = [cc, *board.target.cflags, "obj/a.o", "-nostdlib", *keep, "-Wl,-e,root", "-o", elf]
    subprocess.run(link, cwd=tmp_path, check=True, capture_output=True)

    use = worst_case_stack(elf, board, "root")
    assert use.path == ("root", "deep", "sink")
    assert 400 <= use.bytes <= 460
    assert use.indirect == ()
    assert worst_case_stack(elf, board, "flat").bytes < 100
    assert worst_case_stack(elf, board, "naked_root").bytes == naked_bytes
    assert worst_case_stack(elf, board, "jump").indirect == ("jump",)
    with pytest.raises(InternalError, match="recursion below again"):
        worst_case_stack(elf, board, "again")
    with pytest.raises(InternalError, match="no function nothing"):
        worst_case_stack(elf, board, "nothing")
    without_su = worst_case_stack(shutil.copy(elf, tmp_path / "obj" / "a.elf"), board, "root")
    assert abs(without_su.bytes - use.bytes) <= 16


def test_a_loop_predicate_of_mve_is_no_call() -> None:
    """objdump 2.40 shows `vctp.8 r5` as a branch future, with an address it made up."""
    text = (
        "11001384 <block>:\n11001392:\tbfcsel\t0, 11000398 <step+0xc>, 2, ne\n"
        "11001396:\tbl\t11000400 <called>\n"
    )
    assert stack._disassembled(text)["block"].callees == {"called"}


def test_stack_of_a_frame_without_a_size_is_an_error(tmp_path: Path) -> None:
    board = load_board("mps2-an385")
    source = (
        "void g(volatile char *p) { *p = 1; }\n"
        "void f(int n) { volatile char bytes[n]; g(bytes); }\n"
    )
    (tmp_path / "obj").mkdir()
    (tmp_path / "a.c").write_text(source)
    flags = [*board.target.cflags, "-fno-inline", "-fstack-usage"]
    subprocess.run(
        [board.target.cc, *flags, "-c", "a.c", "-o", "obj/a.o"], cwd=tmp_path, check=True
    )
    link = [board.target.cc, *flags, "obj/a.o", "-nostdlib", "-Wl,-e,f", "-o", "a.elf"]
    subprocess.run(link, cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(InternalError, match="the frame of f has no fixed size"):
        worst_case_stack(tmp_path / "a.elf", board, "f")


def test_builds_use_relative_paths_only(tmp_path: Path) -> None:
    compile_project(tmp_path, residual_net(), "mps2-an500")
    assert os.fsencode(tmp_path) not in (tmp_path / "build" / "firmware.elf").read_bytes()
