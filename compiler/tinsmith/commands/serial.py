"""`--port` of the commands that execute a project, and what they say about the line."""

from __future__ import annotations

from typing import Annotated

import typer

from ..serial_link.port import BAUD, Port
from ..toolchain.harness import HARNESSES
from .console import err

PortName = Annotated[
    str | None,
    typer.Option(
        "--port",
        metavar="PORT",
        help="of a board with serial firmware: /dev/ttyACM0, socket://host:5000, or qemu",
    ),
]
Baud = Annotated[int, typer.Option("--baud", min=300, help="of --port, as it was compiled")]
DEFAULT_BAUD = BAUD
PlaceName = Annotated[
    str | None,
    typer.Option("--labgrid", metavar="PLACE", help="of a board that labgrid shares: held inside"),
]
Coordinator = Annotated[
    str | None,
    typer.Option("--coordinator", metavar="HOST:PORT", help="of --labgrid; or LG_COORDINATOR"),
]
Harness = Annotated[
    str, typer.Option("--harness", help=f"how the firmware talks: {', '.join(HARNESSES)}")
]
HarnessBaud = Annotated[
    int | None, typer.Option("--baud", min=300, help="of --harness; by default the board's")
]


def serial_data(port: Port | None) -> dict[str, object]:
    """The line's part of a `--json` document; empty without `--port`."""
    if port is None:
        return {}
    found = port.statistics
    return {
        "serial": {
            "port": port.name,
            "payload_bytes": found.payload_bytes,
            "wire_bytes": found.traffic.wire_bytes,
            "seconds": round(found.seconds, 3),
            "payload_bytes_per_second": round(found.throughput),
            "damaged_frames": found.traffic.damaged,
            "repeated_frames": found.traffic.repeated,
            "sessions": found.sessions,
            "resets": found.resets,
        }
    }


def show_serial(port: Port | None) -> None:
    """The same in a line on stderr."""
    if port is None:
        return
    found = port.statistics
    text = f"note: {port.name}: {found.payload_bytes:,} B in {found.seconds:.1f} s, "
    text += f"{found.throughput:,.0f} B/s"
    if found.traffic.damaged:
        text += f"; {found.traffic.damaged:,} damaged frames were sent again"
    if found.resets:
        text += f"; the board was reset {found.resets}×"
    err().print(text, markup=False)
