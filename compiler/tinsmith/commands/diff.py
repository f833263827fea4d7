"""The command that shows where two forms of a network part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CompileError
from ..numerics.difference import Difference, LayerDifference, difference
from ..numerics.picture import draw_difference
from ..numerics.sides import open_side
from ..plan.model import short_name
from . import show
from .console import out, print_json, progress, reported, table
from .options import AsJson, Bind, sizes

_SIDE = "an ONNX model, a compiled project (its device), or DIR:oracle"
_LISTED = 6  # nodes per reason; --json has all


@reported
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help=_SIDE, show_default=False)],
    input_file: Annotated[
        Path | None, typer.Option("--input", metavar="F.npz", help="samples; needed for a model")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="of F, at most")] = 8,
    least: Annotated[
        float | None,
        typer.Option("--min-sqnr", metavar="DB", help="exit 1 when a layer is below it"),
    ] = None,
    bind: Bind = None,
    output: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="for the picture; else project A or B")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare two forms of a network layer by layer, and show where they part."""
    bound = sizes(bind)
    sides = [open_side(text, input_file, samples, bound) for text in (a, b)]
    with progress(f"comparing {a} and {b}") as step:
        result = difference(sides[0], sides[1], lambda i, n: step(f"{i} of {n}"))
    folder = output or next((Path(p) for p in (b, a) if Path(p).is_dir()), None)
    pictures = _pictures(result, folder)
    if json:
        print_json(_data(result, pictures))
    else:
        _print(result, pictures)
    worst = min(layer.sqnr_db for layer in result.layers)
    raise typer.Exit(1 if least is not None and worst < least else 0)


def _pictures(result: Difference, folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return draw_difference(result, folder)
    except OSError as error:
        raise CompileError(f"cannot write into {folder}: {error.strerror}") from error


def _data(result: Difference, pictures: list[Path]) -> dict[str, Any]:
    return {
        "a": result.a,
        "b": result.b,
        "samples": result.samples,
        "parts_at": result.parts_at.node if result.parts_at else None,
        "steepest": result.steepest.node if result.steepest else None,
        "layers": [_row(layer) for layer in result.layers],
        "unmatched": [{"node": node, "why": why} for node, why in result.unmatched],
        "pictures": [str(path) for path in pictures],
    }


def _row(layer: LayerDifference) -> dict[str, Any]:
    first = layer.first and {"sample": layer.first[0], "index": list(layer.first[1])}
    return {
        "node": layer.node,
        "op": layer.op,
        "onnx_node": layer.onnx_name,
        "value_of_a": layer.a_value,
        "by_name": layer.by_name,
        "shape": list(layer.shape),
        "sqnr_db": layer.sqnr_db,
        "max_error": layer.max_error,
        "max_lsb": layer.max_lsb,
        "mean_error": layer.mean_error,
        "differing": layer.differing,
        "elements": layer.elements,
        "first": first,
    }


def _print(result: Difference, pictures: list[Path]) -> None:
    rows: list[tuple[object, ...]] = []
    for layer in result.layers:
        equal = layer.differing == 0
        rows.append(
            (
                layer.op,
                short_name(layer.node, show.NODE_WIDTH),
                "×".join(map(str, layer.shape)),
                "" if layer.by_name else "by place",
                "equal" if equal else f"{layer.sqnr_db:.1f}",
                "" if equal else f"{layer.max_error:.4g}",
                "" if equal or layer.max_lsb is None else f"{layer.max_lsb:.1f}",
                "" if equal else f"{layer.differing / layer.elements:.1%}",
            )
        )
    columns = ("op", "node", "shape", "", "SQNR dB", "largest error", "LSB", "differ")
    console = out()
    title = f"{result.b} against {result.a}, {result.samples} samples"
    console.print(table(title, columns, rows, 4))
    reasons: dict[str, list[str]] = {}
    for node, why in result.unmatched:
        reasons.setdefault(why, []).append(short_name(node, show.NODE_WIDTH))
    for why, nodes in reasons.items():
        more = f" and {len(nodes) - _LISTED} more" if len(nodes) > _LISTED else ""
        text = f"not compared: {', '.join(nodes[:_LISTED])}{more}: {why}"
        console.print(text, markup=False, soft_wrap=True)
    console.print(_verdict(result), markup=False)
    if pictures:
        console.print(f"wrote {', '.join(map(str, pictures))}", markup=False)


def _verdict(result: Difference) -> str:
    parts = result.parts_at
    if parts is None or parts.first is None:
        return f"no difference in {len(result.layers)} layers"
    sample, index = parts.first
    where = f"sample {sample}, element {list(index)}"
    text = f"they part at {parts.op} {short_name(parts.node, 60)}: {where}"
    steepest = result.steepest
    if steepest is not None and steepest is not parts:
        text += f"; most is lost at {steepest.op} {short_name(steepest.node, 60)}"
    return text
