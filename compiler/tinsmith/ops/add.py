"""add: elementwise sum with numpy broadcasting and a fused clamp."""

from __future__ import annotations

import numpy as np

from ..ir.opdef import OpDef
from . import _binary, _gradient_rules
from ._clamp import INF
from ._sum import SumAttrs, integer_rule

OP = OpDef(
    name="add",
    attrs=SumAttrs,
    infer=_binary.infer,
    reference=_binary.float_reference(np.add),
    integer=integer_rule(1),
    macs=_binary.elementwise_operations,
    onnx_import={"Add": _binary.importer("add")},
    onnx_export=_binary.exporter("Add"),
    cases=_binary.shared_cases(SumAttrs(clamp=(0.0, INF))),
    gradient=_gradient_rules.sum_rule(1),
)
