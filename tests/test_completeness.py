"""Every operator answers every question, or says why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tinsmith import paths
from tinsmith.ir.dtypes import DType
from tinsmith.ir.opdef import Absent, IntegerRule, OpDef
from tinsmith.kernels import registry as kernels
from tinsmith.kernels.select import candidates
from tinsmith.ops import registry

from .cases import case_graph, cases_of

OPS = [pytest.param(op, id=op.name) for op in registry().values()]


@pytest.mark.parametrize("op", OPS)
def test_every_absence_has_a_reason(op: OpDef) -> None:
    parts: list[object] = [getattr(op, f.name) for f in dataclasses.fields(op)]
    assert None not in parts
    if isinstance(op.integer, IntegerRule):
        parts += [getattr(op.integer, f.name) for f in dataclasses.fields(op.integer)]
    for part in parts:
        if isinstance(part, Absent):
            assert len(part.reason.split()) >= 3


@pytest.mark.parametrize("op", OPS)
def test_attributes_are_a_frozen_dataclass_with_defaults(op: OpDef) -> None:
    assert dataclasses.is_dataclass(op.attrs)
    attrs = op.attrs()
    for field in dataclasses.fields(attrs):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(attrs, field.name, None)


@pytest.mark.parametrize("op", OPS)
def test_cases_are_named_once(op: OpDef) -> None:
    if isinstance(op.cases, Absent):
        return
    names = [c.name for c in op.cases]
    assert names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("op", OPS)
def test_operator_says_what_it_is(op: OpDef) -> None:
    module = __import__(op.infer.__module__, fromlist=["__doc__"])
    assert module.__doc__


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT8])
def test_every_form_has_a_portable_kernel(op: OpDef, dtype: DType) -> None:
    if op.name in ("quantize", "dequantize"):
        return  # never in a program: fold_qdq removes them
    for case in cases_of(op, dtype):
        graph = case_graph(op, case, dtype)
        for node in graph.nodes:
            fitting = candidates(node, graph, frozenset(), kernels())
            assert fitting or node.op.is_view
            for kernel in fitting:
                assert _file(kernel.template).is_file()


def _file(template: str) -> Path:
    root, _, name = template.partition("/")
    return {"ops": paths.OP_TEMPLATES, "targets": paths.TARGETS}[root] / name
