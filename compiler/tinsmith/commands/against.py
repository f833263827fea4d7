"""`bench MODEL --against …`: the table, the plot and the JSON of a comparison."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from ..errors import CompileError
from ..peers.compare import BUSY, Comparison, Row, all_threads, compare
from ..peers.layers import Layer
from ..peers.plot import draw
from .console import err, out, print_json, progress, table

JSON_FILE, PICTURE = "against.json", "against.png"
_COLUMNS = ("runtime", "version", "median us", "× ours", "95 %", "differs by", "how")


def against(
    model: Path,
    *,
    board: str | None,
    names: str,
    calibrate: Path | None,
    dtype: str,
    tflite: Path | None,
    threads: str,
    rounds: int,
    layers: bool,
    bind: dict[str, int],
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure, print, and write the JSON and the picture into `folder` where one is given."""
    if board is None:
        raise CompileError("--against needs a board", expected="--board, as of `compile`")
    if not model.is_file():
        raise CompileError(f"{model} is no file", expected="an ONNX model, for --against")
    counts = thread_counts(threads)
    with ExitStack() as stack:
        if folder is None:
            project = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tinsmith-")))
        else:
            project = folder
        step = stack.enter_context(progress(f"measuring {model.name}"))
        comparison = compare(
            model,
            board=board,
            against=names,
            out=project,
            calibrate=calibrate,
            dtype=dtype,
            tflite=tflite,
            threads=counts,
            rounds=rounds,
            layers=layers,
            bind=bind,
            progress=step,
        )
    data = msgspec.to_builtins(comparison) | {"schema_version": 1}
    if folder is not None:
        (folder / JSON_FILE).write_text(json.dumps(data, indent=2) + "\n")
        draw(comparison, folder / PICTURE)
    if as_json:
        print_json(data)
    else:
        show(comparison)
        if folder is not None:
            out().print(f"wrote {folder / JSON_FILE} and {PICTURE}", markup=False)


def thread_counts(text: str) -> list[int]:
    """ "1,all" as [1, 2] on a machine with two cores. Raises CompileError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        word = part.strip()
        if word == "all":
            found.append(all_threads())
        elif word.isdecimal() and 0 < int(word) <= all_threads():
            found.append(int(word))
        else:
            raise CompileError(
                f"--threads {text!r} is not a list of counts",
                expected=f"numbers up to {all_threads()}, or all, separated by commas",
            )
    return list(dict.fromkeys(found))


def show(comparison: Comparison) -> None:
    """The tables, one per number of threads, and what to know about them."""
    for run in comparison.runs:
        word = "thread" if run.threads == 1 else "threads"
        title = (
            f"{comparison.model} on {comparison.board}, {comparison.target}, {run.threads} {word}"
        )
        rows = [_cells(row) for row in run.rows]
        out().print(table(title, _COLUMNS, rows, left=2))
        share = comparison.peak_share(run)
        if share is not None and run.peak is not None:
            rate = f"{run.peak / 1e9:,.0f} GMAC/s"
            out().print(f"{share:.1%} of the int8 peak measured here, {rate}", markup=False)
        out().print()
        if run.others > BUSY:
            err().print(
                f"warning: other processes kept {run.others:.1f} cores busy; "
                "ratios within a run hold better than times",
                markup=False,
            )
    if comparison.layers:
        _show_layers(comparison.layers)


def _show_layers(layers: Sequence[Layer]) -> None:
    total = sum(layer.seconds for layer in layers)
    rows = [
        (
            f"{layer.op} {layer.shapes}",
            layer.kernel,
            f"{layer.seconds * 1e6:,.2f}",
            f"{layer.seconds / total:.1%}",
            f"{layer.macs / layer.seconds / 1e9:,.0f}" if layer.macs and layer.seconds else "",
            "" if layer.peak_share is None else f"{layer.peak_share:.0%}",
        )
        for layer in layers
    ]
    columns = ("layer", "kernel", "us", "of all", "GMAC/s", "of peak")
    out().print(table("our layers, one thread", columns, rows, left=2))


def _cells(row: Row) -> Sequence[object]:
    if row.seconds is None:
        return (row.label, row.version, None, None, None, None, row.note)
    slower, agreed = row.slower, row.agreement
    differs = ""
    if agreed is not None:
        what = f"{agreed.largest:.0f} LSB" if agreed.in_steps else f"{agreed.largest:.1e}"
        differs = f"{what}, {agreed.equal:.0%} equal"
    return (
        row.label,
        row.version,
        f"{row.seconds * 1e6:,.1f}",
        f"{slower.median:.2f}" if slower else "1",
        f"{slower.low:.2f}–{slower.high:.2f}" if slower else "",
        differs,
        row.settings,
    )
