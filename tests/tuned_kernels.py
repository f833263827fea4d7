"""Every tuned kernel on every case it applies to, as models for the emulators.

Selection would show only the cheapest kernel of each case; here each one runs, apart from its
input and as close to it as it allows, with guards around every buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinsmith.ir.dtypes import DType, Shape
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Case
from tinsmith.kernels import registry as kernel_registry
from tinsmith.kernels.kernel import Kernel
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.ops import registry
from tinsmith.ops.conv2d import Conv2dAttrs

from .cases import case_graph, case_inputs, cases_of, with_one_scale
from .kernel_models import KernelModel, run_on_board

SAME = (1, 1, 1, 1)

# A kernel of a node, and which of the node's inputs its output or its scratch comes close to.
Variant = tuple[Graph, Kernel, Mapping[str, int]]


def conv_case(name: str, x: Shape, out: int, window: tuple[int, int], **attrs: Any) -> Case:
    params = ((out, x[1] // attrs.get("groups", 1), *window), (out,))
    return Case(name, (x,), params=params, attrs=Conv2dAttrs(**attrs))


def one_node_graphs(more: Mapping[str, Sequence[Case]]) -> Iterator[Graph]:
    """Of every operator's cases, and of `more` of them by operator."""
    for op in registry().values():
        for case in (*cases_of(op, DType.INT8), *more.get(op.name, ())):
            graph = case_graph(op, case)
            if len(graph.nodes) == 1:
                yield graph
                if op.name == "dense":
                    yield with_one_scale(graph)


def variants(features: frozenset[str], more: Mapping[str, Sequence[Case]]) -> Iterator[Variant]:
    """Of the kernels that need exactly these features."""
    tuned = [k for k in kernel_registry() if k.features == features]
    for graph in one_node_graphs(more):
        (node,) = graph.nodes
        for kernel in candidates(node, graph, features, tuned):
            yield graph, kernel, {}
            for position in range(len(graph.inputs)):
                if kernel.lead_bytes(node, position) is not None:
                    yield graph, kernel, {"tight": position}
                if kernel.scratch_lead_bytes(node, position) is not None:
                    yield graph, kernel, {"covered": position}


def wrong(found: Iterable[Variant], board: str, folder: Path) -> list[str]:
    """Those that differ from the reference on one of two samples."""
    models = [KernelModel(f"m{i}", g, k, **near) for i, (g, k, near) in enumerate(found)]
    assert models
    samples = [[case_inputs(m.graph, seed) for seed in (0, 1)] for m in models]
    results, _ = run_on_board(folder, load_board(board), models, samples)
    return [
        f"{m.graph.name} {m.kernel.name} output over {m.tight} scratch over {m.covered}"
        for m, given, rows in zip(models, samples, results, strict=True)
        for sample, got in zip(given, rows, strict=True)
        if not np.array_equal(run(m.graph, sample)[0], got[0])
    ]
