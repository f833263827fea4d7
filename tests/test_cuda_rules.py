"""Every rule for the GPU, its CUDA source run on the CPU, against the numpy references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tinsmith.ir.dtypes import Array, DType
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.ir.opdef import Absent, OpDef
from tinsmith.ops import registry

pytest.importorskip("tvm", reason="the rules need TVM: pip install 'tinsmith[tvm]'")

from tinsmith.tvm_backend.cuda.device_code import device_code
from tinsmith.tvm_backend.cuda.launch import DeviceCode
from tinsmith.tvm_backend.cuda.rule import buffer_names, rule_for

from .cases import case_graph, case_inputs, cases_of
from .cuda_emulation import Emulator, emulated, make_driver
from .host_c import FLOAT_TOLERANCE
from .int8_nets import Int8Net
from .test_random_graphs import networks
from .tvm_rules import evaluated

FOLDED = ("quantize", "dequantize", "identity")  # no kernel sees them
INFERENCE = {  # what a model from ONNX becomes
    "lookup",
    *(n for n, op in registry().items() if not isinstance(op.onnx_import, Absent)),
} - set(FOLDED)
SEEDS = (0, 1)


def _single_nodes(dtype: DType) -> list[tuple[OpDef, Graph, Node]]:
    """The lowered case of every operator that has a form of this type."""
    found: list[tuple[OpDef, Graph, Node]] = []
    for op in registry().values():
        if op.name not in INFERENCE or op.is_view:
            continue
        for case in cases_of(op, dtype):
            graph = case_graph(op, case, dtype)
            found += [(op, graph, n) for n in graph.nodes if not n.op.is_view]
    return found


class Kernels:
    """Functions of many nodes in one emulated driver."""

    def __init__(self, nodes: Sequence[tuple[Graph, Node]], folder: Path) -> None:
        self.nodes = nodes
        functions = {}
        for i, (graph, node) in enumerate(nodes):
            rule = rule_for(node, graph)
            assert rule is not None, f"no rule for {node.op.name} {node.x} → {node.y}"
            functions[f"f{i}"] = rule.build(node, graph)
        self.code: DeviceCode = device_code(functions, "sm_80")
        self.folder = make_driver(self.code.source, folder)
        self.emulator = Emulator(self.folder)

    def check(self, index: int, known: dict[Value, Array]) -> None:
        """Equal to the reference, whichever way threads take turns."""
        graph, node = self.nodes[index]
        rule = rule_for(node, graph)
        assert rule is not None
        tables = {n: c.array for n, c in rule.constants(node, graph).items()}
        named = buffer_names(node, graph)
        for order in ("forward", "backward"):
            arrays = {n: known[v].ravel().copy() for n, v in named if n.startswith("x")}
            made = {
                n: np.full(v.type.elements, 77, v.type.dtype.numpy) for n, v in named if n[0] == "y"
            }
            with emulated(self.folder, order=order):
                for launch in self.code.launches[f"f{index}"]:
                    self.emulator.launch(launch, {**arrays, **made, **tables})
            for name, value in named:
                if name[0] != "y":
                    continue
                label = f"{node.op.name} {node.x} → {value.type}, {order}"
                if value.type.dtype is DType.FLOAT32:
                    want = known[value].ravel()
                    np.testing.assert_allclose(made[name], want, **FLOAT_TOLERANCE, err_msg=label)
                else:
                    np.testing.assert_array_equal(made[name], known[value].ravel(), err_msg=label)


def test_int8_is_bit_exact(tmp_path: Path) -> None:
    """All cases of all operators."""
    nodes = _single_nodes(DType.INT8)
    assert {op.name for op, _, _ in nodes} >= {"conv2d", "dense", "add", "softmax", "concat"}
    kernels = Kernels([(graph, node) for _, graph, node in nodes], tmp_path / "driver")
    for i, (graph, _) in enumerate(kernels.nodes):
        for seed in SEEDS:
            kernels.check(i, evaluated(graph, case_inputs(graph, seed)))


def test_float32_is_close(tmp_path: Path) -> None:
    """All cases of all operators that stay float32."""
    nodes = _single_nodes(DType.FLOAT32)
    assert {op.name for op, _, _ in nodes} >= {"conv2d", "dense", "softmax", "gelu", "batch_norm"}
    kernels = Kernels([(graph, node) for _, graph, node in nodes], tmp_path / "driver")
    for i, (graph, _) in enumerate(kernels.nodes):
        kernels.check(i, evaluated(graph, case_inputs(graph, 0)))


@settings(max_examples=2, deadline=None, derandomize=True, phases=(Phase.generate,))
@given(st.tuples(*(networks(f"net{i}") for i in range(4))))
def test_random_networks_are_bit_exact(graphs: tuple[Graph, ...]) -> None:
    """Each node of four networks, some in batches of two."""
    nodes = [(g, n) for g in graphs for n in g.nodes if not n.op.is_view]
    with TemporaryDirectory() as folder:
        kernels = Kernels(nodes, Path(folder))
        for i, (graph, _) in enumerate(nodes):
            kernels.check(i, evaluated(graph, case_inputs(graph, 1)))


# rows, columns, depth of dense layers that fill each of the tiles, none of them evenly
SHAPES = {
    (4, 8): (8150, 120, 40),
    (8, 4): (16300, 62, 17),
    (4, 4): (8150, 50, 20),
    (8, 2): (16300, 31, 16),
    (4, 3): (8150, 45, 33),
    (4, 2): (8150, 28, 90),
    (8, 1): (16300, 16, 18),
    (4, 1): (8150, 16, 16),
    (2, 2): (2100, 60, 130),
    (2, 1): (4090, 16, 80),
    (1, 1): (33, 17, 250),
}


def test_every_tile_of_the_tensor_cores(tmp_path: Path) -> None:
    graphs: list[Graph] = []
    for tile, (rows, columns, depth) in SHAPES.items():
        net = Int8Net(f"tile{tile[0]}x{tile[1]}", seed=rows)
        graphs.append(net.build(net.dense(net.input(rows, depth), columns)))
    kernels = Kernels([(g, g.nodes[-1]) for g in graphs], tmp_path / "driver")
    for i, (tile, graph) in enumerate(zip(SHAPES, graphs, strict=True)):
        rows, columns, _ = SHAPES[tile]
        (launch,) = kernels.code.launches[f"f{i}"]
        blocks = -(-rows // (16 * tile[0])) * -(-columns // (16 * tile[1]))
        assert launch.grid == (blocks, 1, 1), f"{tile} is not the tile"
        kernels.check(i, evaluated(graph, case_inputs(graph, i)))
