"""Portable dense for one row: two sums in one register, weights as bytes, four to a word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel
from ..packing import pad_axis
from . import _halves, _tile
from .dense import lead_bytes, view

_CHANNELS = 4  # at a time: two pairs
_RUNS = (4, 8, 16)
_MASK = 0x00FF00FF  # of a word of weights, the bytes of a pair
_LEAST_DEPTH = 8


def applies(node: Node, graph: Graph) -> bool:
    one_row = math.prod(node.x.shape[:-1]) == 1
    return one_row and node.x.shape[-1] >= _LEAST_DEPTH and _tile.applies(node, graph)


def _view(node: Node, graph: Graph, *, few_registers: bool) -> Mapping[str, Any]:
    """run: inputs whose products are summed in halves. excess: whether any weights come apart.
    few_registers: for cores that have eight to multiply with.
    """
    run, kept, filters = _split(node, graph)
    return {
        **view(node, graph),
        **_tile.facts(node, graph),
        **_halves.facts(run),
        "channels": _CHANNELS,
        "few_registers": few_registers,
        "excess": bool((kept != filters).any()),
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """w: the mask, then a word for each input of four channels, of weights + 128; their order
    is that of the channels, of which 0 and 2, and 1 and 3, are pairs.

    excess_*: weights that are 0 in `w`: by block of four channels where they end, by entry the
    input and four weights.
    """
    run, kept, filters = _split(node, graph)
    shared = _tile.channel_constants(node, graph)
    bias = pad_axis(shared["bias"].array, 0, _CHANNELS)
    channel = np.arange(len(bias))
    runs = -(-filters.shape[1] // run)
    low = channel[channel % _CHANNELS < 2]
    found = {
        "w": Constant(np.concatenate([np.array([_MASK], np.uint32), _words(kept)])),
        "bias": Constant(_halves.starts(bias, low, low + 2, runs)),
        "rescale": shared["rescale"],
    }
    if (kept != filters).any():
        found |= _excess(filters - kept)
    return found


def _words(kept: Array) -> Array:
    blocks = pad_axis(kept + 128, 0, _CHANNELS).astype(np.uint8)
    ordered = blocks.reshape(-1, _CHANNELS, kept.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(ordered).view("<u4").ravel().astype(np.uint32)


def _excess(rest: Array) -> dict[str, Constant]:
    blocks = pad_axis(rest, 0, _CHANNELS).reshape(-1, _CHANNELS, rest.shape[1])
    block, at = np.nonzero(blocks.any(1))
    ends = np.searchsorted(block, np.arange(len(blocks)), side="right")
    return {
        "excess_ends": Constant(ends.astype(np.int32)),
        "excess_at": Constant(at.astype(np.int16)),
        "excess_w": Constant(np.ravel(blocks[block, :, at].astype(np.int8))),
    }


@lru_cache(maxsize=64)
def _split(node: Node, graph: Graph) -> tuple[int, Array, Array]:
    """The length of a run, the weights that stay in runs, all weights as int64."""
    filters = graph.constant(node.inputs[1]).astype(np.int64)
    tried = [(n, _halves.without_excess(filters, n)) for n in _RUNS]
    run, kept = min(tried, key=lambda t: _cost(filters, *t))
    return run, kept, filters


def _cost(filters: Array, run: int, kept: Array) -> float:
    """Instructions for the ends of runs, and for what comes after them."""
    blocks = -(-len(filters) // _CHANNELS)
    runs = blocks * -(-filters.shape[1] // run)
    return 10.0 * runs + 22.0 * _entries(filters, kept)


def _entries(filters: Array, kept: Array) -> int:
    blocks = pad_axis(filters - kept, 0, _CHANNELS).reshape(-1, _CHANNELS, filters.shape[1])
    return int(np.count_nonzero(blocks.any(1)))


def _scratch(node: Node, graph: Graph, *, few_registers: bool) -> int:
    run, _, filters = _split(node, graph)
    depth = filters.shape[1]
    return 4 * (2 * -(-depth // run) + few_registers * depth)


def _instructions(node: Node, graph: Graph) -> float:
    run, kept, filters = _split(node, graph)
    around = 4.0 * node.x.elements + 30.0 * node.y.elements + 60.0
    return 1.6 * node.op.macs(node) + _cost(filters, run, kept) + around


def _kernel(name: str, *, few_registers: bool) -> Kernel:
    return Kernel(
        name=name,
        op="dense",
        template="ops/dense_halves.c.j2",
        applies=applies,
        view=partial(_view, few_registers=few_registers),
        constants=_constants,
        scratch_bytes=partial(_scratch, few_registers=few_registers),
        lead_bytes=lead_bytes,
        instructions=_instructions,
    )


KERNELS = (
    _kernel("dense_halves_s8", few_registers=False),
    _kernel("dense_halves_few_s8", few_registers=True),
)
