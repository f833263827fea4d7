"""A QDQ model with uint8 activations instead of int8: the form that x86 runtimes are fastest at.

`q + 128` with `zero_point + 128` means the same number, so outputs are those of the int8 model plus
128, bit for bit; weights stay as they are. The quantise at an input and the dequantise at an output
go: a compiled firmware takes and gives integers there, too.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ..ir.dtypes import Array
from .contender import OFFSET, NotComparable

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# Operators that move or compare numbers: adding 128 to all of them changes nothing else.
_MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool", "Slice", "Identity",
          "Concat", "Split", "Gather")  # fmt: skip


def uint8_form(model: ModelProto) -> ModelProto:
    """The same network; inputs and outputs that are quantised are uint8.

    Raises NotComparable for a model that is not in QDQ form with int8 activations.
    """
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    del graph.value_info[:]
    form = _Form(graph)
    for node in graph.node:
        form.visit(node)
    if not form.shifted:
        raise NotComparable("it has no int8 activations in QDQ form")
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type == TensorProto.INT8:
            info.type.tensor_type.elem_type = TensorProto.UINT8
    _cut_inputs(graph)
    _cut_outputs(graph)
    return made


class _Form:
    """constants: what does not depend on an input. shifted: activations that are uint8 now."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._arrays: dict[str, Array] = {
            t.name: numpy_helper.to_array(t) for t in graph.initializer
        }
        self._constants = set(self._arrays)
        self._moved: dict[str, str] = {}
        int8 = TensorProto.INT8
        self.shifted = {i.name for i in graph.input if i.type.tensor_type.elem_type == int8}

    def visit(self, node: NodeProto) -> None:
        if all(name in self._constants for name in node.input if name):
            self._constants.update(node.output)
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            return
        if node.op_type == _QUANTIZE:
            if self._move_zero_point(node):
                self.shifted.add(node.output[0])
        elif node.op_type == _DEQUANTIZE:
            if node.input[0] in self.shifted:
                self._move_zero_point(node)
        elif any(name in self.shifted for name in node.input):
            if node.op_type not in _MOVES or self._mixes(node):
                raise NotComparable(f"{node.op_type} {node.name!r} computes on int8 activations")
            self.shifted.update(node.output)

    def _mixes(self, node: NodeProto) -> bool:
        """Whether it puts int8 constants between the activations."""
        return any(n in self._arrays and self._arrays[n].dtype == np.int8 for n in node.input)

    def _move_zero_point(self, node: NodeProto) -> bool:
        """Add 128 to the zero point of a node; False for one that was uint8 already."""
        if len(node.input) < 3 or not node.input[2]:
            return False  # the type of a zero point that is not there is uint8
        name = node.input[2]
        if name not in self._arrays:
            raise NotComparable(f"the zero point of {node.name!r} is not constant")
        if self._arrays[name].dtype != np.int8:
            return False
        if name not in self._moved:
            self._moved[name] = f"{name}.plus_128"
            moved = (self._arrays[name].astype(np.int16) + OFFSET).astype(np.uint8)
            self._graph.initializer.append(numpy_helper.from_array(moved, self._moved[name]))
        node.input[2] = self._moved[name]
        return True


def _cut_inputs(graph: GraphProto) -> None:
    """A float input that only a quantise reads becomes that node's output."""
    kept = {o.name for o in graph.output}
    for info in graph.input:
        readers = [n for n in graph.node if info.name in n.input]
        if len(readers) != 1 or readers[0].op_type != _QUANTIZE or readers[0].output[0] in kept:
            continue
        quantize = readers[0]
        graph.node.remove(quantize)
        _rename(graph, quantize.output[0], info.name)
        info.type.tensor_type.elem_type = TensorProto.UINT8


def _cut_outputs(graph: GraphProto) -> None:
    """A float output that a dequantise makes, and what only moves numbers after it, is uint8."""
    for info in graph.output:
        chain = _moves_before(graph, info.name)
        if not chain or chain[-1].op_type != _DEQUANTIZE or _kept(graph, chain[-1].input[0]):
            continue
        dequantize = chain[-1]
        graph.node.remove(dequantize)
        if len(chain) == 1:
            _rename(graph, dequantize.input[0], info.name)
        else:
            chain[-2].input[0] = dequantize.input[0]
        info.type.tensor_type.elem_type = TensorProto.UINT8


def _moves_before(graph: GraphProto, name: str) -> list[NodeProto]:
    """The nodes that make a value nobody else reads, backwards to the first that computes."""
    makers = {o: n for n in graph.node for o in n.output}
    chain: list[NodeProto] = []
    readers = 0
    while name in makers and sum(name in n.input for n in graph.node) == readers:
        chain.append(makers[name])
        if makers[name].op_type not in _MOVES:
            break
        name, readers = makers[name].input[0], 1
    return chain


def _kept(graph: GraphProto, name: str) -> bool:
    """Whether a value's name is part of the model's interface."""
    return any(v.name == name for v in (*graph.input, *graph.output, *graph.initializer))


def _rename(graph: GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
