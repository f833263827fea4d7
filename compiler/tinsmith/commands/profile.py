"""The command that says where the time goes."""

from __future__ import annotations

from collections.abc import Sequence

from ..codegen.report import read_report
from ..lab.place import reaching
from ..plan.model import short_name
from ..runner.profile import LayerProfile, draw_profile, measured_cycles, profile_layers, unit
from . import show
from .console import out, print_json, progress, reported, table
from .options import AsJson, Project
from .serial import (
    DEFAULT_BAUD,
    Baud,
    Coordinator,
    PlaceName,
    PortName,
    serial_data,
    show_serial,
)


@reported
def profile(
    project: Project,
    port: PortName = None,
    baud: Baud = DEFAULT_BAUD,
    labgrid: PlaceName = None,
    coordinator: Coordinator = None,
    json: AsJson = False,
) -> None:
    """Say what every node costs: instructions and estimated cycles, or time; draws it too."""
    report = read_report(project)
    with (
        progress(f"measuring {project}") as step,
        reaching(port, baud, place=labgrid, coordinator=coordinator, tell=step) as line,
    ):
        layers = profile_layers(project)
    pictures = draw_profile(layers, project, f"{report.model} on {report.board}")
    if json:
        print_json(
            {
                "model": report.model,
                "board": report.board,
                "unit": unit(layers),
                "nodes": [_row(layer) for layer in layers],
                "pictures": [str(path) for path in pictures],
                **serial_data(line),
            }
        )
        return
    show_serial(line)
    _print(layers)
    out().print(f"wrote {', '.join(map(str, pictures))}", markup=False)


def _row(layer: LayerProfile) -> dict[str, object]:
    return {
        "name": layer.node.name,
        "op": layer.node.op.name,
        "macs": layer.node.op.macs(layer.node),
        "instructions": layer.instructions,
        "estimated_cycles": None if layer.instructions is None else layer.cycles,
        "cycles": layer.cycles if layer.instructions is None else None,
        "us": layer.microseconds,
        "functions": {
            name: {"instructions": instructions, "estimated_cycles": cycles}
            for name, (instructions, cycles) in layer.functions.items()
        },
    }


def _print(layers: Sequence[LayerProfile]) -> None:
    total = sum(layer.cost for layer in layers) or 1.0
    measured = {
        "instructions": [layer.instructions for layer in layers],
        "cycles" if measured_cycles(layers) else "est. cycles": [
            None if x.cycles is None else round(x.cycles) for x in layers
        ],
        "µs": [layer.microseconds for layer in layers],
    }
    columns = {name: cells for name, cells in measured.items() if any(c is not None for c in cells)}
    rows: list[tuple[object, ...]] = []
    for i, layer in enumerate(layers):
        macs = layer.node.op.macs(layer.node)
        per_mac = layer.cost / macs if macs else None
        name = short_name(layer.node.name, show.NODE_WIDTH)
        cells = [column[i] for column in columns.values()]
        share = f"{layer.cost / total:.1%}"
        rows.append((layer.node.op.name, name, macs or None, *cells, share, per_mac))
    sums = [sum(c or 0 for c in column) for column in columns.values()]
    rows.append(("", "total", sum(x.node.op.macs(x.node) for x in layers), *sums, "", None))
    out().print(table("", ("op", "node", "MACs", *columns, "share", "per MAC"), rows, 2))
