"""Kernels of dense, and of conv2d over a single pixel: a row is widened in scratch, then multiplied
with four channels at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..geometry import is_single_pixel, row_lead
from ..kernel import Constant, Kernel
from ._weights import FEATURES


def row_kernels(
    suffix: str,
    template: str,
    step: int,
    *,
    applies: Callable[[Node, Graph], bool],
    view: Callable[[Node, Graph], Mapping[str, Any]],
    constants: Callable[[Node, Graph], Mapping[str, Constant]],
    instructions: Callable[[Node, Graph], float],
) -> tuple[Kernel, ...]:
    """The records for both operators. template: its file; step: inputs that its block takes at a
    time; applies: asked of nodes of the right shape only."""
    return tuple(
        Kernel(
            name=f"{op}_{suffix}",
            op=op,
            template=f"targets/arm-dsp/kernels/{template}",
            features=FEATURES,
            applies=lambda node, graph: _is_row(node) and applies(node, graph),
            view=lambda node, graph: {**_facts(node, step), **view(node, graph)},
            constants=constants,
            scratch_bytes=lambda node, graph: _scratch_bytes(node, step),
            lead_bytes=row_lead,
            scratch_lead_bytes=_scratch_lead,
            instructions=instructions,
        )
        for op in ("dense", "conv2d")
    )


def _is_row(node: Node) -> bool:
    return node.op.name == "dense" or is_single_pixel(node)


def _facts(node: Node, step: int) -> dict[str, Any]:
    k = node.x.shape[-1]
    return {
        "k": k,
        "padded": -(-k // step) * step,
        "rows": node.x.elements // k,
        "out_c": node.y.shape[-1],
        "q_min": node.attrs.q_clamp[0],
        "q_max": node.attrs.q_clamp[1],
    }


def _scratch_bytes(node: Node, step: int) -> int:
    """A row as int16, and its outputs where there are more of them than channels."""
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    return -(-k // step) * step * 2 + (-(-out_c // 4) * 4 if out_c % 4 else 0)


def _scratch_lead(node: Node, index: int) -> int | None:
    """Widened from its start on, four inputs at a time, a single row may come to lie over itself:
    four that begin at byte 4·i of the input become the bytes 8·i … 8·i + 8 of scratch."""
    k = node.x.shape[-1]
    return k // 4 * 4 if index == 0 and node.x.elements == k else None
