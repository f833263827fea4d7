"""Reading a model file: everything that can be wrong with it before its nodes are looked at."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from ..errors import ImportFailure
from ..ir.dtypes import Array

ModelSource: TypeAlias = str | Path | bytes | ModelProto

OPSETS = range(11, 23)
MAX_BYTES = 1 << 31  # of one tensor; no microcontroller holds more, and the oracle must
STANDARD_DOMAINS = ("", "ai.onnx")
_MAX_LISTED = 5


def load_model(source: ModelSource) -> ModelProto:
    """Parse and check a model; local functions are inlined and external data is read.

    Raises ImportFailure when it is not a valid ONNX model of opset 11 to 22.
    """
    model, folder = _parse(source)
    if not model.HasField("graph") or not model.graph.output:
        raise ImportFailure(
            "the file holds no ONNX graph with outputs",
            hint="is this an ONNX model, and was it copied completely?",
        )
    _load_external_data(model, folder)
    _check_opsets(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _check_names(model.graph)
    model = _in_order(model)
    _check_with_onnx(model)
    return model


def opset(model: ModelProto) -> int:
    """Version of the default operator set."""
    return next(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)


def initializer_arrays(graph: GraphProto) -> dict[str, Array]:
    """Every initializer by name. Raises ImportFailure when its bytes do not match its shape."""
    arrays: dict[str, Array] = {}
    for tensor in graph.initializer:
        arrays[tensor.name] = tensor_array(tensor, f"initializer {tensor.name!r}")
    return arrays


def tensor_array(tensor: TensorProto, what: str) -> Array:
    """The tensor as numpy. Raises ImportFailure with `what` when its data is malformed."""
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise ImportFailure(
            f"the data of {what} cannot be read",
            expected=f"{type_name(tensor.data_type)}{list(tensor.dims)}",
            hint="the file may be truncated; export the model again",
        ) from error


def node_label(node: onnx.NodeProto) -> str:
    """A node's own name, or its first output's where it has none."""
    return node.name or next((o for o in node.output if o), node.op_type)


def _parse(source: ModelSource) -> tuple[ModelProto, Path | None]:
    if isinstance(source, ModelProto):
        copy = ModelProto()
        copy.CopyFrom(source)
        return copy, None
    folder: Path | None = None
    what = "the data"
    if not isinstance(source, bytes):
        path = Path(source)
        folder, what = path.parent, f"{path.name!r}"
        try:
            source = path.read_bytes()
        except OSError as error:
            raise ImportFailure(
                f"cannot open {path.name!r}: {error.strerror}", expected="an ONNX file"
            ) from error
    model = ModelProto()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # a short parse is only a warning
            model.ParseFromString(source)
    except (DecodeError, RuntimeWarning) as error:
        raise ImportFailure(
            f"{what} is not an ONNX file, or it is truncated",
            expected="a serialized ONNX ModelProto",
            hint="copy or export the model again",
        ) from error
    return model, folder


def _load_external_data(model: ModelProto, folder: Path | None) -> None:
    external = [t for t in _tensors(model.graph) if t.data_location == TensorProto.EXTERNAL]
    for tensor in external:
        _check_size(tensor, folder)
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        if folder is None or not (folder / location).is_file():
            raise ImportFailure(
                f"the data of {tensor.name!r} is in a file that is missing: {location!r}",
                expected="the external data file beside the model",
                hint="copy it too, or save the model with its weights inside",
            )
    if folder is None or not external:
        return
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ImportFailure(
            "the external data of the model cannot be read", expected=_first_line(error)
        ) from error


def _check_size(tensor: TensorProto, folder: Path | None) -> None:
    """Before its data is read: a tensor, and a file, that no device could hold."""
    entries = {e.key: e.value for e in tensor.external_data}
    path = None if folder is None else folder / entries.get("location", "")
    size = path.stat().st_size if path is not None and path.is_file() else 0
    for found, what in ((math.prod(tensor.dims), "elements"), (size, "B in its file")):
        if found > MAX_BYTES:
            raise ImportFailure(
                f"{tensor.name!r} has {found:,} {what}", expected=f"at most {MAX_BYTES:,}"
            )


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (a.t for a in node.attribute if a.type == AttributeProto.TENSOR)


def _check_opsets(model: ModelProto) -> None:
    versions = {o.domain: o.version for o in model.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None:
        raise ImportFailure(
            "the model names no opset of the ONNX operators", expected="opset 11 to 22"
        )
    if version not in OPSETS:
        raise ImportFailure(
            f"the model uses opset {version}",
            expected=f"opset {OPSETS[0]} to {OPSETS[-1]}",
            hint="export it for opset 17, or convert it with onnx.version_converter",
        )


def _check_names(graph: GraphProto) -> None:
    """Every value is defined once and every name that is read is defined."""
    if graph.sparse_initializer:
        raise ImportFailure("sparse initializers are not supported", expected="dense initializers")
    texts: list[str | bytes] = [
        t for n in graph.node for t in (n.name, n.op_type, n.domain, *n.input, *n.output)
    ]
    texts += [i.name for i in (*graph.input, *graph.output, *graph.initializer)]
    if not all(isinstance(t, str) for t in texts):  # protobuf hands out bytes then
        raise ImportFailure("a name in the model is not UTF-8 text", hint="the file is damaged")
    given = {i.name for i in graph.input} | {i.name for i in graph.initializer}
    defined: dict[str, str] = dict.fromkeys(given, "an input or initializer")
    _no_duplicates([i.name for i in graph.input], "graph input")
    _no_duplicates([i.name for i in graph.initializer], "initializer")
    for node in graph.node:
        for name in filter(None, node.output):
            if name in defined:
                raise ImportFailure(
                    f"the value {name!r} is defined twice",
                    node=f"{node.op_type} {node_label(node)!r}",
                    expected=f"one definition; the other is {defined[name]}",
                )
            defined[name] = f"{node.op_type} {node_label(node)!r}"
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in defined:
                raise ImportFailure(
                    f"the value {name!r} is read but never defined",
                    node=f"{node.op_type} {node_label(node)!r}",
                    expected="a graph input, an initializer or another node's output",
                )
    for output in graph.output:
        if output.name not in defined:
            raise ImportFailure(
                f"the graph output {output.name!r} is never defined",
                expected="the output of a node",
            )


def _no_duplicates(names: list[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ImportFailure(f"there are two {what}s called {name!r}", expected="unique names")


def _in_order(model: ModelProto) -> ModelProto:
    """The same model with its nodes in topological order. Raises ImportFailure on a cycle."""
    graph = model.graph
    known = {"", *(i.name for i in graph.input), *(i.name for i in graph.initializer)}
    waiting, ordered = list(graph.node), list[onnx.NodeProto]()
    while waiting:
        blocked: list[onnx.NodeProto] = []
        for node in waiting:
            if known.issuperset(node.input):
                known.update(node.output)
                ordered.append(node)
            else:
                blocked.append(node)
        if len(blocked) == len(waiting):
            names = ", ".join(repr(node_label(n)) for n in blocked[:_MAX_LISTED])
            more = f" and {len(blocked) - _MAX_LISTED} more" if len(blocked) > _MAX_LISTED else ""
            raise ImportFailure(
                f"the graph has a cycle through {names}{more}", expected="an acyclic graph"
            )
        waiting = blocked
    if ordered != list(graph.node):
        del graph.node[:]
        graph.node.extend(ordered)
    return model


def _check_with_onnx(model: ModelProto) -> None:
    """onnx.checker, skipping the nodes it has no schema for: they are reported as unsupported.

    Graph outputs may lack a shape, as onnxruntime allows and exporters write: it is inferred.
    """
    tensors = [o.type.tensor_type for o in model.graph.output if o.type.HasField("tensor_type")]
    shapeless = [t for t in tensors if not t.HasField("shape")]
    for tensor in shapeless:
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except UnicodeDecodeError as error:  # of its own message, which quotes the file
        raise ImportFailure(
            "the model is not valid ONNX: a name in it is not UTF-8 text",
            expected="a model that onnx.checker accepts",
        ) from error
    except onnx.checker.ValidationError as error:
        if "No Op registered" in str(error) or "No opset import" in str(error):
            return
        raise ImportFailure(
            f"the model is not valid ONNX: {_first_line(error)}",
            expected="a model that onnx.checker accepts",
        ) from error
    finally:
        for tensor in shapeless:
            tensor.ClearField("shape")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def type_name(data_type: int) -> str:
    """An ONNX element type in words."""
    names: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
    return names.get(data_type, f"unknown type {data_type}").lower()
