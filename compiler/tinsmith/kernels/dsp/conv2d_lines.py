"""First layers: convolution of few channels over input lines that were widened once.

Windows of neighbouring pixels overlap in a line of halves, so a pair of pixels reads `reach + step`
words of it: what one pixel needs, and how far the other one is. Where neighbours lie an odd number
of halves apart, the pairs are of every second pixel, and there are two copies of a line, the second
of which begins a half later: so all windows begin at words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry
from ..kernel import Constant, Kernel
from ..packing import pad_axis, words_of_halves
from ._uniform import uniform
from ._weights import FEATURES, MAX_STORE_OFFSET

_REGISTERS = 8  # r2…r9, for inputs and weights
_MAX_WORDS = 16  # of a window: its block is written out


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.dilation_h == g.dilation_w == 1
        and g.out_c % 2 == 0
        and 2 * g.out_c + 1 <= MAX_STORE_OFFSET
        and g.out_w > 1
        and _reach(g) * g.kernel_h <= _MAX_WORDS
        and _steps(_reach(g), _step(g)) is not None
        and uniform(node, graph) is not None
    )


def _reach(g: Geometry) -> int:
    """Words of a line in a window."""
    return -(-g.kernel_w * g.in_c // 2)


def _phases(g: Geometry) -> int:
    """Copies of a line."""
    return 1 + g.stride_w * g.in_c % 2


def _step(g: Geometry) -> int:
    """Words from a pixel's window to that of the other one of its pair."""
    return _phases(g) * g.stride_w * g.in_c // 2


def _line_words(g: Geometry) -> int:
    """As many as are filled, and as the windows of an even number of pixels read."""
    filled = -(-(g.pad_left + g.in_w) * g.in_c // 2)
    pairs = -(-g.out_w // (2 * _phases(g)))
    return max(filled, _first(g, _phases(g) - 1) + (2 * pairs - 1) * _step(g) + _reach(g))


def _first(g: Geometry, phase: int) -> int:
    """The word of its copy at which the window of pixel `phase` begins."""
    return phase * (g.stride_w * g.in_c - 1) // 2


def _steps(reach: int, step: int) -> tuple[tuple[Any, ...], ...] | None:
    """What a pair of pixels and a pair of channels do with a line; None where registers are short.

    ("inputs", registers): words to load; ("weights", registers): in the order word 0 of both
    channels, word 1 of both…; ("sum", pixel, channel, input, weight, begins): registers,
    and whether it is the pixel's first. Words that only the second pixel reads replace those that
    only the first one does.
    """
    room = _REGISTERS - reach
    if not 0 < step < reach or room < 2:
        return None
    weights = [(i, c) for i in range(reach) for c in range(2)]
    inputs, loaded = 2, False
    found: list[tuple[Any, ...]] = [("inputs", _list(inputs, reach))]
    for first in range(0, len(weights), room):
        group = weights[first : first + room]
        base = inputs + reach
        found.append(("weights", _list(base, len(group))))
        late = [w for w in group if w[0] + step >= reach]
        for pixel, some in ((1, [w for w in group if w not in late]), (0, group), (1, late)):
            if some is late and late and not loaded:
                if any(i < step for i, _ in weights[first + room :]):
                    return None
                found.append(("inputs", _list(inputs, step)))
                loaded = True
            for i, c in some:
                at = i + pixel * step
                register = inputs + (at if at < reach else at - reach)
                found.append(("sum", pixel, c, register, base + group.index((i, c)), i == 0))
    return tuple(found)


def _list(first: int, count: int) -> str:
    """As LDM takes registers."""
    return "{" + ", ".join(f"r{r}" for r in range(first, first + count)) + "}"


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    return {
        **vars(g),
        "steps": _steps(_reach(g), _step(g)),
        "reach": _reach(g),
        "step": _step(g),
        "line_words": _line_words(g),
        "phases": _phases(g),
        "starts": tuple(_first(g, phase) for phase in range(_phases(g))),
        "overlap": max(0, g.kernel_h - g.stride_h),
        "stream_bytes": g.out_c // 2 * (2 * g.kernel_h * _reach(g) + 4) * 4,
        "shift": form.shift,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    """The lines of a window, and two pixels' outputs where their number is odd."""
    del graph
    g = conv_geometry(node)
    rest = (_phases(g) + 1) * g.out_c if g.out_w % (2 * _phases(g)) else 0
    return g.kernel_h * _phases(g) * _line_words(g) * 4 + rest


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """C, then per pair of channels 2 starts, per line and word those of both, 2 multipliers."""
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    w = form.weights.reshape(*form.weights.shape[:2], -1)
    w = pad_axis(w, 2, 2)
    words = words_of_halves(w[..., 0::2], w[..., 1::2])  # [O, kernel_h, reach]
    pairs = words.reshape(len(w) // 2, 2, -1).transpose(0, 2, 1).reshape(len(w) // 2, -1)
    ends: list[Array] = [a.reshape(-1, 2) for a in (form.start, form.multiplier)]
    stream = np.ravel(np.concatenate([ends[0], pairs, ends[1]], 1))
    return {"stream": Constant(np.concatenate([[form.offset], stream]).astype(np.int32))}


def _lead(node: Node, index: int) -> int | None:
    """Before a row is written, all lines of its windows have been widened."""
    if index != 0:
        return None
    g = conv_geometry(node)
    return max(
        (oy + 1) * g.out_row_bytes
        - min(max(0, oy * g.stride_h - g.pad_top + g.kernel_h), g.in_h) * g.row_bytes
        for oy in range(g.out_h)
    )


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    steps = _steps(_reach(g), _step(g))
    assert steps is not None, "applies() promised"
    block = g.out_c // 2 * (g.kernel_h * (len(steps) + 1) + 21) + 8
    fresh = min(g.kernel_h, g.stride_h)
    line = _phases(g) * (1.4 * g.in_w * g.in_c + 40)
    copied = (g.kernel_h - fresh) * _phases(g) * _line_words(g) * 0.75
    return g.out_h * (-(-g.out_w // 2) * block + fresh * line + copied + 40 * _phases(g))


KERNELS = (
    Kernel(
        name="conv2d_lines_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_lines.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)
