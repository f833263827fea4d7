"""A chain of convolutions in stripes of rows: who computes which rows when, and in how many bytes.

It may end in an addition of what it began with, the shortcut of a residual block.

Every row is computed once. Where the window of a stripe reaches back into rows that the stripe
before has made, those rows are kept: the line buffers of a streamed network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from ..ir.graph import Node
from ..kernels.geometry import Geometry, conv_geometry, forward_lead

STRIPES = "stripe_rows"  # the pass, in the origin of the nodes that it made
ALIGNMENT = 16  # the largest of any target: what is laid out in place must start there

Rows = tuple[int, int]  # [first, last)


@dataclass(frozen=True)
class Stripe:
    """read: per node the rows of its input that it reads. made: per node the rows it computes."""

    read: tuple[Rows, ...]
    made: tuple[Rows, ...]

    def kept(self, k: int) -> int:
        """How many rows that node k reads are of the stripe before."""
        return max(0, self.made[k - 1][0] - self.read[k][0]) if k else 0


@dataclass(frozen=True)
class Chain:
    """Convolutions, each read by the next alone, in `count` stripes; the last node may be the
    addition of x, the input of the first.

    first: position of the first in the graph. dies: nobody else reads x.
    """

    nodes: tuple[Node, ...]
    first: int
    count: int
    dies: bool = False

    @property
    def last(self) -> int:
        return self.first + len(self.nodes) - 1

    @cached_property
    def stripes(self) -> tuple[Stripe, ...]:
        """All of as many rows of y, so that they share code, but for a smaller last one."""
        height = self.nodes[-1].y.shape[1]
        cuts = [min(height, -(-height // self.count) * k) for k in range(self.count + 1)]
        done = [0] * len(self.nodes)  # rows of each node's input that exist already
        return tuple(self._stripe(rows, done) for rows in pairwise(cuts))

    def _stripe(self, rows: Rows, done: list[int]) -> Stripe:
        read, made = [(0, 0)] * len(self.nodes), [rows] * len(self.nodes)
        for k in reversed(range(len(self.nodes))):
            g = row_geometry(self.nodes[k])
            first, last = window(g, *made[k])
            read[k] = (max(first, 0), min(last, g.in_h))
            if k:
                made[k - 1] = (max(read[k][0], done[k]), read[k][1])
                done[k] = max(done[k], read[k][1])
        return Stripe(tuple(read), tuple(made))

    @cached_property
    def is_possible(self) -> bool:
        """Whether every stripe computes something, and all rows can lie where they belong without a
        copy."""
        y = self.row_bytes[-1]
        return all(
            s.made[-1][0] * y % ALIGNMENT == 0
            and s.read[0][0] * self.row_bytes[0] % ALIGNMENT == 0
            and all(a < b for a, b in (*s.read, *s.made))
            and all(s.kept(k) * self.row_bytes[k] % ALIGNMENT == 0 for k in range(len(s.read)))
            for s in self.stripes
        )

    @cached_property
    def row_bytes(self) -> tuple[int, ...]:
        """Of x, of what lies between the nodes, and of y."""
        types = (self.nodes[0].x, *(n.y for n in self.nodes))
        return tuple(t.bytes // t.shape[1] for t in types)

    @cached_property
    def kept_bytes(self) -> int:
        """Copied from stripe to stripe."""
        nodes = range(len(self.nodes))
        return sum(s.kept(k) * self.row_bytes[k] for s in self.stripes for k in nodes)

    @cached_property
    def bytes(self) -> int:
        """Live at most: x and y, and what lies between as it overlaps at best."""
        return self._ends + max(self._live(i) for i in range(self.count))

    @property
    def has_shortcut(self) -> bool:
        return self.nodes[-1].op.name != "conv2d"

    @property
    def _ends(self) -> int:
        """Bytes of x and y. Where x dies the rows of y may take the place of its rows; those that
        an addition reads die with it."""
        x, y = self.nodes[0].x.bytes, self.nodes[-1].y.bytes
        if not self.dies:
            return x + y
        dead = [s.read[0][0] * self.row_bytes[0] for s in self.stripes[1:]] + [x]
        if self.has_shortcut:
            added = [s.made[-1][1] * self.row_bytes[0] for s in self.stripes]
            dead = list(map(min, dead, added))
        above = max(
            s.made[-1][1] * self.row_bytes[-1] - d for s, d in zip(self.stripes, dead, strict=True)
        )
        return max(-(-max(above, 0) // ALIGNMENT) * ALIGNMENT + x, y)

    def _live(self, i: int) -> int:
        """Bytes between x and y at the largest step of stripe i."""
        stripe, size, count = self.stripes[i], self.row_bytes, len(self.nodes)
        coming = [0] * (count + 1)
        if i + 1 < self.count:
            coming = [self.stripes[i + 1].kept(k) * size[k] for k in range(count)]
        most = 0
        for k, node in enumerate(self.nodes):
            a, b = stripe.read[k]
            part = (b - a) * size[k] if k else 0
            made = 0
            if k + 1 < count:
                made = (stripe.made[k][1] - stripe.made[k][0]) * size[k + 1]
            both = part + made
            if part and made:
                lead = forward_lead(striped(conv_geometry(node), stripe.read[k], stripe.made[k]))
                both = min(both, max(part + lead, made))
            held = sum(coming[1 : k + 1])
            held += sum(stripe.kept(j) * size[j] for j in range(k + 1, count))
            most = max(most, both + held)
        return most


def row_geometry(node: Node) -> Geometry:
    """Of a convolution, or of an operator that computes element by element."""
    if node.op.name == "conv2d":
        return conv_geometry(node)
    _, height, width, channels = node.y.shape
    sizes = (height, width, channels)
    return Geometry(*sizes, *sizes, 1, 1, 1, 1, 0, 0, 1, 1)


def window(g: Geometry, first: int, last: int) -> Rows:
    """Input rows, the border included, that the output rows [first, last) read."""
    start = first * g.stride_h - g.pad_top
    return start, (last - 1) * g.stride_h - g.pad_top + (g.kernel_h - 1) * g.dilation_h + 1


def striped(g: Geometry, read: Rows, made: Rows) -> Geometry:
    """The geometry of the rows `made` from the rows `read`."""
    top = read[0] - window(g, *made)[0]
    return replace(g, in_h=read[1] - read[0], out_h=made[1] - made[0], pad_top=top)
