"""weight_update of int8 gradients: a block of filters' gradients in scratch, then their step.

Sums are int32 in registers: a block of output channels by vectors of input channels, of a depthwise
layer one vector of channels per tap. Weights, bias and the rule's state are written in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ...kernels.portable import weight_update as portable
from ...ops.weight_update import WeightUpdateAttrs
from ...quant.arithmetic import INT32_MAX
from ..import_tvm import PrimFunc, T
from ..rule import Rule, Site
from ._emit import Expr, Frame, bind, broadcast, const, define, loop, spans, tails, vector
from ._float_functions import power_of_two
from ._strips import blocks
from ._update_rules import lanes_of, rounded, rule_of
from ._weight_gradient import (
    FILTERS_AT_ONCE,
    PLACES,
    G,
    Gradients,
    X,
    gather,
    is_depthwise,
    put_words,
    row_of,
    rows_of,
    scratch_bytes,
    words,
    zero,
)

_EXPONENT, _RATE = 1, 3  # positions among the inputs


def applies(node: Node, graph: Graph) -> bool:
    """int8 gradients of one sample; one group, or a depthwise layer; sums that fit int32."""
    samples, out_h, out_w, _ = node.x.shape
    attrs: WeightUpdateAttrs = node.attrs
    return (
        node.x.dtype is DType.INT8
        and samples == 1
        and {node.inputs[i] for i in (G, _EXPONENT, X, _RATE)} <= set(graph.activations(node))
        and (is_depthwise(node) or (attrs.groups == 1 and not attrs.update_channels))
        and out_h * out_w * 128 * 255 <= INT32_MAX
    )


def constants(site: Site) -> Mapping[str, Constant]:
    """The coefficients; the channels that move, of a depthwise layer not all of which do."""
    found = dict(portable.constants(site.node, site.graph))
    places = site.node.attrs.update_channels
    return {**found, PLACES: Constant(np.array(places, np.int32))} if places else found


def build(site: Site) -> PrimFunc:
    node = site.node

    def body(frame: Frame) -> None:
        job = _Job(site, frame)
        if node.attrs.update_channels:
            gather(site, frame)
        if is_depthwise(node):
            job.depthwise()
            return
        for block in blocks(rows_of(node), FILTERS_AT_ONCE):
            with loop(block.count) as b:
                first = bind(block.first + b * block.vectors)
                job.gradients.sums(first, block.vectors)
                job.step(first, block.vectors)

    return define(
        site,
        body,
        constants(site),
        state=portable.state(node, site.graph),
        scratch_bytes=scratch_bytes(site),
    )


@dataclass(frozen=True)
class _Job:
    """Blocks of filters: their gradients, and then their step."""

    site: Site
    frame: Frame

    @property
    def gradients(self) -> Gradients:
        return Gradients(self.site, self.frame)

    def depthwise(self) -> None:
        """Vectors of channels; then the filters of each vector take their step."""
        lanes = self.site.isa.lanes
        whole = rows_of(self.site.node) // lanes
        if whole:
            with loop(whole) as b:
                self._depthwise(bind(b * lanes), lanes)
        for first, width in tails(whole * lanes, rows_of(self.site.node), lanes):
            self._depthwise(first, width)

    def _depthwise(self, first: Expr, lanes: int) -> None:
        self.gradients.depthwise_sums(first, lanes)
        self.step(first, lanes)

    def step(self, first: Expr, count: int) -> None:
        """`count` filters from number `first` of those that move on, and their biases."""
        frame, places = self.frame, self.frame.constants.get(PLACES)
        with loop(count) as k:
            moving = bind(first + k)
            o = moving if places is None else bind(places.raw(moving))
            coefficient = bind(frame.constants["coefficient"].raw(o))
            with T.If(coefficient != const(0, "float32")), T.Then():
                exponent = frame.inputs[_EXPONENT].raw(0)
                rate = frame.inputs[_RATE].raw(0)
                scale = bind(coefficient * rate * power_of_two(exponent))
                self._step_filter(k, moving, o, scale)

    def _step_filter(self, k: Expr, moving: Expr, o: Expr, scale: Expr) -> None:
        """Filter o; its gradients, number k of the block, give way to how far its weights move."""
        node, frame, row = self.site.node, self.frame, row_of(self.site.node)
        attrs: WeightUpdateAttrs = node.attrs
        rule = rule_of(attrs.rule, frame.constants["trained"], frame.constants.get("residual"))
        rate = frame.inputs[_RATE].raw(0)

        def move(at: Expr, lanes: int) -> None:
            dw = words(frame, k * row + at, lanes).astype(vector("float32", lanes))
            step = dw * broadcast(scale, lanes)
            old = rule.held(o * row + at, moving * row + at, lanes)
            if attrs.weight_decay:
                pull = bind(rate * const(float(np.float32(attrs.weight_decay)), "float32"))
                held = rule.real(old[1], lanes)
                step = rounded(step, lanes) + rounded(broadcast(pull, lanes) * held, lanes)
            moved = rule.move(o * row + at, moving * row + at, old, bind(step), lanes)
            put_words(frame, k * row + at, moved, lanes)

        spans(row, lanes_of(attrs.rule, self.site.isa.lanes), move)
        zero_point = node.inputs[X].type.zero_point
        if zero_point:
            total = zero(1)
            with loop(row) as at:
                total.set(total.value + words(frame, k * row + at, 1))
            bias = frame.constants["bias"]
            bias.put(o, bias.raw(o) - total.value * const(zero_point, "int32"))


RULES = (
    Rule(
        "weight_update",
        build,
        constants=constants,
        applies=applies,
        state=portable.state,
        scratch_bytes=scratch_bytes,
    ),
)
