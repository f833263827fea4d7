"""Every rule, found by scanning `rules/`. Importing a rule imports TVM."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache

from ..ir.graph import Graph, Node
from . import rules
from .rule import Rule


@cache
def registry() -> tuple[Rule, ...]:
    """Every rule, ordered by module and then as listed there. Raises MissingTool without TVM."""
    return tuple(_scan())


def rule_for(node: Node, graph: Graph) -> Rule | None:
    """The first rule that can compute the node."""
    dtype = node.y.dtype
    candidates = (r for r in registry() if r.op == node.op.name and r.dtype is dtype)
    return next((r for r in candidates if r.applies(node, graph)), None)


def _scan() -> Iterator[Rule]:
    modules = pkgutil.iter_modules(rules.__path__, f"{rules.__name__}.")
    for info in sorted(modules, key=lambda m: m.name):
        if not info.name.rpartition(".")[2].startswith("_"):
            yield from importlib.import_module(info.name).RULES
