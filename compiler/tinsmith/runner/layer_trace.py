"""What every node of a project computed on its device, for one sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node
from .execute import trace_sequence
from .project import Project
from .protocol import Sample


def device_trace(
    project: Project, inputs: Sequence[Array]
) -> Iterator[tuple[Node, tuple[Array, ...]]]:
    """Every node with its outputs, in order, as `ir.interpret.trace` yields them; nothing of a node
    that the device does not trace. The project is built with a trace. Raises as `trace_sequence`.
    """
    graph = project.graph
    commands = [*project.start, Sample(tuple(inputs))]
    types = [*([] for _ in project.start), [v.type for v in graph.outputs]]
    found: dict[int, list[Array]] = {}
    for record in trace_sequence(project.elf(trace=True), project.board, types, commands):
        outputs = found.setdefault(record.node, [])
        type_ = graph.nodes[record.node].outputs[len(outputs)].type
        dtype = type_.dtype.numpy.newbyteorder("<")
        outputs.append(np.frombuffer(record.data, dtype).reshape(type_.shape))
    for index, node in enumerate(graph.nodes):
        yield node, tuple(found.get(index, ()))
