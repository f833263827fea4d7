"""The one place that imports TVM. Raises MissingTool when it is not installed."""

from __future__ import annotations

from ..errors import MissingTool

try:
    import tvm
    from tvm import te, tirx
    from tvm.s_tir import Schedule, TensorIntrin
    from tvm.script import tirx as T  # noqa: N812
    from tvm.tirx import PrimFunc
except ImportError as error:
    raise MissingTool(
        "kernels for this board come from TVM, which cannot be imported",
        expected="apache-tvm and apache-tvm-ffi in the versions that tinsmith names",
        hint=f"pip install 'tinsmith[tvm]' ({error})",
    ) from error

__all__ = ["PrimFunc", "Schedule", "T", "TensorIntrin", "te", "tirx", "tvm"]
