"""Static shapes and types of the graph inputs: batch is 1, other dynamic sizes are the user's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
from onnx import GraphProto, TensorProto, TypeProto, ValueInfoProto

from ..errors import ImportFailure
from ..ir.dtypes import Shape
from .model_file import MAX_BYTES, type_name

_ELEMENT_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
}


def bind_shapes(graph: GraphProto, bind: Mapping[str, int]) -> dict[str, tuple[Shape, str]]:
    """(shape, element type) of every fed input; also writes the shapes into `graph`.

    A symbolic, zero or missing first dimension is the batch and becomes 1. Other dynamic
    dimensions take their size from `bind`, by symbol or as "input:axis". Raises ImportFailure
    naming the rest.
    """
    fixed = {i.name for i in graph.initializer}
    inputs = [i for i in graph.input if i.name not in fixed]
    unbound: list[str] = []
    used: set[str] = set()
    symbols = {name: _checked(name, size) for name, size in bind.items()}
    _bind_batch(inputs, symbols, used)
    types: dict[str, tuple[Shape, str]] = {}
    for info in inputs:
        element = _element_type(info)
        shape: list[int] = []
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            size = _size(info.name, axis, dim, symbols, used)
            if size is None:
                unbound.append(dim.dim_param or f"{info.name}:{axis}")
                continue
            shape.append(size)
            dim.ClearField("dim_param")
            dim.dim_value = size
        if math.prod(shape) > MAX_BYTES:
            raise ImportFailure(
                f"the graph input {info.name!r} has {math.prod(shape):,} elements",
                expected=f"at most {MAX_BYTES:,}",
            )
        types[info.name] = (tuple(shape), element)
    if unbound:
        names = sorted(set(unbound))
        raise ImportFailure(
            f"dynamic dimensions without a size: {', '.join(names)}",
            expected="a size for each",
            hint=f"bind them: {', '.join(f'{n}=SIZE' for n in names)}",
        )
    if unknown := sorted(set(bind) - used):
        raise ImportFailure(
            f"the model has no dynamic dimension called {', '.join(unknown)}",
            expected="the name of a dynamic dimension, or INPUT:AXIS",
        )
    return types


def _bind_batch(inputs: list[ValueInfoProto], symbols: dict[str, int], used: set[str]) -> None:
    for info in inputs:
        dims = info.type.tensor_type.shape.dim
        if dims and dims[0].dim_param:
            if dims[0].dim_param in symbols:
                used.add(dims[0].dim_param)
            symbols.setdefault(dims[0].dim_param, 1)


def _size(
    name: str,
    axis: int,
    dim: onnx.TensorShapeProto.Dimension,
    symbols: Mapping[str, int],
    used: set[str],
) -> int | None:
    if dim.dim_value > 0:
        return int(dim.dim_value)
    for key in (f"{name}:{axis}", dim.dim_param):
        if key in symbols:
            used.add(key)
            return symbols[key]
    return 1 if axis == 0 else None


def _checked(name: str, size: int) -> int:
    if size < 1:
        raise ImportFailure(f"the dimension {name} cannot be {size}", expected="1 or more")
    return size


def _element_type(info: ValueInfoProto) -> str:
    type_: TypeProto = info.type
    if not type_.HasField("tensor_type") or not type_.tensor_type.HasField("shape"):
        raise ImportFailure(
            f"the graph input {info.name!r} is not a tensor of known rank",
            expected="a tensor with a shape",
        )
    element = type_.tensor_type.elem_type
    if element not in _ELEMENT_TYPES:
        raise ImportFailure(
            f"the graph input {info.name!r} has the type {type_name(element)}",
            expected=", ".join(_ELEMENT_TYPES.values()),
        )
    return _ELEMENT_TYPES[element]
