"""How `tune` shows what it measured of kernels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..plan.model import short_name
from ..runner.tune_kernels import Comparison, TunedKernels
from .console import out, print_json, table

_NODE_WIDTH = 40


def show_tuned(tuned: TunedKernels, path: Path, *, as_json: bool) -> None:
    """The kernels of each node, and where the measured order is another than the estimated one."""
    nodes: dict[str, list[Comparison]] = {}
    for row in tuned.compared:
        nodes.setdefault(row.node, []).append(row)
    changed = [
        name
        for name, rows in nodes.items()
        if min(rows, key=lambda r: r.estimate) != min(rows, key=lambda r: r.measured)
    ]
    if as_json:
        layers = {name: [asdict(row) for row in rows] for name, rows in nodes.items()}
        print_json({"measured": tuned.fresh, "changed": changed, "layers": layers})
        return
    rows = [
        (
            short_name(name, _NODE_WIDTH),
            row.kernel,
            "best" if row == min(group, key=lambda r: r.measured) else "",
            row.estimate,
            row.measured,
            f"{row.estimate / row.measured - 1:+.1%}",
        )
        for name, group in nodes.items()
        for row in sorted(group, key=lambda r: r.measured)
    ]
    out().print(table("", ("node", "kernel", "", "estimated", "measured", "off by"), rows, 3))
    out().print(
        f"{tuned.fresh} measured, {len(tuned.found.measured)} known; the measured order is another "
        f"at {len(changed)} of {len(nodes)} nodes; wrote {path}",
        markup=False,
    )
