"""How often the parts of the DSP extension's convolutions run, exactly; see `kernels/counts`.

A count is named after the function it is of, which a fit takes by itself: "block.quads" are the
quads of NAME_block. "c" is what the compiler makes of all other functions. Blocks are written by
hand, so their counts times whole numbers are what they execute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...geometry import Geometry
from .._types import Counts, View
from ._gemm import depthwise, gemm
from ._lines import lines, resident
from ._pairs import pairs
from ._planes import planes
from ._winograd import winograd, winograd_rows

TEMPLATES: Mapping[str, Callable[[Geometry, View], Counts]] = {
    "conv2d_gemm.c.j2": gemm,
    "conv2d_lines.c.j2": lines,
    "conv2d_pairs.c.j2": pairs,
    "conv2d_resident.c.j2": resident,
    "conv2d_winograd.c.j2": winograd,
    "conv2d_winograd_rows.c.j2": winograd_rows,
    "depthwise.c.j2": depthwise,
    "depthwise_planes.c.j2": planes,
}
