"""The one place that imports TVM. Raises MissingTool when it is not installed.

TVM has no type annotations worth the name: everything of it is Any here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import MissingTool

try:
    tvm: Any = import_module("tvm")
    tvm_ffi: Any = import_module("tvm_ffi")
    te: Any = import_module("tvm.te")
    tirx: Any = import_module("tvm.tirx")
    s_tir: Any = import_module("tvm.s_tir")
    ir_builder: Any = import_module("tvm.script.ir_builder")
    T: Any = import_module("tvm.script").tirx
except ImportError as error:
    raise MissingTool(
        "kernels for this board come from TVM, which cannot be imported",
        expected="apache-tvm and apache-tvm-ffi in the versions that tinsmith names",
        hint=f"pip install 'tinsmith[tvm]' ({error})",
    ) from error

if TYPE_CHECKING:

    class Expr(Any):
        """A TIR expression, a scalar or a vector."""

    class PrimFunc(Any):
        """A function of TIR."""

    class Schedule(Any):
        """A scheduled module."""

    class TensorIntrin(Any):
        """A registered intrinsic."""
else:
    Expr = tvm.ir.Expr
    PrimFunc = tirx.PrimFunc
    Schedule = s_tir.Schedule
    TensorIntrin = s_tir.TensorIntrin
