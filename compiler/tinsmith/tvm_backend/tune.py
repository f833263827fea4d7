"""Measures the tiles of a model's layers on a device, and keeps those that are faster.

The candidates are the tiles that a rule lists, the likely best first. All tiles give the same
integers, so nothing has to be verified anew.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value
from ..machine.target import Isa, Target
from ..machine.tuned import TunedLayer
from .devices import measure
from .import_tvm import tvm
from .native import llvm_target
from .registry import rule_for
from .rule import Rule, Site, layer_name
from .rules._parallel import one_thread

LEAST_GAIN = 0.03  # of the time; less is not told from noise


@dataclass(frozen=True)
class Layer:
    """A node that stands for all layers of its name, and the rule that computes it."""

    name: str
    node: Node
    graph: Graph
    rule: Rule

    def site(self, isa: Isa, tile: tuple[int, int]) -> Site:
        """The node inside a model, with `tile`."""
        values = (*self.graph.activations(self.node), *self.graph.results(self.node))
        stored = frozenset(v for v in values if v.type.dtype is DType.INT8)
        tiled = msgspec.structs.replace(isa, tiles=((self.name, *tile),))
        return Site(self.node, self.graph, tiled, stored)


def layers(graph: Graph, isa: Isa) -> list[Layer]:
    """The layers with tiles to choose from, one of each name, in the graph's order."""
    found: dict[str, Layer] = {}
    for node in graph.nodes:
        rule = None if node.op.is_view else rule_for(node, graph)
        if rule is not None and len(rule.tiles(Site(node, graph, isa))) > 1:
            name = layer_name(node)
            found.setdefault(name, Layer(name, node, graph, rule))
    return list(found.values())


def tune_layer(layer: Layer, target: Target, remote: Any, trials: int) -> TunedLayer:
    """Times the first `trials` tiles of a layer on the device `remote`; the fastest one."""
    assert target.tvm is not None
    tiles = layer.rule.tiles(Site(layer.node, layer.graph, target.tvm))[:trials]
    sites = [layer.site(target.tvm, tile) for tile in tiles]
    names = [f"tile_{p}_{v}" for p, v in tiles]
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        # A device keeps what it has loaded: every layer needs a name of its own.
        library = Path(folder) / f"tiles_{zlib.crc32(layer.name.encode()):08x}.so"
        _compile(layer.rule, sites, names, target).export_library(
            str(library), fcompile=tvm.support.cc.cross_compiler(target.cc)
        )
        calls = {n: _arrays(layer.rule, s) for n, s in zip(names, sites, strict=True)}
        times = measure(remote, library, calls)
    seconds = [times[n] for n in names]
    best = int(np.argmin(seconds))
    if seconds[best] > (1 - LEAST_GAIN) * seconds[0]:
        best = 0
    return TunedLayer(
        layer.name,
        *tiles[best],
        round(seconds[best] * 1e6, 3),
        *tiles[0],
        round(seconds[0] * 1e6, 3),
    )


def _compile(rule: Rule, sites: Sequence[Site], names: Sequence[str], target: Target) -> Any:
    assert target.tvm is not None
    with one_thread():
        functions = {
            tvm.ir.GlobalVar(n): rule.build(s).with_attr("global_symbol", n)
            for n, s in zip(names, sites, strict=True)
        }
    return tvm.compile(tvm.IRModule(functions), target=llvm_target(target.tvm))


def _arrays(rule: Rule, site: Site) -> list[Array]:
    """What a call gets: random activations, the layer's constants, room for the rest."""
    rng = np.random.default_rng(0)

    def of(value: Value) -> Array:
        if value.type.dtype is DType.FLOAT32:
            return rng.uniform(-1, 1, value.type.elements).astype(np.float32)
        low, high = DType(site.dtype(value)).range
        return rng.integers(low, high, value.type.elements, endpoint=True).astype(site.dtype(value))

    def every() -> Iterator[Array]:
        yield from map(of, site.graph.activations(site.node))
        yield from map(of, site.graph.results(site.node))
        yield from (np.ascontiguousarray(c.array) for c in rule.constants(site).values())
        if size := rule.scratch_bytes(site):
            yield np.zeros(size, np.uint8)

    return list(every())
