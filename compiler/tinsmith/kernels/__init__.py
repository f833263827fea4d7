"""The kernel library: every module here that defines `KERNELS`, found by scanning.

`portable/<op>.py` holds the kernels that run on every target; `dsp*.py` and `mve*.py` the
tuned ones. Files that start with `_` are shared helpers. An import error is fatal.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache

from .kernel import Constant, Kernel, KernelCall


@cache
def registry() -> tuple[Kernel, ...]:
    """Every kernel, ordered by module and then as listed there."""
    found: dict[str, Kernel] = {}
    for kernel in _scan():
        if kernel.name in found:
            raise ImportError(f"kernel {kernel.name} is defined twice")
        found[kernel.name] = kernel
    return tuple(found.values())


def _scan() -> Iterator[Kernel]:
    modules = pkgutil.walk_packages(__path__, f"{__name__}.")
    for info in sorted(modules, key=lambda m: m.name):
        if not info.name.rpartition(".")[2].startswith("_"):
            yield from getattr(importlib.import_module(info.name), "KERNELS", ())


__all__ = ["Constant", "Kernel", "KernelCall", "registry"]
