"""Where quantisation costs accuracy: signal to quantisation noise per layer, and a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from ..ir.dtypes import Array, DType, Quant
from ..ir.graph import Graph, Node, Value
from ..ir.interpret import evaluate
from .arithmetic import dequantize_array, quantize_array
from .batch import batch_step, fold_weights, rebatched, run_batched
from .noise import CLIPPED_LSB, Noise

GOOD_DB = 25.0  # a layer below this is worth a look
_MOSTLY = 0.5  # share of the error's energy
_SYSTEMATIC = 0.3
_NAME_COLUMNS = 48
_UNEVEN = 16.0  # largest over median channel


@dataclass(frozen=True)
class LayerQuality:
    """One layer of a quantised network, against the float one.

    Attributes:
        node: name of its output value. op: operator. onnx_name: the ONNX node it came from.
        sqnr_db: of the whole quantised network up to here (errors before it included).
        local_sqnr_db: of this layer alone: exact inputs, quantised inputs, weights and output.
        max_abs_lsb: largest local error, in steps of the output's scale; above 1 mostly clipping.
        scale: of the output. hint: what to try, "" for a good layer.
    """

    node: str
    op: str
    onnx_name: str
    sqnr_db: float
    local_sqnr_db: float
    max_abs_lsb: float
    scale: float
    hint: str


def quality(
    graph_float: Graph, graph_quantized: Graph, samples: Sequence[Array]
) -> list[LayerQuality]:
    """Every quantised layer, the one with the most noise of its own first.

    Args:
        graph_float: a FLOAT graph. graph_quantized: the same after `insert_qdq`.
        samples: one float32 array [samples, *shape] per graph input.
    """
    folded = fold_weights(graph_quantized)
    layers = _layers(graph_float, folded)
    step = min(batch_step(graph_float), batch_step(folded))
    runs = zip(
        run_batched(graph_float, samples, step), run_batched(folded, samples, step), strict=True
    )
    for (count, exact), (_, noisy) in runs:
        real = dict(exact)
        for value, array in noisy:
            if value in layers:
                layers[value].accumulated.add(real[value], array)
        for value, layer in layers.items():
            layer.local.add(real[value], layer.evaluate(folded, real, count))
    found = [layer.result() for layer in layers.values()]
    return sorted(found, key=lambda q: q.local_sqnr_db)


def quality_table(layers: Sequence[LayerQuality], limit: int | None = None) -> Table:
    """The report as a table for the terminal."""
    table = Table(title="Signal to quantisation noise, worst layer first")
    for column in ("layer", "op"):
        table.add_column(column, overflow="fold")
    for column in ("here dB", "total dB", "max LSB"):
        table.add_column(column, justify="right")
    table.add_column("what to try", overflow="fold")
    for q in layers[:limit]:
        style = "" if not q.hint else "yellow"
        numbers = (f"{q.local_sqnr_db:.1f}", f"{q.sqnr_db:.1f}", f"{q.max_abs_lsb:.1f}")
        table.add_row(_short(q.onnx_name or q.node), q.op, *numbers, q.hint, style=style)
    return table


def quality_json(layers: Sequence[LayerQuality]) -> list[dict[str, Any]]:
    """The report for programs; infinite ratios (no error at all) are null."""
    rows = [asdict(q) for q in layers]
    return [
        {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in row.items()}
        for row in rows
    ]


def _short(name: str) -> str:
    """Both ends of a long name; converters join the names of all fused layers."""
    half = _NAME_COLUMNS // 2
    return name if len(name) <= _NAME_COLUMNS else f"{name[:half]}…{name[-half:]}"


@dataclass
class _Layer:
    """Output `index` of a node of the quantised graph, which stands for the float graph's `value`.

    sources: per quantised activation input, the float value and the quantisation it goes through.
    """

    node: Node
    index: int
    value: Value
    quant: Quant
    sources: Mapping[Value, tuple[Value, Quant]]
    accumulated: Noise
    local: Noise

    def evaluate(self, folded: Graph, real: Mapping[Value, Array], count: int) -> Array:
        """The layer on exact inputs, with quantised inputs, weights and output."""
        arrays: list[Array] = []
        for value in self.node.inputs:
            if value in folded.initializers:
                arrays.append(folded.initializers[value])
            else:
                source, quant = self.sources[value]
                arrays.append(_fake(real[source], source, quant))
        node = rebatched(folded, self.node, count) if count > 1 else self.node
        return _fake(evaluate(node, arrays)[self.index], self.value, self.quant)

    def result(self) -> LayerQuality:
        return LayerQuality(
            self.value.name,
            self.node.op.name,
            self.node.origin.onnx_name,
            self.accumulated.sqnr_db,
            self.local.sqnr_db,
            self.local.worst,
            self.quant.scale[0],
            self._hint(),
        )

    def _hint(self) -> str:
        here, total = self.local.sqnr_db, self.accumulated.sqnr_db
        if here < GOOD_DB:
            if self.local.worst > CLIPPED_LSB and self.local.clipped > _MOSTLY:
                return "outliers are cut off: calibrate with --method minmax"
            if self.local.systematic > _SYSTEMATIC:
                return "the error is mostly an offset: quantize with --correct-bias"
            if self.local.unevenness > _UNEVEN:
                return "channels of very different range: quantize with --equalize"
            return "8 bits are coarse here: try another method, or compile with --dtype float32"
        if total < GOOD_DB:
            return "good by itself; the error comes from the layers before it"
        return ""


def _layers(graph_float: Graph, folded: Graph) -> dict[Value, _Layer]:
    """The layers by the float value they stand for: it keeps its name behind its dequantize."""
    floats = set(graph_float.values)
    quantized: dict[Value, tuple[Value, Quant]] = {}  # dequantized → (float value, parameters)
    layers: dict[Value, _Layer] = {}
    for node in folded.nodes:
        if node.op.name != "dequantize" or node.x.quant is None:
            continue
        value, quantize = node.outputs[0], folded.producer.get(node.inputs[0])
        if quantize is None or quantize.op.name != "quantize":
            continue
        raw = quantize.inputs[0]
        quantized[value] = (value if value in floats else raw, node.x.quant)
        maker = folded.producer.get(raw)
        if maker is None or value not in floats:
            continue
        sources = {v: quantized[v] for v in maker.inputs if v in quantized}
        if all(v in sources or v in folded.initializers for v in maker.inputs):
            axis = 1 if value.type.rank > 2 else -1
            noises = (Noise(node.x.scale, axis), Noise(node.x.scale, axis))
            index = maker.outputs.index(raw)
            layers[value] = _Layer(maker, index, value, node.x.quant, sources, *noises)
    return layers


def _fake(array: Array, value: Value, quant: Quant) -> Array:
    """Quantised and dequantised again, float32."""
    type_ = value.type.with_dtype(DType.INT8, quant)
    return dequantize_array(quantize_array(array, type_), type_)
