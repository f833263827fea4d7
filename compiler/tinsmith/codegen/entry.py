"""A program as an entry point of the C model: a step per node, and its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import InternalError
from ..ir.dtypes import DType, TensorType
from ..ir.graph import Node, Value
from ..plan.model import MemoryPlan, short_name
from .c_text import INDENT, c_comment_block
from .functions import Functions, call_text
from .program import Program
from .state import StateBlock
from .views import PortView, StepView, TraceView
from .weights import Weights


def step_views(
    program: Program, functions: Functions, weights: Weights, state: StateBlock
) -> Iterator[StepView]:
    """One step per node. Functions and constants are added to what other programs share."""
    graph, plan = program.graph, program.plan
    calls = {call.node.name: call for call in program.calls}
    for index, node in enumerate(graph.nodes):
        call = calls.get(node.name)
        if node.name in plan.in_place:
            text, kernel = "", "in place"
        elif call is not None:
            function = functions.add(call, graph)
            text = call_text(function, call, graph, plan, weights.add(call), state)
            kernel = call.kernel.name
        else:
            raise InternalError(f"no kernel was selected for {node.name}", node=str(node.origin))
        yield StepView(
            c_comment_block(list(comment_lines(index, node, kernel, program)), INDENT),
            text,
            tuple(_trace(v, program, state) for v in node.outputs),
        )


def _trace(value: Value, program: Program, state: StateBlock) -> TraceView:
    held = program.graph.storage.get(value)
    if held is not None:
        return TraceView("state", state.offsets[held], value.type.bytes)
    raised = value in program.stored
    return TraceView("arena", program.plan.offsets[value], value.type.bytes, raised)


def comment_lines(index: int, node: Node, kernel: str, program: Program) -> Iterator[str]:
    """What a node computes, by which kernel, from where to where."""
    plan, graph = program.plan, program.graph
    onnx = node.origin.onnx_name
    short, known = short_name(node.name, 64), short_name(onnx, 64)
    name = "" if short == known else f" {short}"
    origin = f", {node.origin.onnx_op} {known!r}" if onnx else ""
    yield f"{index}. {node.op.name}{name}{origin}"
    read, made = graph.activations(node), graph.results(node)
    reads = " + ".join(type_text(v.type) for v in read)
    writes = " + ".join(type_text(v.type) for v in node.outputs)
    macs = node.op.macs(node)
    yield f"{reads} -> {writes}, {kernel}" + (f", {macs} MACs" if macs else "")
    place = " ".join(_span(v, plan) for v in read)
    place = f"arena {place} -> {' '.join(_span(v, plan) for v in made) or 'state'}"
    if node.name in plan.scratch:
        place += f", scratch at {plan.scratch[node.name]}"
    yield place


def type_text(type_: TensorType) -> str:
    """int8 1x49x10x1."""
    return f"{type_.dtype.value} {'x'.join(map(str, type_.shape)) or 'scalar'}"


def _span(value: Value, plan: MemoryPlan) -> str:
    start = plan.offsets[value]
    return f"[{start}, {start + value.type.bytes})"


def port_view(value: Value, index: int, kind: str, program: Program) -> PortView:
    """kind: "input", "output" and so on: part of the macros' names."""
    type_ = value.type
    prefix = program.c_name
    return PortView(
        index=index,
        name=value.name,
        comment=c_comment_block(
            [f"{kind.replace('_', ' ')} {index}: {short_name(value.name, 64)}, {type_text(type_)}"]
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
