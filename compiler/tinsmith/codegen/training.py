"""The training graph of a model, and what the generator says of it in C.

Graph inputs: the model's, then the label or target, then the learning rate; graph outputs: the
model's, then the loss. The second call of a secure image, which is a training graph too, has the
gradients of its caller for inputs and outputs, then the learning rate and no loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from ..errors import InternalError
from ..ir.dtypes import DType
from ..ir.graph import Graph, Stage, Value
from ..ir.printer import print_graph
from ..ir.rewrite import live_nodes
from ..kernels.kernel import Constant
from ..plan.model import short_name
from .c_text import c_comment_block
from .cuda import cuda_view, host_copies, host_ports
from .entry import port_view, step_views, type_text
from .functions import Functions
from .program import Program
from .state import StateBlock, sealed_state
from .views import StateView, TrainView
from .weights import Weights

_LOSSES = ("softmax_cross_entropy", "mse_loss", "float_cross_entropy", "float_mse")


def inference_graph(training: Graph) -> Graph:
    """The part of a training graph that `m_run` computes: the model, reading the current state."""
    outputs = training.outputs[:-1]
    alive = set(live_nodes(training, outputs))
    nodes = [n for n in training.nodes if n in alive]
    read = {v for n in nodes for v in n.inputs}
    return training.with_nodes(
        nodes,
        inputs=training.inputs[:-2],
        outputs=outputs,
        input_layouts=training.input_layouts[:-2],
        output_layouts=training.output_layouts[:-1],
        updates=tuple((old, old) for old in training.state if old in read),
        stage=Stage.TRAINING,
    )


def train_view(
    program: Program, functions: Functions, weights: Weights, state: StateBlock
) -> TrainView:
    """Raises InternalError for a graph without a learning rate."""
    graph, plan = program.graph, program.plan
    rate, loss = graph.inputs[-1], loss_of(graph)
    for value in (rate, *((loss,) if loss else ())):
        if value.type.dtype is not DType.FLOAT32 or value.type.elements != 1:
            raise InternalError(f"a training graph ends with a rate and a loss, not %{value.name}")
    label, classes = label_of(graph)
    sealed = sealed_state(graph)
    results = [v for v in graph.outputs if v != loss]
    inputs = [port_view(v, i, "train_input", program) for i, v in enumerate(graph.inputs[:-1])]
    outputs = [port_view(v, i, "train_output", program) for i, v in enumerate(results)]
    cuda = cuda_view(program, weights, state) if program.cuda is not None else None
    places = dict(plan.offsets)
    if cuda is not None:
        inputs, outputs = host_ports(inputs, cuda.inputs), host_ports(outputs, cuda.outputs)
        copies = zip((*graph.inputs, *graph.outputs), host_copies(cuda, graph), strict=True)
        places = {value: copy.host_offset for value, copy in copies}
    return TrainView(
        base_hash=base_hash(graph),
        arena_bytes=plan.arena_bytes if cuda is None else cuda.host_bytes,
        macs=sum(n.op.macs(n) for n in graph.nodes),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        rate_offset=places[rate],
        loss_offset=places[loss] if loss else None,
        label_offset=0 if label is None else places[graph.inputs[label]],
        classes=classes,
        steps=() if cuda else tuple(step_views(program, functions, weights, state)),
        state_bytes=state.bytes,
        stored_bytes=state.stored_bytes,
        batch=batch_of(graph),
        state=tuple(_parts(graph, weights, state)),
        sealed_offset=state.offsets[sealed] if sealed else None,
        cuda=cuda,
    )


def loss_of(graph: Graph) -> Value | None:
    """The last output, but of a secure image's second call, which has no loss."""
    made = {v for n in graph.nodes if n.op.name in _LOSSES for v in n.outputs}
    return graph.outputs[-1] if graph.outputs[-1] in made else None


def label_of(graph: Graph) -> tuple[int | None, int | None]:
    """(which graph input is the label, number of classes); None, None for another loss."""
    for node in graph.nodes:
        if node.op.name in ("softmax_cross_entropy", "float_cross_entropy"):
            return graph.inputs.index(node.inputs[1]), node.x.elements
    return None, None


def batch_of(graph: Graph) -> int:
    """Samples to an update."""
    return next((n.attrs.batch for n in graph.nodes if n.op.name == "count_sample"), 1)


def base_hash(training: Graph) -> str:
    """What stores and deltas of a model are bound to, SHA-256 in hexadecimal: of the graph's lines
    without their order, which depends on the board."""
    lines = sorted(print_graph(training).splitlines())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _parts(graph: Graph, weights: Weights, state: StateBlock) -> Iterator[StateView]:
    """What stores keep; state of the moment begins with zeros."""
    for value, offset in state.offsets.items():
        array = np.ravel(graph.initializers[value])
        if value in graph.transient:
            if array.any():
                raise InternalError(f"%{value.name} is state of the moment, and not 0 at first")
            continue
        start = ""
        if array.any():
            start = weights.add_array(value.name, "start", Constant(array))
        comment = c_comment_block([f"{short_name(value.name, 64)}, {type_text(value.type)}"])
        yield StateView(comment, offset, value.type.bytes, start)
