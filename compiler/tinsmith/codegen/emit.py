"""A planned graph → the C sources of the model. Same input, same bytes: no times, no paths.

The files: `<model>.h` (the API), `<model>.c` (kernels and the run), `<model>_weights.h` and
`<model>_weights.c` (constants).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .. import __version__, paths
from ..errors import CompileError, InternalError
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Graph, Node, Value
from ..ir.interpret import run
from ..ir.printer import graph_hash
from ..kernels.kernel import Constant, KernelCall
from ..plan.model import MemoryPlan, short_name
from .c_text import INDENT, c_comment, c_comment_block, c_model_name
from .environment import render
from .functions import Functions, call_text
from .views import ArrayView, ModelView, PortView, StepView
from .weights import Weights, array_view

_FILES = {
    "{}.h": "codegen/model.h.j2",
    "{}.c": "codegen/model.c.j2",
    "{}_weights.h": "codegen/weights.h.j2",
    "{}_weights.c": "codegen/weights.c.j2",
}


@dataclass(frozen=True)
class Program:
    """What is emitted.

    Attributes:
        graph: stage PLANNED, its nodes in the order they run.
        calls: from `select_kernels`, in the same order.
        sample: one array per graph input, embedded for the self-test; None: seeded random data.
    """

    graph: Graph
    calls: Sequence[KernelCall]
    plan: MemoryPlan
    sample: Sequence[Array] | None = None

    @property
    def c_name(self) -> str:
        return c_model_name(self.graph.name)


def emit(program: Program) -> dict[str, str]:
    """File name → text. Raises CompileError when the model cannot be expressed."""
    return render_model(model_view(program))


def render_model(view: ModelView) -> dict[str, str]:
    """File name → text of a model."""
    return {
        name.format(view.name): render(template, {"model": view})
        for name, template in _FILES.items()
    }


def model_view(program: Program) -> ModelView:
    """What the templates see of a program. Raises CompileError for an output that is constant."""
    graph, plan = program.graph, program.plan
    if tuple(n.name for n in graph.nodes) != tuple(plan.order):
        raise InternalError("the graph's nodes are not in the order of the plan")
    for value in (*graph.inputs, *graph.outputs):
        if value not in plan.offsets:
            raise CompileError(
                f"output {value.name!r} is a constant", hint="remove it from the model's outputs"
            )
    name = program.c_name
    functions, weights = Functions(), Weights(name)
    steps = tuple(_steps(program, functions, weights))
    inputs = [_port(v, i, "input", program) for i, v in enumerate(graph.inputs)]
    outputs = [_port(v, i, "output", program) for i, v in enumerate(graph.outputs)]
    return ModelView(
        name=name,
        macro=name.upper(),
        title=c_comment(short_name(graph.name, 60)),
        version=__version__,
        model_hash=graph_hash(graph),
        runtime_version=runtime_version(),
        arena_bytes=plan.arena_bytes,
        arena_alignment=plan.alignment,
        macs=sum(n.op.macs(n) for n in graph.nodes),
        weights_bytes=weights.bytes,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        functions=functions.views(),
        steps=steps,
        weights=weights.views(),
        samples=tuple(_samples(program, inputs, outputs)),
        uses_float=any(v.type.dtype is DType.FLOAT32 for v in graph.values),
    )


def random_sample(graph: Graph) -> list[Array]:
    """Seeded data for every input: the full int8 range, or a standard normal in float32."""
    rng = np.random.default_rng(0)
    return [
        rng.integers(
            *v.type.dtype.range, size=v.type.shape, endpoint=True, dtype=v.type.dtype.value
        )
        if v.type.dtype is not DType.FLOAT32
        else rng.standard_normal(v.type.shape).astype(np.float32)
        for v in graph.inputs
    ]


def runtime_version() -> int:
    """TS_RUNTIME_VERSION of the runtime this compiler ships."""
    header = paths.RUNTIME_C / "include" / "tinsmith" / "ts_version.h"
    found = re.search(r"#define TS_RUNTIME_VERSION (\d+)", header.read_text())
    if found is None:
        raise InternalError("ts_version.h does not define TS_RUNTIME_VERSION")
    return int(found.group(1))


def _steps(program: Program, functions: Functions, weights: Weights) -> Iterator[StepView]:
    graph, plan = program.graph, program.plan
    calls = {call.node.name: call for call in program.calls}
    for index, node in enumerate(graph.nodes):
        call = calls.get(node.name)
        if node.name in plan.in_place:
            text, kernel = "", "in place"
        elif call is not None:
            function = functions.add(call, graph)
            text = call_text(function, call, graph, plan, weights.add(call))
            kernel = call.kernel.name
        else:
            raise InternalError(f"no kernel was selected for {node.name}", node=str(node.origin))
        yield StepView(
            c_comment_block(list(_comment(index, node, kernel, program)), INDENT),
            text,
            tuple((plan.offsets[v], v.type.bytes) for v in node.outputs),
        )


def _comment(index: int, node: Node, kernel: str, program: Program) -> Iterator[str]:
    plan, graph = program.plan, program.graph
    onnx = node.origin.onnx_name
    short, known = short_name(node.name, 64), short_name(onnx, 64)
    name = "" if short == known else f" {short}"
    origin = f", {node.origin.onnx_op} {known!r}" if onnx else ""
    yield f"{index}. {node.op.name}{name}{origin}"
    reads = " + ".join(type_text(v.type) for v in node.inputs if v in plan.offsets)
    writes = " + ".join(type_text(v.type) for v in node.outputs)
    macs = node.op.macs(node)
    yield f"{reads} -> {writes}, {kernel}" + (f", {macs} MACs" if macs else "")
    spans = [_span(v, plan) for v in graph.activations(node)]
    place = f"arena {' '.join(spans)} -> {' '.join(_span(v, plan) for v in node.outputs)}"
    if node.name in plan.scratch:
        place += f", scratch at {plan.scratch[node.name]}"
    yield place


def type_text(type_: TensorType) -> str:
    """int8 1x49x10x1."""
    return f"{type_.dtype.value} {'x'.join(map(str, type_.shape)) or 'scalar'}"


def _span(value: Value, plan: MemoryPlan) -> str:
    start = plan.offsets[value]
    return f"[{start}, {start + value.type.bytes})"


def _port(value: Value, index: int, kind: str, program: Program) -> PortView:
    type_ = value.type
    prefix = program.c_name
    return PortView(
        index=index,
        name=value.name,
        comment=c_comment_block(
            [f"{kind} {index}: {short_name(value.name, 64)}, {type_text(type_)}"]
        ),
        macro=f"{prefix}_{kind}_{index}".upper(),
        c_type=type_.dtype.c,
        shape=type_.shape,
        elements=type_.elements,
        bytes=type_.bytes,
        offset=program.plan.offsets[value],
        scale=type_.scale if type_.quant else None,
        zero_point=type_.zero_point if type_.quant else None,
        sample=f"{prefix}_sample_{kind}_{index}",
        is_float=type_.dtype is DType.FLOAT32,
    )


def _samples(
    program: Program, inputs: Sequence[PortView], outputs: Sequence[PortView]
) -> Iterator[ArrayView]:
    """The embedded sample and what the oracle computes from it."""
    graph = program.graph
    given = program.sample if program.sample is not None else random_sample(graph)
    expected = run(graph, given)
    for port, array in zip((*inputs, *outputs), (*given, *expected), strict=True):
        yield array_view(port.sample, Constant(np.ravel(array)), f"self-test: {port.name}")
