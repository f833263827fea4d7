"""ONNX → a FLOAT graph in ONNX layout (NCHW, OIHW), every shape static, every constant folded.

Each operator's record brings its own import rule; this module walks the nodes, infers types with
our own rules as it goes, and collects every node that cannot be imported before it fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto

from ..errors import ImportFailure, Unsupported, UnsupportedModel
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Graph, Origin, Value
from ..ir.rewrite import live_nodes
from ..ops import get
from .bind_shapes import bind_shapes
from .constant_folding import fold_node, fold_shape, has_subgraph
from .foreign_types import foreign_types
from .import_context import Builder, NodeFailure, NodeView
from .import_rules import rule_for
from .input_quant import complete_zero_points, input_quant
from .model_file import (
    STANDARD_DOMAINS,
    ModelSource,
    initializer_arrays,
    load_model,
    node_label,
    opset,
)
from .qlinear import expand_qlinear, is_qlinear


@dataclass(frozen=True)
class CheckReport:
    """What `tinsmith check` shows.

    Attributes:
        unsupported: every node that cannot be imported, with its reason.
        operators: nodes per ONNX operator type.
        parameters: elements of the weights and biases.
        macs: multiply-accumulates of the nodes that can be imported.
        inputs, outputs: names with their types as imported.
    """

    name: str
    unsupported: tuple[Unsupported, ...]
    operators: Mapping[str, int]
    parameters: int
    macs: int
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


def import_model(
    source: ModelSource, *, name: str | None = None, bind: Mapping[str, int] | None = None
) -> Graph:
    """Import a model from a path, its bytes or a ModelProto.

    name: of the graph, by default the file's. bind: sizes of dynamic dimensions but the batch.
    Raises ImportFailure for an invalid model, UnsupportedModel listing every unsupported node.
    """
    importer = _Importer(source, name, bind or {})
    importer.run()
    if importer.unsupported:
        raise UnsupportedModel(importer.unsupported)
    return importer.graph()


def check_model(source: ModelSource, *, bind: Mapping[str, int] | None = None) -> CheckReport:
    """What can be imported and what cannot. Raises ImportFailure only for an invalid model."""
    importer = _Importer(source, None, bind or {})
    importer.run()
    values = importer.builder.values
    proto = importer.model.graph

    def types(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        return tuple((n, str(v.type) if (v := values.get(n)) else "unknown") for n in names)

    arrays = importer.weights.values()
    if not importer.unsupported:
        arrays = importer.graph().initializers.values()  # without scales and shapes
    return CheckReport(
        importer.name,
        tuple(importer.unsupported),
        dict(sorted(Counter(n.op_type for n in importer.originals).items())),
        sum(a.size for a in arrays),
        sum(n.op.macs(n) for n in importer.builder.nodes),
        types([i.name for i in proto.input if i.name not in importer.weights]),
        types([o.name for o in proto.output]),
    )


_MALFORMED = (ArithmeticError, LookupError, MemoryError, TypeError, ValueError)


class _Importer:
    def __init__(self, source: ModelSource, name: str | None, bind: Mapping[str, int]) -> None:
        self.model = load_model(source)
        graph = self.model.graph
        path = Path(source).stem if isinstance(source, (str, Path)) else ""
        self.name = name or path or graph.name or "model"
        self.unsupported: list[Unsupported] = []
        self.originals = list(graph.node)
        self.weights = initializer_arrays(graph)
        self.arrays: dict[str, Array] = dict(self.weights)
        self.inputs = bind_shapes(graph, bind)
        self.opset = opset(self.model)
        self.builder = Builder(self.arrays)
        self._read: frozenset[str] = frozenset()
        self._inferred: Mapping[str, TensorType] | None = None

    def run(self) -> None:
        waiting = [n for n in self.originals if not fold_node(n, self.arrays, self.opset)]
        nodes: list[tuple[NodeProto, NodeProto]] = []  # (to import, as in the file)
        for node in waiting:
            nodes += [(made, node) for made in self._expanded(node)]
        protos = [n for n, _ in nodes]
        unsigned = [n for n, (_, element) in self.inputs.items() if element == "uint8"]
        complete_zero_points(protos, self.arrays, unsigned)
        self._read = frozenset(i for n in protos for i in n.input)
        read = self._read | {o.name for o in self.model.graph.output}
        for name, (shape, element) in self.inputs.items():
            quant = None
            if element != "float32":
                quant = input_quant(name, element == "uint8", protos, self.arrays)
            dtype = DType.FLOAT32 if element == "float32" else DType.INT8
            self.builder.define(name, TensorType(shape, dtype, quant))
        for proto, original in nodes:
            self.builder.begin(proto.output, Origin(node_label(original), original.op_type))
            try:
                self._node(proto, read)
            except NodeFailure as failure:
                self._failed(proto, original, failure.reason)

    def graph(self) -> Graph:
        """The imported graph. Raises ImportFailure when it is not usable."""
        builder = self.builder
        inputs = [self._value(n) for n in self.inputs]
        outputs = [self._output(o.name, inputs) for o in self.model.graph.output]
        inputs = [self._value(n) for n in self.inputs]
        nodes = live_nodes(Graph(self.name, (), (), {}, tuple(builder.nodes)), outputs)
        graph = Graph(self.name, tuple(inputs), tuple(outputs), {}, ())
        graph = graph.with_nodes(nodes, initializers=builder.initializers)
        _check_finite(graph)
        self._check_declared(graph)
        return graph

    def _expanded(self, node: NodeProto) -> list[NodeProto]:
        if not is_qlinear(node):
            return [node]
        try:
            return list(expand_qlinear(node, self.arrays))
        except NodeFailure as failure:
            self.unsupported.append(Unsupported(node_label(node), node.op_type, failure.reason))
            return []

    def _node(self, proto: NodeProto, read: frozenset[str]) -> None:
        if fold_node(proto, self.arrays, self.opset):
            return
        rule = rule_for(proto)
        values = self.builder.values
        if any(n and n not in self.arrays and values.get(n) is None for n in proto.input):
            if rule is None and proto.op_type not in ("Shape", "Size"):
                raise NodeFailure(_unknown(proto))
            values.update(dict.fromkeys(filter(None, proto.output)))  # blame the first node only
            return
        first = values.get(proto.input[0]) if proto.input else None
        if first is not None and fold_shape(proto, first.type, self.arrays):
            return
        if rule is None:
            raise NodeFailure(_unknown(proto))
        view = NodeView(proto, self.builder, self.opset, read)
        try:
            made = rule(view, self.builder)
        except _MALFORMED as error:
            # Rules check what a valid model can hold; a damaged file can hold anything.
            raise NodeFailure(f"its attributes or inputs are malformed: {error}") from error
        self.builder.finish(made)

    def _failed(self, proto: NodeProto, original: NodeProto, reason: str) -> None:
        found = Unsupported(node_label(original), original.op_type, reason)
        if found not in self.unsupported:  # a QLinear operator is several nodes
            self.unsupported.append(found)
        self.builder.abandon()
        for name in filter(None, proto.output):
            type_ = self._infer().get(name) if name in self._read else None
            if type_ is None:
                self.builder.values[name] = None
            else:
                self.builder.define(name, type_)

    def _infer(self) -> Mapping[str, TensorType]:
        """onnx's own shape inference: types for what follows a node that failed."""
        if self._inferred is None:
            self._inferred = foreign_types(self.model)
        return self._inferred

    def _value(self, name: str) -> Value:
        value = self.builder.values[name]
        assert value is not None
        return value

    def _output(self, name: str, inputs: Sequence[Value]) -> Value:
        """The value of a graph output, under the output's own name."""
        builder = self.builder
        if name in self.arrays:
            raise ImportFailure(
                f"the graph output {name!r} is constant", expected="an output that an input reaches"
            )
        value = self._value(name)
        if value in builder.initializers:
            raise ImportFailure(
                f"the graph output {name!r} is constant", expected="an output that an input reaches"
            )
        if value.name == name and value not in inputs:
            return value
        taken = {o.name for o in self.model.graph.output}
        if value in inputs or value.name in taken:
            builder.begin([name], Origin(name, "Identity"))
            reshape = get("reshape")  # to the same shape: the graph's only identity
            (copy,) = builder.emit(reshape, [value], reshape.attrs(value.type.shape))
            return copy
        renamed = replace(value, name=name)
        builder.rename({value: renamed})
        return renamed

    def _check_declared(self, graph: Graph) -> None:
        for info, value in zip(self.model.graph.output, graph.outputs, strict=True):
            if not info.type.tensor_type.HasField("shape"):
                continue
            dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
            same = len(dims) == value.type.rank and all(
                d <= 0 or d == s for d, s in zip(dims, value.type.shape, strict=True)
            )
            if not same:
                raise ImportFailure(
                    f"the graph output {info.name!r} is declared {dims} "
                    f"but the nodes compute {list(value.type.shape)}",
                    expected="declared shapes that agree with the nodes",
                )


def _unknown(proto: NodeProto) -> str:
    if has_subgraph(proto):
        return "control flow (If, Loop, Scan) is not supported"
    if proto.domain not in STANDARD_DOMAINS:
        return f"operators of the domain {proto.domain!r} are not supported"
    if not onnx.defs.has(proto.op_type):
        return "it is not an ONNX operator"
    return "there is no such operator in tinsmith"


def _check_finite(graph: Graph) -> None:
    for value, array in graph.initializers.items():
        if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
            what = "NaN" if np.any(np.isnan(array)) else "infinite"
            count = int(np.count_nonzero(~np.isfinite(array)))
            raise ImportFailure(
                f"the weights {value.name!r} hold {count} {what} value{'s' if count > 1 else ''}",
                expected="finite weights",
                hint="the training of this model diverged, or the file is damaged",
            )
