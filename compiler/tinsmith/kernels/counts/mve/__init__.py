"""How often the parts of the kernels for Helium run; see `kernels/counts`.

A count is named after the function it is of ("block.groups" of NAME_block, "c" of all others),
which a fit takes by itself. Blocks have a fixed text, so what they execute is a whole number times
each count. What a form of a block has more than another is counted as vector instructions
("vectors") or as steps of pointers and constants ("moves").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ....ir.graph import Node
from .._types import Counts, View
from ._columns import columns
from ._depthwise import depthwise, windows
from ._gemm import gemm, strips
from ._others import add, dense, permute_channels
from ._planes import flat, planes
from ._pools import pool, reduce_mean

TEMPLATES: Mapping[str, Callable[[Node, View], Counts]] = {
    "add.c.j2": add,
    "average_pool.c.j2": pool,
    "conv2d_columns.c.j2": columns,
    "conv2d_gemm.c.j2": gemm,
    "conv2d_strips.c.j2": strips,
    "dense.c.j2": dense,
    "depthwise.c.j2": depthwise,
    "depthwise_flat.c.j2": flat,
    "depthwise_planes.c.j2": planes,
    "depthwise_windows.c.j2": windows,
    "max_pool.c.j2": pool,
    "permute_channels.c.j2": permute_channels,
    "reduce_mean.c.j2": reduce_mean,
}
