"""What our own models cost on each core: a change that makes one worse by more than 2 % fails.

After a change that is worth its price: `pytest tests/test_budgets.py --update-budgets`, and commit
the table. Sizes and instructions depend on the compiler: with another one than the table was made
with, only large differences count. Arena and state depend on nothing but us.
"""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinsmith
from tinsmith import paths
from tinsmith.machine.board import load_board
from tinsmith.runner.bench import bench
from tinsmith.train.scheme import Scheme, Update

TABLE = Path(__file__).with_name("budgets.toml")
MODELS = ("digits_autoencoder", "digits_dscnn", "digits_resnet")
BOARDS = ("mps2-an386", "mps2-an500", "mps3-an547", "qemu-riscv32")
SMALL = "-flash"  # behind a board's name: with --optimize flash
ROWS = (*BOARDS, *(board + SMALL for board in ("mps2-an500", "mps3-an547")))
LEARNS = "-train"  # behind a board's name: digits_dscnn with ten fresh classes
LEARNING = tuple(("digits_dscnn", board + LEARNS) for board in ("mps2-an500", "mps3-an547"))
CASES = (*((model, row) for model in MODELS for row in ROWS), *LEARNING)
FIGURES = ("flash_bytes", "arena_bytes", "stack_bytes", "instructions_per_inference")
OF_A_STEP = (
    "flash_bytes", "train_arena_bytes", "state_bytes", "stack_bytes", "train_step_instructions",
)  # fmt: skip
SCHEME = Scheme(classes=10, update=(Update(last=4, bias=True, weights=0.5),))
OURS = ("arena_bytes", "train_arena_bytes", "state_bytes")  # whatever the compiler
TOLERANCE, OTHER_COMPILER = 0.02, 0.35
HEADER = """\
# What the models of graphs/ cost; see test_budgets.py.
# Written by: pytest tests/test_budgets.py --update-budgets
"""


@pytest.fixture(scope="module")
def measured(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], dict[str, object]]]:
    """Filled by the tests; written into the table afterwards when that was asked for."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    yield rows
    if request.config.getoption("--update-budgets"):
        assert len(rows) == len(CASES), "run all of them, in one process"
        lines = [HEADER]
        for (model, board), figures in sorted(rows.items()):
            cells = (
                f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v:_}" for k, v in figures.items()
            )
            lines.append(f"\n[{model}.{board}]\n" + "\n".join(cells) + "\n")
        TABLE.write_text("".join(lines))


def _compiler(board: str) -> str:
    cc = load_board(board).target.cc
    done = subprocess.run([cc, "-dumpfullversion"], capture_output=True, text=True, check=True)
    return f"{cc} {done.stdout.strip()}"


@pytest.mark.parametrize(("model", "row"), CASES)
def test_budget(
    model: str,
    row: str,
    measured: dict[tuple[str, str], dict[str, object]],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    source, board = paths.GRAPHS / model, row.removesuffix(SMALL).removesuffix(LEARNS)
    learns, small = row.endswith(LEARNS), row.endswith(SMALL)
    tinsmith.compile(
        source / "model.onnx",
        board=board,
        out=tmp_path,
        calibrate=source / "calibration.npz",
        optimize="flash" if small else "instructions",
        train=SCHEME if learns else None,
    )
    report = bench(tmp_path)
    compiler = _compiler(board)
    now = {name: getattr(report, name) for name in (OF_A_STEP if learns else FIGURES)}
    assert all(isinstance(v, int) and v > 0 for v in now.values()), now
    measured[model, row] = {"compiler": compiler, **now}
    if request.config.getoption("--update-budgets"):
        return
    budget = tomllib.loads(TABLE.read_text())[model][row]
    same = budget["compiler"] == compiler
    worse = [
        f"{name}: {now[name]:,} against {budget[name]:,}"
        for name in now
        if now[name] > budget[name] * (1 + (TOLERANCE if same or name in OURS else OTHER_COMPILER))
    ]
    assert not worse, f"{model} on {row}: " + "; ".join(worse)


def test_the_table_has_every_row_and_no_other() -> None:
    table = tomllib.loads(TABLE.read_text())
    assert {(m, b) for m, rows in table.items() for b in rows} == set(CASES)
