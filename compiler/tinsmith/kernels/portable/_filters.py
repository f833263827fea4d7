"""The filters of a layer that learns: two arrays in natural rows, in flash or in the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ..kernel import Constant

NAMES = ("frozen", "trained")


def parts(node: Node, first: int, in_c: int) -> list[Mapping[str, Any]]:
    """The arrays that are not empty; `first`: position of `frozen`, before `trained`.

    name: of the parameter; channels: per group; row: elements of one output channel; places: the
    input channel of each column, empty where it is the column itself.
    """
    trained = node.attrs.trained_channels
    kept = tuple(c for c in range(in_c) if c not in set(trained))
    found: list[Mapping[str, Any]] = []
    for name, value, places in zip(
        NAMES, node.inputs[first : first + 2], (kept, trained), strict=True
    ):
        out, kernel_h, kernel_w, channels = value.type.shape
        if channels:
            found.append(
                {
                    "name": name,
                    "channels": channels,
                    "row": kernel_h * kernel_w * channels,
                    "places": places,
                    "out_c": out,
                    "type": value.type.dtype.c,
                }
            )
    return found if len(found) > 1 else [{**p, "places": ()} for p in found]


def constants(node: Node, first: int, graph: Graph) -> dict[str, Constant]:
    """Those filters that are not state."""
    return {
        name: Constant(np.ravel(graph.constant(value)))
        for name, value in _filters(node, first).items()
        if value not in graph.storage
    }


def state(node: Node, first: int, graph: Graph) -> dict[str, Value]:
    return {n: v for n, v in _filters(node, first).items() if v in graph.storage}


def _filters(node: Node, first: int) -> dict[str, Value]:
    both = zip(NAMES, node.inputs[first : first + 2], strict=True)
    return {name: value for name, value in both if value.type.elements}
