"""The operator library: one record per file, found by scanning this folder.

A file `<name>.py` defines `OP` (or `OPS`, several records of one family); files that start with `_`
are shared helpers. An import error is fatal.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from ..ir.opdef import OpDef


@cache
def registry() -> Mapping[str, OpDef]:
    """Every operator by name."""
    found: dict[str, OpDef] = {}
    for module_info in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        records: tuple[OpDef, ...] = getattr(module, "OPS", None) or (module.OP,)
        for op in records:
            if op.name in found:
                raise ImportError(f"operator {op.name} is defined twice")
            found[op.name] = op
    return MappingProxyType(found)


def get(name: str) -> OpDef:
    return registry()[name]
