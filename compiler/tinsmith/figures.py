"""Pictures: one way to set up a figure and to write it, so that equal results give equal bytes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMATS: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None, "Creator": "tinsmith"},
    ".png": {"Software": None},
}


@contextmanager
def drawn(size: tuple[float, float], *paths: Path, font: float = 8.0) -> Generator[Any]:
    """A matplotlib Figure of `size` inches to draw on, written to every path (.svg or .png).

    Nothing is written when drawing raises.
    """
    # Not at the top: only a command that draws should pay for loading it.
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.hashsalt": "tinsmith", "svg.fonttype": "none", "font.size": font}
    with mpl.rc_context(style):
        figure = Figure(figsize=size, dpi=110)
        FigureCanvasAgg(figure)
        yield figure
        # What "tight" would lay out again for every path.
        bounds = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
        for path in paths:
            figure.savefig(path, metadata=FORMATS[path.suffix], bbox_inches=bounds)
