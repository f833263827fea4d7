"""A graph as a module of Relax, for notebooks: the same PrimFuncs, run by TVM's virtual machine.

    project = tinsmith.load("out")
    model = to_relax(project.graph, project.board.target)
    (y,) = model(x)

What is deployed is the compiled project; this is for looking at it, and for programs that have TVM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, s_tir

from ..errors import CompileError, InternalError
from ..ir.dtypes import Array
from ..ir.graph import Graph, Value
from ..machine.target import Target
from .import_tvm import PrimFunc, tvm
from .kernels import stored_with_offset
from .native import llvm_target
from .registry import rule_for
from .rule import Rule, Site

_NETWORK = "network"  # the private function with all calls, of which FuseTIR makes one PrimFunc


@dataclass(frozen=True)
class RelaxModel:
    """module: an IRModule whose "main" takes and gives flat buffers. machine: the virtual machine
    that holds it compiled."""

    graph: Graph
    module: Any
    machine: Any

    def __call__(self, *inputs: Array) -> list[Array]:
        """The outputs for one array per graph input, all in the shapes and types of the graph.

        Raises CompileError for inputs that do not match.
        """
        wanted = [v.type for v in self.graph.inputs]
        shapes = [(a.shape, a.dtype.name) for a in inputs]
        if shapes != [(t.shape, t.dtype.value) for t in wanted]:
            raise CompileError(
                f"the inputs are {', '.join(f'{d} {list(s)}' for s, d in shapes) or 'missing'}",
                expected=", ".join(f"{t.dtype} {list(t.shape)}" for t in wanted),
            )
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(a).reshape(-1)) for a in inputs]
        found = self.machine["main"](*tensors)
        found = [found] if len(self.graph.outputs) == 1 else list(found)
        return [
            t.numpy().reshape(v.type.shape) for t, v in zip(found, self.graph.outputs, strict=True)
        ]


def to_relax(graph: Graph, target: Target, *, fuse: bool = False) -> RelaxModel:
    """Compile the graph of a compiled project, whose integer nodes are lowered, for this machine.

    fuse: one PrimFunc computes everything, which saves a call per node and takes long to compile.

    Raises CompileError for a target without TVM, a graph with state, and nodes without a rule.
    """
    if target.tvm is None:
        raise CompileError(f"kernels for target {target.name} do not come from TVM")
    if graph.updates:
        raise CompileError("a training graph has state, which Relax's functions have not")
    without = [n for n in graph.nodes if not n.op.is_view and rule_for(n, graph) is None]
    if without:
        raise CompileError(
            "TVM's rules do not compute " + ", ".join(f"{n.op.name} {n.name}" for n in without),
            node=str(without[0].origin),
        )
    stored = stored_with_offset(graph, target.tvm)
    sites = [Site(n, graph, target.tvm, stored) for n in graph.nodes if not n.op.is_view]
    module = _module(graph, sites, fuse)
    if fuse:
        module = relax.transform.FuseTIR()(module)
    executable = relax.build(module, llvm_target(target.tvm))
    return RelaxModel(graph, module, relax.VirtualMachine(executable, tvm.cpu()))


@dataclass(frozen=True)
class _Function:
    """A rule's PrimFunc as `call_tir` wants it: inputs, constants, then what it writes; scratch is
    one more output, which nobody reads."""

    function: PrimFunc
    constants: tuple[Array, ...]
    results: tuple[Any, ...]  # Relax's types of what it writes

    @staticmethod
    def of(site: Site) -> _Function:
        rule = _rule(site)
        function = rule.build(site)
        constants = tuple(c.array for c in rule.constants(site).values())
        reads = len(site.graph.activations(site.node))
        writes = len(site.graph.results(site.node))
        order = [
            *range(reads),
            *range(reads + writes, reads + writes + len(constants)),
            *range(reads, reads + writes),
            *range(reads + writes + len(constants), len(function.params)),
        ]
        parameters = [function.params[i] for i in order]
        body = _in_root_block(function.body)
        made = PrimFunc(parameters, body, function.ret_type, function.attrs)
        written = parameters[reads + len(constants) :]
        return _Function(made, constants, tuple(_type(b) for b in written))


def _in_root_block(body: Any) -> Any:
    """FuseTIR takes functions whose body is a block; rules that spell out their loops have none."""
    if isinstance(body, s_tir.SBlockRealize):
        return body
    block = s_tir.SBlock([], [], [], "root", body)
    return s_tir.SBlockRealize([], True, block)


def _rule(site: Site) -> Rule:
    rule = rule_for(site.node, site.graph)
    if rule is None:
        raise InternalError(f"{site.node.name} has no rule")
    return rule


def _module(graph: Graph, sites: Sequence[Site], fuse: bool) -> Any:
    """ "main" calls the private function `_NETWORK`, which gets the constants as parameters."""
    builder = relax.BlockBuilder()
    functions = {site.node: _Function.of(site) for site in sites}
    constants = [c for f in functions.values() for c in f.constants]
    given = _variables("p", [_value_type(v) for v in graph.inputs])
    tables = _variables("c", [_flat(c.size, str(c.dtype)) for c in constants])
    values: dict[Value, Any] = dict(zip(graph.inputs, given, strict=True))
    unused = iter(tables)
    attributes: Any = {"Primitive": True} if fuse else {}
    with builder.function(_NETWORK, [*given, *tables], attrs=attributes, private=True):
        with builder.dataflow():
            for node in graph.nodes:
                read = [values[v] for v in graph.activations(node)]
                if node.op.is_view:
                    values[node.outputs[0]] = read[0]
                    continue
                made = functions[node]
                held = [next(unused) for _ in made.constants]
                values |= _call(builder, made, [*read, *held], graph.results(node))
            answer = builder.emit_output(_together([values[v] for v in graph.outputs]))
        builder.emit_func_output(answer)
    network = builder.get().get_global_var(_NETWORK)
    inputs = _variables("x", [_value_type(v) for v in graph.inputs])
    with builder.function("main", inputs):
        with builder.dataflow():
            held = [relax.const(c, str(c.dtype)) for c in constants]
            answer = builder.emit_output(builder.emit(relax.Call(network, [*inputs, *held])))
        builder.emit_func_output(answer)
    return builder.get()


def _call(
    builder: Any, made: _Function, arguments: Sequence[Any], results: Sequence[Value]
) -> Mapping[Value, Any]:
    """Emits one call; the variables of the values that it computes."""
    given: Any = relax.Tuple(list(arguments))
    name = builder.add_func(made.function.without_attr("global_symbol"), "kernel")
    if len(made.results) == 1:
        return {results[0]: builder.emit(relax.call_tir(name, given, made.results[0]))}
    found = builder.emit(relax.call_tir(name, given, list(made.results)))
    return {v: builder.emit(relax.TupleGetItem(found, i)) for i, v in enumerate(results)}


def _variables(prefix: str, types: Sequence[Any]) -> list[Any]:
    return [relax.Var(f"{prefix}{i}", type_) for i, type_ in enumerate(types)]


def _together(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else relax.Tuple(list(values))


def _value_type(value: Value) -> Any:
    return _flat(value.type.elements, value.type.dtype.value)


def _type(buffer: Any) -> Any:
    return _flat(int(buffer.shape[0]), str(buffer.dtype))


def _flat(elements: int, dtype: str) -> Any:
    shape: Any = [elements]
    return relax.TensorType(shape, dtype)
