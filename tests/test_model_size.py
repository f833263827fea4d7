"""Models whose sizes are absurd fail at once, before anything of that size is made."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto

from tinsmith.errors import CompileError, ImportFailure, UnsupportedModel
from tinsmith.frontend.onnx_import import import_model

from .onnx_models import conv_model, info, model, node


def _sizes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _reals(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def _constant(made: NodeProto, **constants: np.ndarray) -> ModelProto:
    """x + the constant that a node makes."""
    return model([made, node("Add", "x c", "y")], [info("x", [1, 4])], [info("y", None)], constants)


def _doubling() -> ModelProto:
    """Thirty-five small nodes, each twice as large as the one before."""
    names = ["k", *(f"d{i}" for i in range(35))]
    nodes = [node("Concat", f"{a} {a}", b, axis=0) for a, b in itertools.pairwise(names)]
    last = node("Add", f"x {names[-1]}", "y")
    return model([*nodes, last], [info("x", [1, 4])], [info("y", None)], {"k": _reals(4096, 4)})


COMPUTED: dict[str, Callable[[], ModelProto]] = {
    "ConstantOfShape": lambda: _constant(node("ConstantOfShape", "s", "c"), s=_sizes(2**20, 2**20)),
    "Expand": lambda: _constant(node("Expand", "k s", "c"), k=_reals(1, 1), s=_sizes(2**20, 2**18)),
    "Tile": lambda: _constant(node("Tile", "k s", "c"), k=_reals(1, 1), s=_sizes(2**20, 2**18)),
    "Pad": lambda: _constant(node("Pad", "k s", "c"), k=_reals(1, 1), s=_sizes(0, 0, 2**20, 2**20)),
    "MatMul": lambda: _constant(node("MatMul", "a b", "c"), a=_reals(2**18, 1), b=_reals(1, 2**18)),
    "Add": lambda: _constant(node("Add", "a b", "c"), a=_reals(2**18, 1), b=_reals(1, 2**18)),
    "Range": lambda: _constant(
        node("Range", "a b d", "c"), a=np.float32(0), b=np.float32(2**40), d=np.float32(1)
    ),
    "OneHot": lambda: _constant(
        node("OneHot", "k n v", "c"), k=_sizes(*range(64)), n=_sizes(2**30), v=_reals(2)
    ),
    "Concat": _doubling,
}


def _import(made: ModelProto) -> CompileError:
    """The error of an import that allocates next to nothing."""
    tracemalloc.start()
    try:
        with pytest.raises(CompileError) as caught:
            import_model(made)
        assert tracemalloc.get_traced_memory()[1] < (256 if made.ByteSize() > 10**4 else 64) * 2**20
    finally:
        tracemalloc.stop()
    return caught.value


@pytest.mark.parametrize("operator", COMPUTED)
def test_a_constant_that_is_computed(operator: str) -> None:
    error = _import(COMPUTED[operator]())
    assert isinstance(error, ImportFailure)
    assert "it makes a constant of" in error.message
    assert error.node is not None
    assert error.node.startswith(operator)


def test_an_input() -> None:
    shape = [1, 2**20, 2**20]
    made = model([node("Relu", "x", "y")], [info("x", shape)], [info("y", shape)])
    error = _import(made)
    assert error.message == "the graph input 'x' has 1,099,511,627,776 elements"


def test_a_constant_of_the_file_that_claims_more_than_it_holds() -> None:
    made = conv_model()
    made.graph.initializer[0].dims[:] = [2**20, 2**20]
    assert "cannot be read" in _import(made).message


def test_an_activation() -> None:
    nodes = [node("MatMul", "x b", "y")]
    made = model(nodes, [info("x", [2**14, 1])], [info("y", None)], {"b": _reals(1, 2**18)})
    error = _import(made)
    assert isinstance(error, UnsupportedModel)
    assert "its output float32[16384,262144] has 17,179,869,184 B" in error.render()


@pytest.mark.parametrize("dims", [True, False])
def test_external_data(dims: bool, tmp_path: Path) -> None:
    """Too many elements, or a file that is larger than any tensor (here with a hole in it)."""
    made = conv_model()
    tensor = made.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(16 if dims else 2**32)
    if dims:
        tensor.dims[:] = [2**20, 2**20]
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    what = "1,099,511,627,776 elements" if dims else "4,294,967,296 B in its file"
    with pytest.raises(ImportFailure, match=f"'w' has {what}"):
        import_model(tmp_path / "m.onnx")


def test_large_constants_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("ConstantOfShape", "s", f"c{i}") for i in range(20)]
    nodes += [node("Add", "x c0", "y")]
    made = model(nodes, [info("x", [1, 4])], [info("y", None)], {"s": _sizes(2**23)})
    monkeypatch.setattr("tinsmith.frontend.constant_folding.MAX_BYTES", 100 * 2**20)
    with pytest.raises(ImportFailure, match="it makes a constant of 8,388,608 elements"):
        import_model(made)


def test_constants_of_a_sensible_size_are_computed() -> None:
    made = _constant(node("Expand", "k s", "c"), k=_reals(1, 1), s=_sizes(3, 4))
    assert import_model(made).outputs[0].type.shape == (3, 4)
