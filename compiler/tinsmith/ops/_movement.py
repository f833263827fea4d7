"""Lowering of operators that only move bytes: where scales differ, a lookup table rescales."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Origin, Value
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import lookup_table


def lower_movement(node: Node, rewriter: Rewriter, attrs: Any = None) -> None:
    """Keep the node, with `attrs` if given; outputs in another scale than input 0 get a `lookup`.

    The operator itself then always copies: its outputs have the input's quant.
    """
    attrs = node.attrs if attrs is None else attrs
    x = node.inputs[0].type
    moved: list[Value] = []
    after: list[tuple[Value, Value, Array]] = []
    for output in node.outputs:
        table = _table(x, output.type)
        value = output
        if table is not None:
            held = output.type.with_dtype(output.type.dtype, x.quant)
            value = Value(rewriter.unique(f"{output.name}.moved"), held)
            after.append((value, output, table))
        moved.append(value)
    rewriter.emit(node.op, node.inputs, attrs, origin=node.origin, outputs=moved)
    for value, output, table in after:
        _emit_lookup(value, output, table, rewriter, node.origin)


def rescale(value: Value, type_: TensorType, rewriter: Rewriter, origin: Origin) -> Value:
    """`value` (int8) in the scale and zero point of `type_`: itself, a new constant, or a `lookup`.

    Rounded half up once.
    """
    table = _table(value.type, type_)
    if table is None:
        return value
    name = f"{value.name}.rescaled"
    array = rewriter.array(value)
    if array is not None:
        return rewriter.constant(name, table[array.astype(np.int64) + 128], type_.quant)
    output = Value(rewriter.unique(name), value.type.with_dtype(type_.dtype, type_.quant))
    _emit_lookup(value, output, table, rewriter, origin)
    return output


def _table(x: TensorType, y: TensorType) -> Array | None:
    """The table from integers of `x` to those of `y`; None when it would change nothing."""
    table = lookup_table(lambda real: real, x, y)
    return None if np.array_equal(table, np.arange(-128, 128)) else table


def _emit_lookup(
    value: Value, output: Value, table: Array, rewriter: Rewriter, origin: Origin
) -> None:
    from . import get  # the registry scans this folder: it is complete only after import

    constant = rewriter.constant(f"{output.name}.table", table)
    rewriter.emit(get("lookup"), [value, constant], origin=origin, outputs=[output])
