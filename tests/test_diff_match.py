"""Which values of two graphs `diff` takes for the same tensor: by name, else by place, never by
guess."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import tinsmith
from tinsmith import paths
from tinsmith.frontend.onnx_import import import_model
from tinsmith.numerics.difference import difference
from tinsmith.numerics.match import match_values
from tinsmith.numerics.sides import open_side

MODEL = paths.GRAPHS / "digits_dscnn" / "model.onnx"


def test_names_are_not_needed() -> None:
    graph = import_model(MODEL)
    renamed = {v: replace(v, name=f"other{i}") for i, v in enumerate(
        v for n in graph.nodes for v in n.outputs)}  # fmt: skip
    nodes = tuple(
        replace(
            n,
            inputs=tuple(renamed.get(v, v) for v in n.inputs),
            outputs=tuple(renamed[v] for v in n.outputs),
        )
        for n in graph.nodes
    )
    other = replace(graph, nodes=nodes, outputs=tuple(renamed[v] for v in graph.outputs))
    pairs = match_values(graph, other)
    named = match_values(graph, graph)
    assert not any(p.by_name for p in pairs)
    assert {renamed[p.a] for p in pairs} == {p.b for p in pairs}
    assert {p.a for p in pairs} <= {p.a for p in named} | set(graph.outputs)


def _graph(*nodes: onnx.NodeProto, folder: Path, **weights: np.ndarray) -> Path:
    """A model of x [1, 4, 6, 6], whose last node makes y of the same shape."""
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1, 4, 6, 6]) for n in "xy")
    tensors = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = onnx.helper.make_graph(list(nodes), "net", [x], [y], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    path = folder / f"{nodes[0].output[0]}_{len(nodes)}.onnx"
    onnx.save(model, path)
    return path


def _conv(x: str, w: str, y: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Conv", [x, w], [y], name=y)


def _weights(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {f"w{i}": rng.standard_normal((4, 4, 1, 1)).astype(np.float32) for i in range(count)}


def test_parallel_twins_are_not_guessed(tmp_path: Path) -> None:
    """Two branches whose order is free: paired by place, the first would be the other's second."""
    add = onnx.helper.make_node("Add", ["p", "q"], ["y"])
    a = _graph(_conv("x", "w0", "p"), _conv("x", "w1", "q"), add, folder=tmp_path, **_weights(2))
    add = onnx.helper.make_node("Add", ["s", "r"], ["y"])
    b = _graph(_conv("x", "w1", "r"), _conv("x", "w0", "s"), add, folder=tmp_path, **_weights(2))
    pairs = match_values(import_model(a), import_model(b))
    assert [(p.a.name, p.b.name) for p in pairs] == [("y", "y")]


def test_a_missing_block_among_equal_ones_is_not_guessed(tmp_path: Path) -> None:
    """Three equal layers against two: which is missing nobody can say, but for those at the ends of
    a name that both have."""
    a = _graph(
        *(_conv(x, f"w{i}", y) for i, (x, y) in enumerate(("xa", "ab", "bm", "mc", "cy"))),
        folder=tmp_path, **_weights(5),
    )  # fmt: skip
    b = _graph(
        *(_conv(x, f"w{i}", y) for i, (x, y) in zip((0, 2, 3, 4), ("xd", "dm", "me", "ey"),
                                                   strict=True)),
        folder=tmp_path, **_weights(5),
    )  # fmt: skip
    pairs = match_values(import_model(a), import_model(b))
    found = {p.b.name: (p.a.name, p.by_name) for p in pairs}
    assert found == {"m": ("m", True), "e": ("c", False), "y": ("y", True)}


def test_a_convolution_along_one_axis_stands_for_its_activation(tmp_path: Path) -> None:
    """It has two axes in the device's graph, and names of its own before the activation."""
    model = _net_along_one_axis(tmp_path / "line.onnx")
    x = np.random.default_rng(4).standard_normal((16, 3, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    given = tmp_path / "x.npz"
    tinsmith.compile(model, board="host", out=tmp_path / "out", calibrate=given, pictures=False)
    sides = [open_side(str(side), given, 8, {}) for side in (model, tmp_path / "out")]
    result = difference(*sides)
    assert [layer.op for layer in result.layers] == ["conv2d", "reduce_mean"]
    assert result.layers[0].shape == (1, 8, 32)
    assert min(layer.sqnr_db for layer in result.layers) > 30


def _net_along_one_axis(path: Path) -> Path:
    make, rng = onnx.helper.make_node, np.random.default_rng(3)
    nodes = [
        make("Conv", ["x", "w"], ["c"], pads=[1, 1], name="conv"),
        make("Relu", ["c"], ["r"], name="relu"),
        make("GlobalAveragePool", ["r"], ["y"], name="mean"),
    ]
    w = numpy_helper.from_array(rng.standard_normal((8, 3, 3)).astype(np.float32), "w")
    x, y = (
        onnx.helper.make_tensor_value_info(name, 1, shape)
        for name, shape in (("x", [1, 3, 32]), ("y", [1, 8, 1]))
    )
    graph = onnx.helper.make_graph(nodes, "line", [x], [y], [w])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]), path)
    return path
