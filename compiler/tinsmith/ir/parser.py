"""`.tin` text → Graph.

    graph     = "graph" name "stage=" STAGE line*
    line      = "input" value ":" type ["from" ints] | "const" value ":" type "=" data
              | outs "=" op "(" [value {"," value}] ")" ["{" attrs "}"]
                ["@" string string "[" passes "]"]
              | "output" value ["from" ints] | "update" value "=" value
    type      = dtype "[" dims "]" ["q(" quant ")"]
    quant     = scale "," zero_point | list "," list "," "axis=" int
    data      = list | "base64" string
    value     = "%" (identifier | string)

`#` starts a comment line. The operator records are passed in, because the IR does not import them.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import CompileError
from .dtypes import Array, DType, Quant, TensorType
from .graph import Graph, Node, Origin, Stage, Value
from .opdef import OpDef

_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf|nan)(?![A-Za-z0-9_]))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<mark>[-%:=(){}\[\],@]))"
)


class ParseError(CompileError):
    """The text is not a graph."""


def parse(text: str, ops: Mapping[str, OpDef]) -> Graph:
    """Parse one graph. Raises ParseError with the line at fault."""
    builder = _GraphParser(ops)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            builder.line(_Line(line))
        except (ValueError, TypeError, KeyError) as error:
            raise ParseError(
                f"line {number}: {error}", expected="a line of the .tin grammar", node=line[:100]
            ) from error
    return builder.graph()


class _Line:
    """A tokenised line with a cursor."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"cannot read {text[position : position + 20]!r}")
            kind = match.lastgroup or ""
            self.tokens.append((kind, match.group(kind)))
            position = match.end()
        self.at = 0

    @property
    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self) -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise ValueError("the line ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, text: str) -> bool:
        if self.peek == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise ValueError(f"expected {text!r}, found {self.peek!r}")

    def name(self) -> str:
        kind, text = self.take()
        if kind == "string":
            return str(json.loads(text))
        if kind in ("name", "number"):
            return text
        raise ValueError(f"expected a name, found {text!r}")

    def value_name(self) -> str:
        self.expect("%")
        return self.name()

    def literal(self) -> Any:
        kind, text = self.take()
        if text == "[":
            items: list[Any] = []
            while not self.accept("]"):
                items.append(self.literal())
                if self.peek != "]":
                    self.expect(",")
            return tuple(items)
        if text == "-":
            return -self.literal()
        if kind == "string":
            return json.loads(text)
        words = {"true": True, "false": False, "none": None}
        if text in words:
            return words[text]
        if kind != "number" and text not in ("inf", "nan"):
            raise ValueError(f"expected a literal, found {text!r}")
        return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)

    def ints(self) -> tuple[int, ...]:
        return tuple(int(v) for v in self.literal())

    def type(self) -> TensorType:
        dtype = DType(self.name())
        shape = self.ints()
        if not self.accept("q"):
            return TensorType(shape, dtype)
        self.expect("(")
        scale = self.literal()
        self.expect(",")
        zero_point = self.literal()
        axis = None
        if self.accept(","):
            self.expect("axis")
            self.expect("=")
            axis = int(self.literal())
        self.expect(")")
        if axis is None:
            return TensorType(shape, dtype, Quant.per_tensor(scale, zero_point))
        return TensorType(shape, dtype, Quant(tuple(map(float, scale)), tuple(zero_point), axis))


class _GraphParser:
    def __init__(self, ops: Mapping[str, OpDef]) -> None:
        self.ops = ops
        self.header: tuple[str, Stage] | None = None
        self.values: dict[str, Value] = {}
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.initializers: dict[Value, Array] = {}
        self.nodes: list[Node] = []
        self.updates: list[tuple[Value, Value]] = []
        self.layouts: dict[str, list[tuple[int, ...] | None]] = {"input": [], "output": []}

    def line(self, line: _Line) -> None:
        if line.accept("graph"):
            name = line.name()
            line.expect("stage")
            line.expect("=")
            self.header = (name, Stage[line.name()])
        elif line.accept("input"):
            self.inputs.append(self._define(line))
            self.layouts["input"].append(line.ints() if line.accept("from") else None)
        elif line.accept("output"):
            self.outputs.append(self.values[line.value_name()])
            self.layouts["output"].append(line.ints() if line.accept("from") else None)
        elif line.accept("update"):
            old = self.values[line.value_name()]
            line.expect("=")
            self.updates.append((old, self.values[line.value_name()]))
        elif line.accept("const"):
            self._constant(line)
        else:
            self._node(line)
        if line.peek:
            raise ValueError(f"unexpected {line.peek!r}")

    def _define(self, line: _Line) -> Value:
        name = line.value_name()
        line.expect(":")
        if name in self.values:
            raise ValueError(f"%{name} is defined twice")
        self.values[name] = value = Value(name, line.type())
        return value

    def _constant(self, line: _Line) -> None:
        value = self._define(line)
        line.expect("=")
        if line.accept("base64"):
            raw = base64.b64decode(line.literal())
            array = np.frombuffer(raw, value.type.dtype.numpy.newbyteorder("<"))
            array = array.astype(value.type.dtype.numpy)
        else:
            array = np.array(line.literal(), value.type.dtype.numpy)
        self.initializers[value] = array.reshape(value.type.shape)

    def _node(self, line: _Line) -> None:
        outputs = [self._define(line)]
        while line.accept(","):
            outputs.append(self._define(line))
        line.expect("=")
        op = self.ops[line.name()]
        line.expect("(")
        inputs: list[Value] = []
        while not line.accept(")"):
            inputs.append(self.values[line.value_name()])
            if line.peek != ")":
                line.expect(",")
        attrs = self._attrs(line, op)
        origin = Origin()
        if line.accept("@"):
            onnx_name, onnx_op = line.literal(), line.literal()
            line.expect("[")
            passes: list[str] = []
            while not line.accept("]"):
                passes.append(line.name())
                if line.peek != "]":
                    line.expect(",")
            origin = Origin(onnx_name, onnx_op, tuple(passes))
        self.nodes.append(Node(op, tuple(inputs), tuple(outputs), attrs, origin))

    @staticmethod
    def _attrs(line: _Line, op: OpDef) -> Any:
        given: dict[str, Any] = {}
        if line.accept("{"):
            while not line.accept("}"):
                key = line.name()
                line.expect("=")
                given[key] = line.literal()
                if line.peek != "}":
                    line.expect(",")
        known = {f.name for f in dataclasses.fields(op.attrs)}
        if unknown := set(given) - known:
            raise ValueError(f"{op.name} has no attribute {', '.join(sorted(unknown))}")
        return op.attrs(**given)

    def graph(self) -> Graph:
        if self.header is None:
            raise ParseError("the text has no `graph` line", expected='graph "name" stage=FLOAT')
        name, stage = self.header
        return Graph(
            name,
            tuple(self.inputs),
            tuple(self.outputs),
            self.initializers,
            tuple(self.nodes),
            stage,
            _layouts(self.layouts["input"]),
            _layouts(self.layouts["output"]),
            tuple(self.updates),
        )


def _layouts(layouts: list[tuple[int, ...] | None]) -> tuple[tuple[int, ...] | None, ...]:
    return tuple(layouts) if any(layouts) else ()
