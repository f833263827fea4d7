"""What an operator's gradient rule sees, and the float32 arithmetic that rules share.

A gradient is dL/dq: per unit of the int8 value it belongs to, as float32 of the value's shape.
Constant scalar factors are not multiplied at once: they wait in `Gradient.factor` until an operator
that multiplies anyway takes them in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, NoAttrs, OpDef, no_macs
from ._clamp import UNBOUNDED

_DEAD_SCALE = 1e-7
_NEAR_DEAD = 100.0  # times smaller than the layer's median
_BIAS_LIMIT = 2**30


@dataclass(frozen=True)
class Gradient:
    """`value` · `factor` is the gradient."""

    value: Value
    factor: float = 1.0


@dataclass(frozen=True)
class Optimizer:
    """How gradients become steps.

    batch: samples whose gradients make one step. momentum, weight_decay: of SGD.
    """

    batch: int = 1
    momentum: float = 0.0
    weight_decay: float = 0.0

    @property
    def keeps_velocity(self) -> bool:
        """Whether gradients outlive their sample, in a state of their own."""
        return self.batch > 1 or self.momentum > 0


class GradientContext(Protocol):
    """Emits the backward pass; see `train/backward.py`."""

    @property
    def learning_rate(self) -> Value: ...
    @property
    def rule(self) -> str: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def position(self) -> Value | None:
        """The state that counts the samples of a batch, int32[1]; None in batches of one."""
        ...

    @property
    def gradients(self) -> str:
        """Of convolutions' sums: int8 or float32."""
        ...

    def wants(self, value: Value) -> bool:
        """Whether something that trains lies at or above `value`."""
        ...

    def add(self, value: Value, dy: Value, factor: float) -> None:
        """dy · factor is a part of the gradient of `value`; dropped when nobody wants it."""
        ...

    def mask(self, value: Value, low: float, high: float) -> Value:
        """The bits of `low < value < high`, taken where `value` is computed."""
        ...

    def save(self, value: Value, channels: tuple[int, ...]) -> Value:
        """The channels of `value`, kept from where it is computed; all of them when equal."""
        ...

    def emit(
        self, op: str, inputs: Sequence[Value], attrs: Any = None, name: str = ""
    ) -> tuple[Value, ...]: ...

    def constant(self, hint: str, array: Array) -> Value: ...

    def array(self, value: Value) -> Array:
        """An initializer's array (of state: its first content)."""
        ...

    def state(self, hint: str, array: Array) -> Value:
        """A new initializer that the step changes."""
        ...

    def update(self, old: Value, new: Value) -> None: ...


def training_op(
    name: str,
    infer: Callable[[Sequence[TensorType], Any], Sequence[TensorType]],
    reference: Callable[[Node, Sequence[Array]], Sequence[Array]],
    attrs: type = NoAttrs,
    macs: Callable[[Node], int] = no_macs,
    updates: tuple[tuple[int, int], ...] = (),
    transient: tuple[int, ...] = (),
) -> OpDef:
    """The record of an operator that only `build_backward` makes."""
    made_here = Absent("build_backward makes it; no ONNX operator is like it")
    return OpDef(
        name=name,
        attrs=attrs,
        infer=infer,
        reference=reference,
        integer=Absent("it has one meaning only: its reference"),
        macs=macs,
        onnx_import=made_here,
        onnx_export=made_here,
        cases=Absent("its cases need state: tests/training_cases.py has them"),
        gradient=Absent("gradients of gradients are not needed"),
        updates=updates,
        transient=transient,
    )


GradientRule = Callable[[Node, Sequence[Gradient | None], GradientContext], None]


def one_gradient(gradients: Sequence[Gradient | None]) -> Gradient:
    """The gradient of the only output."""
    (dy,) = gradients
    assert dy is not None
    return dy


def masked(node: Node, dy: Gradient, context: GradientContext) -> Gradient:
    """dy where the output is inside its clamp, 0 elsewhere."""
    real = node.y.dtype is DType.FLOAT32
    return inside(node, dy, node.attrs.clamp if real else node.attrs.q_clamp, context)


def inside(
    node: Node, dy: Gradient, bounds: tuple[float, float], context: GradientContext
) -> Gradient:
    """dy where the output is between the bounds, 0 elsewhere."""
    if bounds == UNBOUNDED:
        return dy
    mask = context.mask(node.outputs[0], *bounds)
    (value,) = context.emit("mask_gradient", [dy.value, mask], None, f"{node.name}.masked")
    return Gradient(value, dy.factor)


def add_broadcast(context: GradientContext, x: Value, dy: Value, factor: float) -> None:
    """`context.add`, summed over the axes along which x was broadcast."""
    if not context.wants(x):
        return
    if x.type.shape != dy.type.shape:
        from .sum_gradients import ReduceGradientAttrs

        attrs = ReduceGradientAttrs(x.type.shape)
        (dy,) = context.emit("reduce_gradient", [dy], attrs, f"{x.name}.reduced")
    context.add(x, dy, factor)


def power_of_two(exponent: Array | int) -> np.float32:
    """2^e as float32 from its bits, −126 ≤ e ≤ 127."""
    bits = (np.int32(np.ravel(exponent)[0]) + np.int32(127)) << np.int32(23)
    return bits.view(np.float32)


def shared_exponent(t: Array) -> int:
    """The smallest e ≥ −126 with max|t| ≤ 127 · 2^e; −126 when t is not finite (or 0)."""
    bits = int(np.max(np.abs(t).view(np.int32), initial=0))
    if bits >= 0x7F800000:
        return -126
    return max(-126, ((bits + 0x1FFFF) >> 23) - 133)


def is_gradient(g: TensorType) -> bool:
    """Whether it can be the gradient of a convolution's sums: int8 with an exponent, or float32."""
    return g.dtype in (DType.INT8, DType.FLOAT32)


def unpack_mask(mask: Array, shape: tuple[int, ...]) -> Array:
    """bool array of a clip mask: bit i of byte j is element 8j + i."""
    count = int(np.prod(shape))
    return np.unpackbits(mask, count=count, bitorder="little").view(np.bool_).reshape(shape)


def frozen_channels(scales: Array, bias: Array) -> Array:
    """bool[O]: channels that must not train: 1/s² would be absurd, or the bias is saturated.

    scales: s_w per channel; bias: int32. A channel is near dead when its scale is below a hundredth
    of the median of the layer's live ones.
    """
    dead = scales < _DEAD_SCALE
    median = float(np.median(scales[~dead])) if np.any(~dead) else 0.0
    return dead | (scales < median / _NEAR_DEAD) | (np.abs(bias.astype(np.int64)) > _BIAS_LIMIT)


def channel_scales(w: Value) -> Array:
    """float64[O] scales of an OHWI filter."""
    assert w.type.quant is not None
    return np.broadcast_to(np.asarray(w.type.quant.scale, np.float64), (w.type.shape[0],))
