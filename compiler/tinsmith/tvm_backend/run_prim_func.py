"""Runs one PrimFunc on this machine through TVM's own runtime: for tests and measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir.dtypes import Array
from ..machine.target import Isa
from .import_tvm import PrimFunc, tvm
from .native import llvm_target


def run_prim_func(func: PrimFunc, arrays: Sequence[Array], isa: Isa) -> list[Array]:
    """The buffers after one call, in parameter order. arrays: what they hold before it, flat."""
    module = compiled(func, isa)
    tensors = [tvm.runtime.tensor(a.reshape(-1)) for a in arrays]
    module["main"](*tensors)
    return [t.numpy() for t in tensors]


def compiled(func: PrimFunc, isa: Isa) -> Any:
    """TVM's executable with `func` as "main"; `.mod` also has its assembly and a timer."""
    return tvm.compile(func.with_attr("global_symbol", "main"), target=llvm_target(isa))
