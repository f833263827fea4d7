"""Pooling, means and data movement: safe overlap in C, rescaling."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.functions import Functions, activations
from tinsmith.errors import CompileError
from tinsmith.ir.builder import GraphBuilder
from tinsmith.ir.dtypes import Array, DType, float32, int8
from tinsmith.ir.graph import Graph, Node, Origin, Value
from tinsmith.ir.interpret import evaluate, run
from tinsmith.kernels.kernel import KernelCall
from tinsmith.kernels.select import select_kernels
from tinsmith.machine.target import load_target
from tinsmith.ops import get
from tinsmith.ops.concat import ConcatAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.pad import PadAttrs
from tinsmith.ops.split import SplitAttrs

from .cases import case_inputs, lowered, op_graph
from .host_c import FLOAT_TOLERANCE

FORWARD = ("max_pool", "average_pool", "reduce_mean", "concat", "slice", "pad", "resize")


def _library(graph: Graph, calls: list[KernelCall], folder: Path) -> tuple[ctypes.CDLL, list[str]]:
    """The kernels of the calls as a shared library, and the function of each call."""
    functions = Functions()
    names = [functions.add(call, graph) for call in calls]
    headers = "#include <math.h>\n#include <string.h>\n"
    headers += "#include <tinsmith/ts_requantize.h>\n#include <tinsmith/ts_simd.h>\n"
    text = "".join(v.text.replace("static void", "void") for v in functions.views())
    (folder / "k.c").write_text(headers + text)
    include = f"-I{paths.RUNTIME_C / 'include'}"
    command = ["gcc", "-std=c11", "-O2", "-shared", "-fPIC", include, "k.c", "-o", "k.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "k.so")), names


def _call(
    library: ctypes.CDLL,
    name: str,
    call: KernelCall,
    inputs: list[Array],
    at: int,
    lead: int,
    output: Value,
) -> Array:
    """Run a kernel whose output starts `lead` bytes before activation input `at`."""
    size = max(output.type.bytes, lead + inputs[at].nbytes)
    shared = (ctypes.c_uint8 * size)()
    ctypes.memmove(ctypes.addressof(shared) + lead, inputs[at].tobytes(), inputs[at].nbytes)
    keep = [np.ascontiguousarray(a) for a in inputs]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in keep]
    pointers[at] = ctypes.c_void_p(ctypes.addressof(shared) + lead)
    constants = [np.ascontiguousarray(c.array) for c in call.constants.values()]
    pointers.append(ctypes.c_void_p(ctypes.addressof(shared)))
    pointers += [ctypes.c_void_p(c.ctypes.data) for c in constants]
    getattr(library, name)(*pointers)
    return np.frombuffer(bytes(shared), output.type.dtype.numpy, output.type.elements)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32], ids=str)
@pytest.mark.parametrize("op", FORWARD)
def test_output_may_start_lead_bytes_before_an_input(op: str, dtype: DType, tmp_path: Path) -> None:
    graph = op_graph(get(op), dtype)
    fed = dict(zip(graph.inputs, case_inputs(graph, 2), strict=True))
    calls = [c for c in select_kernels(graph, load_target("host")) if c.node.op.name == op]
    library, names = _library(graph, calls, tmp_path)
    rng = np.random.default_rng(7)
    overlapped = 0
    for call, name in zip(calls, names, strict=True):
        node = call.node
        for value in node.inputs:  # an input that a lookup rescales has no data of its own
            if value not in fed and not graph.is_constant(value):
                fed[value] = rng.integers(-128, 128, value.type.shape, np.int8)
        arrays = [graph.initializers[v] if v not in fed else fed[v] for v in node.inputs]
        (want,) = evaluate(node, arrays)
        inputs = activations(node, graph)
        for at, (position, _) in enumerate(inputs):
            lead = call.kernel.lead_bytes(node, position)
            if lead is None:
                continue
            given = [arrays[p] for p, _ in inputs]
            got = _call(library, name, call, given, at, lead, node.outputs[0])
            if dtype is DType.INT8:
                np.testing.assert_array_equal(got, want.ravel(), err_msg=node.name)
            else:
                np.testing.assert_allclose(got, want.ravel(), **FLOAT_TOLERANCE, err_msg=node.name)
            overlapped += 1
    assert overlapped >= 3


def _one(op: str, attrs: object, inputs: list[Value], *outputs: Value, **constants: Array) -> Graph:
    initializers = {v: constants[v.name] for v in inputs if v.name in constants}
    node = Node(get(op), tuple(inputs), outputs, attrs, Origin(op, op))
    return Graph(
        op, tuple(v for v in inputs if v not in initializers), outputs, initializers, (node,)
    )


def test_concat_rescales_only_what_differs() -> None:
    a = Value("a", int8((1, 3), 0.5, 0))
    b = Value("b", int8((1, 2), 0.25, 10))
    c = Value("c", int8((1, 2), 0.5, -4))
    y = Value("y", int8((1, 7), 0.5, 0))
    graph = lowered(_one("concat", ConcatAttrs(1), [a, b, c], y, c=np.array([[0, 6]], np.int8)))
    assert [n.op.name for n in graph.nodes] == ["lookup", "concat"]
    (got,) = run(graph, [np.array([[1, -7, 127]], np.int8), np.array([[11, 13]], np.int8)])
    np.testing.assert_array_equal(got, [[1, -7, 127, 1, 2, 4, 10]])


def test_movement_into_another_scale_ends_in_a_lookup() -> None:
    x = Value("x", int8((1, 4), 0.5, 0))
    y = Value("y", int8((1, 1), 0.5, 0))
    z = Value("z", int8((1, 3), 1.0, 5))
    graph = lowered(_one("split", SplitAttrs(1, (1, 3)), [x], y, z))
    assert [n.op.name for n in graph.nodes] == ["split", "lookup"]
    got = run(graph, [np.array([[3, 4, 5, -5]], np.int8)])
    np.testing.assert_array_equal(got[1], [[7, 8, 3]])  # 2.5 and −2.5 round half up


def test_a_padding_value_that_int8_cannot_hold_is_refused() -> None:
    x, y = Value("x", int8((1, 4), 0.1, 0)), Value("y", int8((1, 6), 0.1, 0))
    attrs = PadAttrs((1,), (1,), (1,), value=100.0)
    with pytest.raises(CompileError, match="outside the input's int8 range") as caught:
        lowered(_one("pad", attrs, [x], y))
    assert caught.value.node == "pad 'pad'"
    assert caught.value.expected == "a value in [-12.8, 12.7]"


def test_a_batch_is_pooled_sample_by_sample(tmp_path: Path) -> None:
    builder = GraphBuilder("batch")
    attrs = MaxPoolAttrs((3, 3), (1, 1), (1, 1, 1, 1), layout="NHWC")
    x = builder.input("x", float32(3, 4, 5, 2))
    graph = builder.build([builder.add(get("max_pool"), [x], attrs)])
    (call,) = select_kernels(graph, load_target("host"))
    library, (name,) = _library(graph, [call], tmp_path)
    data = np.random.default_rng(3).normal(size=(3, 4, 5, 2)).astype(np.float32)
    lead = call.kernel.lead_bytes(call.node, 0)
    assert lead is not None
    got = _call(library, name, call, [data], 0, lead, graph.outputs[0])
    np.testing.assert_array_equal(got, run(graph, [data])[0].ravel())
    one = replace(call.node, attrs=attrs)
    assert call.kernel.lead_bytes(one, 1) is None
