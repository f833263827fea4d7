"""The files that divide a board's memory between the worlds, and the rules between their keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinsmith import paths
from tinsmith.errors import CompileError
from tinsmith.machine import trust_zone
from tinsmith.machine.board import load_board
from tinsmith.machine.trust_zone import (
    load_trust_zone,
    non_secure_board,
    secure_board,
    trust_board_names,
)

SECURE_BIT = 1 << 28  # of an address


@pytest.mark.parametrize("name", trust_board_names())
def test_no_memory_is_in_both_worlds(name: str) -> None:
    """Under both aliases of its address."""
    zone = load_trust_zone(name)
    board = load_board(name)
    secure = secure_board(board, zone).regions
    for region in secure:
        start = region.origin & ~SECURE_BIT
        for window in zone.windows:
            assert start + region.bytes <= window.origin or window.end <= start, region.name
    assert {r.world for r in secure} == {"secure"}
    assert {r.world for r in non_secure_board(board, zone).regions} == {"non-secure"}


def test_boards_with_a_secure_world() -> None:
    assert trust_board_names() == ["mps2-an505", "mps3-an547", "nucleo-u575zi"]
    with pytest.raises(CompileError) as error:
        load_trust_zone("mps2-an500")
    assert "nucleo-u575zi" in (error.value.expected or "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stack_bytes = 4096", "stack_bytes = 4096\nspeed = 1", "unknown field `speed`"),
        ("stack_bytes = 4096", "stack_bytes = 4097", "not a multiple of 8"),
        ("0x0020_0000, bytes", "0x0020_0100, bytes", "512-byte alignment"),
        ("0x101F_0000, bytes = 0x1000", "0x101F_0000, bytes = 0x1008", "multiple of 32"),
        ("0x101F_0000", "0x101E_0000", "two ranges overlap"),
        ("others = [", "others = [" + "{origin = 0x6000_0000, bytes = 32}," * 4, "8 regions"),
    ],
)
def test_a_bad_trust_file_is_refused(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (paths.BOARDS / "mps2-an505" / "trust.toml").read_text()
    assert old in text
    (tmp_path / "mps2-an505").mkdir()
    (tmp_path / "mps2-an505" / "trust.toml").write_text(text.replace(old, new, 1))
    monkeypatch.setattr(paths, "BOARDS", tmp_path)
    with pytest.raises(CompileError, match=message):
        trust_zone.load_trust_zone.__wrapped__("mps2-an505")
