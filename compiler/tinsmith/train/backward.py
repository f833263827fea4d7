"""The backward pass: walks the forward graph in reverse and lets every operator's rule emit nodes.

Only what somebody asked for is emitted: `wants` is true above or at something that trains. Clip
masks and saved channels are taken right after the value is computed, so the value itself can die.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Graph, Node, Origin, Value
from ..ir.opdef import Absent
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops._gradient import Gradient, Optimizer
from ..ops.clamp_mask import ClampMaskAttrs
from ..ops.pool_gradient import GatherChannelsAttrs
from ..ops.quantize_gradient import ClipMaskAttrs
from ..ops.sum_gradients import SumGradientsAttrs
from ..ops.velocity import CountSampleAttrs

LEARNING_RATE = TensorType((1,), DType.FLOAT32)
_PLAIN = Optimizer()


def trains(node: Node) -> bool:
    """Whether the node itself holds something that learns."""
    return node.op.name in ("conv2d_trainable", "conv2d_float") and (
        node.attrs.train_bias or bool(node.inputs[2].type.elements)
    )


def wanted_values(graph: Graph) -> set[Value]:
    """The values at or below something that trains: those that need a gradient."""
    wanted: set[Value] = set()
    for node in graph.nodes:
        if trains(node) or wanted.intersection(node.inputs):
            wanted.update(node.outputs)
    return wanted


class Backward:
    """Implements `ops._gradient.GradientContext` for one graph."""

    def __init__(
        self,
        graph: Graph,
        rule: str,
        pass_name: str,
        optimizer: Optimizer = _PLAIN,
        gradients: str = "int8",
    ) -> None:
        self.graph = graph
        self.rule = rule
        self.gradients = gradients
        self.optimizer = optimizer
        self.rewriter = Rewriter(graph, pass_name)
        name = self.rewriter.unique("learning_rate")
        self.learning_rate = Value(name, LEARNING_RATE)
        self.updates: list[tuple[Value, Value]] = []
        self.position: Value | None = None
        if optimizer.batch > 1:
            self.position = self.state("batch.position", np.zeros(1, np.int32))
        self._wanted = wanted_values(graph)
        self._gradients: dict[Value, Gradient] = {}
        self._after: dict[Value, list[Node]] = {}
        self._taken: dict[tuple[Value, Any], Value] = {}
        self._origin = Origin()

    def run(self, root: Value, loss: Sequence[Node], dy: Value) -> tuple[Node, ...]:
        """All nodes of the training graph: forward, the loss's, backward and updates.

        dy: the gradient of `root`, an output of the last node of `loss`.
        """
        self.rewriter.nodes.extend(loss)
        self.add(root, dy, 1.0)
        for node in reversed(self.graph.nodes):
            gradients = [self._gradients.pop(v, None) for v in node.outputs]
            if any(g is not None for g in gradients):
                self._cross(node, gradients)
        self._count_sample()
        forward = [n for node in self.graph.nodes for n in (node, *self._taken_after(node))]
        at_inputs = [n for v in self.graph.inputs for n in self._after.get(v, ())]
        return (*at_inputs, *forward, *self.rewriter.nodes)

    def _taken_after(self, node: Node) -> list[Node]:
        return [n for v in node.outputs for n in self._after.get(v, ())]

    def _cross(self, node: Node, gradients: Sequence[Gradient | None]) -> None:
        rule = node.op.gradient
        if isinstance(rule, Absent):
            raise CompileError(
                f"training cannot go through {node.op.name}: {rule.reason}",
                node=str(node.origin),
                hint="train only layers after this node",
            )
        self._origin = node.origin
        rule(node, gradients, self)

    def _count_sample(self) -> None:
        """After everything that asks how far the batch is."""
        if self.position is not None:
            self._origin = Origin()
            attrs = CountSampleAttrs(self.optimizer.batch)
            (after,) = self.emit("count_sample", [self.position], attrs, "batch.position.new")
            self.update(self.position, after)

    def wants(self, value: Value) -> bool:
        return value in self._wanted

    def add(self, value: Value, dy: Value, factor: float) -> None:
        if not self.wants(value):
            return
        old = self._gradients.get(value)
        if old is None:
            self._gradients[value] = Gradient(dy, factor)
            return
        attrs = SumGradientsAttrs(old.factor, factor)
        (total,) = self.emit("sum_gradients", [old.value, dy], attrs, f"{value.name}.sum")
        self._gradients[value] = Gradient(total)

    def mask(self, value: Value, low: float, high: float) -> Value:
        if value.type.dtype is DType.FLOAT32:
            return self._take("clamp_mask", value, ClampMaskAttrs(low, high), "mask")
        return self._take("clip_mask", value, ClipMaskAttrs(int(low), int(high)), "mask")

    def save(self, value: Value, channels: tuple[int, ...]) -> Value:
        if not channels or channels == tuple(range(value.type.shape[-1])):
            return value
        return self._take("gather_channels", value, GatherChannelsAttrs(channels), "saved")

    def _take(self, op: str, value: Value, attrs: Any, suffix: str) -> Value:
        """A small node right after the one that computes `value`; the same one when asked again."""
        key = (value, attrs)
        if key not in self._taken:
            record = get(op)
            (type_,) = record.infer([value.type], attrs)
            made = Value(self.rewriter.unique(f"{value.name}.{suffix}"), type_)
            origin = self._origin.rewritten_by(self.rewriter.pass_name)
            node = Node(record, (value,), (made,), attrs, origin)
            self._after.setdefault(value, []).append(node)
            self._taken[key] = made
        return self._taken[key]

    def emit(
        self, op: str, inputs: Sequence[Value], attrs: Any = None, name: str = ""
    ) -> tuple[Value, ...]:
        return self.rewriter.emit(get(op), inputs, attrs, origin=self._origin, name=name or op)

    def constant(self, hint: str, array: Array) -> Value:
        return self.rewriter.constant(hint, array)

    def array(self, value: Value) -> Array:
        return self.rewriter.initializers[value]

    def state(self, hint: str, array: Array) -> Value:
        return self.rewriter.constant(hint, array)

    def update(self, old: Value, new: Value) -> None:
        self.updates.append((old, new))
