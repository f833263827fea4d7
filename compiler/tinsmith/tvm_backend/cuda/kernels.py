"""The rules for the GPU as kernel records, and the kernels of a model in one CUDA source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...kernels.kernel import Constant, Kernel
from .launch import DeviceCode
from .rule import CudaRule, registry, rule_for

_NO_TEMPLATE = ""  # such kernels have no C function: the host code launches them


@dataclass
class CudaLibrary:
    """The GPU functions of one model; equal ones share a kernel.

    arch: "sm_90".
    """

    arch: str
    _functions: dict[str, Any] = field(default_factory=dict[str, Any])
    _by_hash: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    _nodes: dict[str, str] = field(default_factory=dict[str, str])
    _codes: dict[int, DeviceCode] = field(default_factory=dict[int, DeviceCode])  # by functions

    def symbol(self, node: Node, graph: Graph) -> str:
        """The function that computes a node; it is built when no equal one is there yet."""
        if node.name not in self._nodes:
            rule = rule_for(node, graph)
            assert rule is not None, "select_kernels chose a rule"
            self._nodes[node.name] = self._share(rule.build(node, graph), node.op.name)
        return self._nodes[node.name]

    def code(self) -> DeviceCode:
        """The source with every function that was asked for, and its launches."""
        from .device_code import device_code

        count = len(self._functions)
        if count not in self._codes:
            self._codes[count] = device_code(self._functions, self.arch)
        return self._codes[count]

    def _share(self, function: Any, op: str) -> str:
        from ..import_tvm import tvm_ffi

        alike = self._by_hash.setdefault(int(tvm_ffi.structural_hash(function)), [])
        for name in alike:
            if tvm_ffi.structural_equal(self._functions[name], function):
                return name
        count = sum(name.rpartition("_")[0] == op for name in self._functions)
        name = f"{op}_{count}"
        self._functions[name] = function
        alike.append(name)
        return name


def cuda_kernels() -> list[Kernel]:
    """A kernel per rule. Raises MissingTool without TVM."""
    return [_kernel(rule) for rule in registry()]


def _kernel(rule: CudaRule) -> Kernel:
    def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
        return rule.constants(node, graph)

    def view(node: Node, graph: Graph) -> Mapping[str, Any]:
        del node, graph
        return {}

    return Kernel(
        name=f"cuda_{rule.op}_{'s8' if rule.dtype is DType.INT8 else 'f32'}",
        op=rule.op,
        template=_NO_TEMPLATE,
        dtype=rule.dtype,
        view=view,
        constants=constants,
        state=rule.state,
        applies=lambda node, graph: rule_for(node, graph) is rule,
        instructions=lambda node, graph: 0.0,
    )
