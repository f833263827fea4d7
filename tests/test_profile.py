"""Where the time goes: executed blocks agree with the counter, prices with the core's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.errors import CompileError
from tinsmith.machine.cycles import price
from tinsmith.machine.target import load_target
from tinsmith.runner.bench import profile
from tinsmith.runner.profile import draw_profile, profile_layers

M4 = load_target("cortex-m4").cycles
M55 = load_target("cortex-m55").cycles


@pytest.mark.parametrize(
    ("mnemonic", "operands", "each", "taken"),
    [
        ("ldmia.w", "r0!, {r1, r2, r3, r4}", 5, 0),
        ("ldmia.w", "r0!, {r4-r7, r10}", 6, 0),
        ("ldmia.w", "sp!, {r4, r5, pc}", 4, 1.5),
        ("push", "{r4, r5, r6, lr}", 5, 0),
        ("vpush", "{d8-d9}", 5, 0),
        ("ldrd", "r2, r3, [r0, #8]", 3, 0),
        ("ldr.w", "r3, [r0], #4", 2, 0),
        ("ldrsb.w", "r3, [r0, #1]", 2, 0),
        ("vldr", "s0, [r0]", 2, 0),
        ("str", "r3, [r0, #0]", 1, 0),
        ("strb.w", "r3, [r0], #1", 1, 0),
        ("smlad", "r0, r1, r2, r0", 1, 0),
        ("bne.n", "80a0 <f+0x10>", 1, 1.5),
        ("bl", "8100 <g>", 1, 1.5),
        ("bic.w", "r0, r1, #3", 1, 0),
        ("bfi", "r0, r1, #0, #8", 1, 0),
    ],
)
def test_prices_of_cortex_m4(mnemonic: str, operands: str, each: float, taken: float) -> None:
    assert M4 is not None
    found = price(M4, mnemonic, operands)
    assert (found.each, found.taken) == (each, taken)


@pytest.mark.parametrize(
    ("mnemonic", "operands", "each"),
    [
        ("vmladava.s8", "r0, q1, q2", 2),
        ("vldrb.s8", "q0, [r0], #16", 2),
        ("vldrb.u8", "q0, [r0, q1]", 16),
        ("vldrw.u32", "q0, [r0, q1, uxtw #2]", 4),
        ("vldr", "s0, [r0]", 1),
        ("vmul.f32", "s0, s1, s2", 1),
    ],
)
def test_prices_of_helium(mnemonic: str, operands: str, each: float) -> None:
    assert M55 is not None
    assert price(M55, mnemonic, operands).each == each


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_blocks_add_up_to_what_the_counter_says(board: str, tmp_path: Path) -> None:
    model = paths.GRAPHS / "digits_dscnn" / "model.onnx"
    folder = tmp_path / "p"
    samples = model.with_name("calibration.npz")
    tinsmith.compile(model, board=board, out=folder, calibrate=samples, pictures=False)
    layers, ticks = profile_layers(folder), profile(folder)
    assert [x.node for x in layers] == [t.node for t in ticks]
    for layer, tick in zip(layers, ticks, strict=True):
        assert layer.instructions is not None
        assert tick.instructions is not None
        assert abs(layer.instructions - tick.instructions) <= 65 + tick.instructions // 50
        assert layer.instructions == sum(n for n, _ in layer.functions.values())
        assert layer.cycles == pytest.approx(sum(c or 0 for _, c in layer.functions.values()))
        assert layer.cycles > layer.instructions
    result = CliRunner().invoke(app, ["profile", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["unit"] == "estimated cycles"
    assert [n["instructions"] for n in data["nodes"]] == [x.instructions for x in layers]
    first = (folder / "profile.svg").read_bytes()
    draw_profile(layers, folder, "digits_dscnn on " + board)
    again = (folder / "profile.svg").read_bytes()
    assert first.count(b"<path") == again.count(b"<path") > len(layers)


def test_a_board_that_counts_nothing_is_refused(tmp_path: Path) -> None:
    model = paths.GRAPHS / "digits_autoencoder" / "model.onnx"
    samples = model.with_name("calibration.npz")
    tinsmith.compile(model, board="host", out=tmp_path / "p", calibrate=samples, pictures=False)
    with pytest.raises(CompileError, match="does not count"):
        profile_layers(tmp_path / "p")
