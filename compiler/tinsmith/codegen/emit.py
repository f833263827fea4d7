"""A planned graph → the C sources of the model. Same input, same bytes: no times, no paths.

The files: `<model>.h` (the API), `<model>.c` (kernels and the run), `<model>_weights.h` and
`<model>_weights.c` (constants).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from .. import __version__, paths
from ..errors import CompileError, InternalError
from ..ir.dtypes import Array, DType
from ..ir.graph import Graph
from ..ir.interpret import run
from ..ir.printer import graph_hash
from ..kernels.kernel import Constant
from ..plan.model import short_name
from .c_text import c_comment
from .cuda import cuda_view, host_ports
from .entry import port_view, step_views
from .environment import render
from .functions import Functions
from .program import Program
from .state import StateBlock
from .training import train_view
from .views import ArrayView, ModelView, PortView
from .weights import Weights, array_view

_FILES = {
    "{}.h": "codegen/model.h.j2",
    "{}.c": "codegen/model.c.j2",
    "{}_weights.h": "codegen/weights.h.j2",
    "{}_weights.c": "codegen/weights.c.j2",
}


def emit(program: Program) -> dict[str, str]:
    """File name → text. Raises CompileError when the model cannot be expressed."""
    return render_model(model_view(program))


def render_model(view: ModelView) -> dict[str, str]:
    """File name → text of a model."""
    templates = _FILES if view.cuda is None else _FILES | {"{}.c": "codegen/cuda_model.c.j2"}
    files = {
        name.format(view.name): render(template, {"model": view})
        for name, template in templates.items()
    }
    if view.cuda is not None:
        files[f"{view.name}_kernels.cu"] = view.cuda.source
    return files


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
    state = StateBlock.of(program.train.graph) if program.train else StateBlock()
    cuda = cuda_view(program, weights) if program.cuda is not None else None
    run_steps = tuple(step_views(program, functions, weights, state)) if cuda is None else ()
    train = train_view(program.train, functions, weights, state) if program.train else None
    inputs = [port_view(v, i, "input", program) for i, v in enumerate(graph.inputs)]
    outputs = [port_view(v, i, "output", program) for i, v in enumerate(graph.outputs)]
    if cuda is not None:
        inputs, outputs = host_ports(inputs, cuda.inputs), host_ports(outputs, cuda.outputs)
    return ModelView(
        name=name,
        macro=name.upper(),
        title=c_comment(short_name(graph.name, 60)),
        version=__version__,
        model_hash=graph_hash(graph),
        runtime_version=runtime_version(),
        arena_bytes=program.arena_bytes if cuda is None else cuda.host_bytes,
        arena_alignment=plan.alignment,
        macs=sum(n.op.macs(n) for n in graph.nodes),
        weights_bytes=weights.bytes,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        functions=functions.views(),
        steps=run_steps,
        weights=weights.views(),
        samples=tuple(_samples(program, inputs, outputs)),
        uses_float=any(v.type.dtype is DType.FLOAT32 for v in graph.values),
        uses_gateway=any(call.kernel.may_refuse for call in program.calls),
        compiled=program.library is not None,
        raises=bool(program.stored or (program.train and program.train.stored)),
        cuda=cuda,
        train=train,
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


def _samples(
    program: Program, inputs: Sequence[PortView], outputs: Sequence[PortView]
) -> Iterator[ArrayView]:
    """The embedded sample and what the oracle computes from it."""
    graph = program.graph
    given = program.sample if program.sample is not None else random_sample(graph)
    expected = program.expected if program.expected is not None else run(graph, given)
    for port, array in zip((*inputs, *outputs), (*given, *expected), strict=True):
        yield array_view(port.sample, Constant(np.ravel(array)), f"self-test: {port.name}")
