"""Windows over NHWC tensors as index expressions: convolutions and pools."""

from __future__ import annotations

from typing import Any

from ...kernels.geometry import Geometry
from ..import_tvm import tirx


def window_at(g: Geometry, pixel: Any, kh: Any, kw: Any) -> tuple[Any, Any]:
    """Output pixel (over the whole batch) and tap → the input pixel, and whether it exists.

    The condition is None where every tap of every window lies inside the input.
    """
    sample, oh, ow = pixel // g.pixels, (pixel // g.out_w) % g.out_h, pixel % g.out_w
    h = oh * g.stride_h + kh * g.dilation_h - g.pad_top
    w = ow * g.stride_w + kw * g.dilation_w - g.pad_left
    place = (sample * g.in_h + h) * g.in_w + w
    if g.is_inner:
        return place, None
    return place, tirx.all(h >= 0, h < g.in_h, w >= 0, w < g.in_w)


def read_or(value: Any, inside: Any, otherwise: Any) -> Any:
    """`value` where `inside` holds; it is not read elsewhere."""
    return value if inside is None else tirx.if_then_else(inside, value, otherwise)
