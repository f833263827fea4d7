"""Fold `dequantize → op → quantize` into one int8 node: the only way into integers.

Graph inputs and outputs become int8 with it. Whatever has no scale, or no integer form, would stay
float; all such nodes are listed in one error, because a target runs either int8 or float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import CompileError
from ..ir.dtypes import DType, Quant, TensorType
from ..ir.graph import Graph, Node, Origin, Stage, Value
from ..ir.opdef import Absent
from ..ir.rewrite import Rewriter
from ..ops import get
from ..pass_manager import Pass, PassContext
from ..quant.arithmetic import lookup_table
from ._int8_constants import Constants
from ._int8_types import decide_quants, float_islands, quantizers, same_quant

NAME = "fold_qdq"


def run(graph: Graph, context: PassContext) -> Graph:
    quants = decide_quants(graph)
    _refuse_float_islands(graph, quants, context.calibration is not None)
    folder = _Folder(graph, context, quants)
    for node in graph.nodes:
        folder.visit(node)
    return _keep_output_names(graph, folder.finish())


PASS = Pass(NAME, run, Stage.FLOAT, Stage.QUANTIZED)


def _refuse_float_islands(graph: Graph, quants: Mapping[Value, Quant], calibrated: bool) -> None:
    if not any(n.op.name == "dequantize" for n in graph.nodes) and not any(
        v.type.dtype is DType.INT8 for v in graph.values
    ):
        raise CompileError(
            "the model is float32 and nothing says how to quantise it",
            hint="give calibration samples with --calibrate, or compile with --dtype float32",
        )
    islands = list(float_islands(graph, quants))
    if islands:
        rows = "\n".join(f"  - {n.op.name} ({n.origin}): {reason}" for n, reason in islands)
        raise CompileError(
            f"{len(islands)} node{'s' if len(islands) != 1 else ''} of the quantised model would "
            f"stay float\n{rows}",
            node=str(islands[0][0].origin),
            expected="every operator between DequantizeLinear and QuantizeLinear",
            hint="compile the float model with --dtype float32"
            if calibrated
            else "give calibration samples with --calibrate to fill the gaps",
        )


class _Folder:
    """Walks the float graph once; `int8` maps each old value to the int8 value that replaces it."""

    def __init__(self, graph: Graph, context: PassContext, quants: Mapping[Value, Quant]) -> None:
        self.graph = graph
        self.quants = quants
        self.rewriter = Rewriter(graph, NAME)
        self.constants = Constants(graph, self.rewriter, context)
        self.int8: dict[Value, Value] = {}
        for value in graph.inputs:
            if value in quants:
                self.int8[value] = Value(value.name, self._type(value))

    def visit(self, node: Node) -> None:
        if self.constants.absorb(node):
            return
        if node.op.name == "dequantize":
            self.int8[node.outputs[0]] = self._read(node.inputs[0])
        elif node.op.name == "quantize":
            self._quantize(node)
        else:
            self._fold(node)

    def finish(self) -> Graph:
        inputs = tuple(self.int8.get(v, v) for v in self.graph.inputs)
        outputs = tuple(self._read(v) for v in self.graph.outputs)
        return self.rewriter.finish(inputs=inputs, outputs=outputs)

    def _read(self, value: Value) -> Value:
        """The int8 value that holds `value`; a float constant is quantised per tensor."""
        if value not in self.int8 and self.constants.holds(value):
            return self.constants.per_tensor(value)
        return self.int8[value]

    def _quantize(self, node: Node) -> None:
        """Nothing when the value is held at this scale already; else one table."""
        x, y = self._read(node.inputs[0]), node.outputs[0]
        if same_quant(x.type.quant, y.type.quant):
            self.int8[y] = x
        else:
            self.int8[y] = self._requantize(x, y, node)

    def _requantize(self, x: Value, y: Value, node: Node) -> Value:
        table = lookup_table(lambda real: real, x.type, y.type)
        constant = self.rewriter.constant(f"{y.name}.table", table)
        self.rewriter.emit(get("lookup"), [x, constant], origin=node.origin, outputs=[y])
        return y

    def _fold(self, node: Node) -> None:
        rule = node.op.integer
        assert not isinstance(rule, Absent), "float islands are refused before"
        inputs = list(node.inputs)
        weight = rule.weight
        for i, value in enumerate(node.inputs):
            if weight is None or i not in (weight.index, weight.bias_index):
                inputs[i] = self._read(value)
        if weight is not None:
            w = self.constants.weights(node, weight, inputs[0].type)
            inputs[weight.index] = w
            if weight.bias_index is not None and weight.bias_index < len(inputs):
                bias = node.inputs[weight.bias_index]
                inputs[weight.bias_index] = self.constants.bias(node, bias, inputs[0].type, w)
        outputs = [self._output(v) for v in node.outputs]
        made = outputs
        if rule.output == "as_input":
            made = [self._as_input(v, inputs[0]) for v in outputs]
        self.rewriter.emit(node.op, inputs, node.attrs, origin=node.origin, outputs=made)
        for value, wanted, done in zip(node.outputs, outputs, made, strict=True):
            self.int8[value] = wanted if wanted == done else self._requantize(done, wanted, node)

    def _output(self, value: Value) -> Value:
        """Named like the quantize that defined it, if there is one."""
        type_ = self._type(value)
        if value.type.dtype is not DType.INT8:
            for reader in quantizers(self.graph, value):
                if same_quant(reader.y.quant, type_.quant):
                    return reader.outputs[0]
        return Value(value.name, type_)

    def _as_input(self, value: Value, x: Value) -> Value:
        """Data movement keeps the input's scale; another scale is a table after it."""
        if same_quant(value.type.quant, x.type.quant):
            return value
        name = self.rewriter.unique(f"{value.name}.moved")
        return Value(name, replace(value.type, quant=x.type.quant))

    def _type(self, value: Value) -> TensorType:
        return value.type.with_dtype(DType.INT8, self.quants[value])


def _keep_output_names(before: Graph, after: Graph) -> Graph:
    """Graph outputs keep the names the ONNX model gave them.

    One that holds the same integers as an input, or as another output, is a copy of it.
    """
    renames: dict[Value, Value] = {}
    copies: dict[Value, Node] = {}
    taken = {v.name for v in after.values}
    wanted = {v.name for v in before.outputs}
    for i, (old, new) in enumerate(zip(before.outputs, after.outputs, strict=True)):
        if new in after.initializers or old.name in taken:
            continue
        named = Value(old.name, new.type)
        if new in after.inputs or new in after.outputs[:i] or new.name in wanted:
            copies[named] = _copy(before, old, renames.get(new, new), named)
        else:
            renames[new] = named
    if not renames and not copies:
        return after
    nodes = [
        replace(
            n,
            inputs=tuple(renames.get(v, v) for v in n.inputs),
            outputs=tuple(renames.get(v, v) for v in n.outputs),
        )
        for n in after.nodes
    ]
    by_name = {v.name: v for v in (*renames.values(), *copies)}
    outputs = [
        by_name.get(old.name, renames.get(new, new))
        for old, new in zip(before.outputs, after.outputs, strict=True)
    ]
    return after.with_nodes([*nodes, *copies.values()], outputs=tuple(outputs))


def _copy(before: Graph, old: Value, source: Value, named: Value) -> Node:
    """A reshape to the same shape is the graph's only identity."""
    reshape, maker = get("reshape"), before.producer.get(old)
    origin = maker.origin if maker else Origin(old.name)
    return Node(reshape, (source,), (named,), reshape.attrs(named.type.shape), origin)
