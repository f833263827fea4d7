"""tinsmith as an `onnx.backend.base.Backend`: import a model, run it with the numpy interpreter.

It lets the ONNX project's own test suite run against the importer and the operators' float
meaning. A compiled model has its weights and shapes built in. Test models feed them as inputs, so
what must be constant is taken from the fed arrays, and the model is imported when it is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.backend.base import Backend, BackendRep

from ..errors import ImportFailure, UnsupportedModel
from ..ir.dtypes import Array
from ..ir.interpret import run
from .constant_folding import foldable
from .import_rules import import_rules
from .model_file import OPSETS, STANDARD_DOMAINS
from .onnx_import import import_model

_OFFSET = 128  # of uint8 values, which are int8 inside


class TinsmithBackend(Backend):
    """Runs on the CPU, float32 and QDQ models."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether every operator has an import rule and the first input is data we take."""
        versions = {o.domain: o.version for o in model.opset_import}
        if set(versions) - set(STANDARD_DOMAINS) or versions.get("", 0) < OPSETS[0]:
            return False
        if not model.graph.input or not model.graph.node:
            return False
        taken = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8)
        data = model.graph.input[0].type.tensor_type.elem_type
        results = {o.type.tensor_type.elem_type for o in model.graph.output}
        known = all(n.op_type in import_rules() or foldable(n) for n in model.graph.node)
        rules = any(n.op_type in import_rules() for n in model.graph.node)
        return known and rules and data in taken and results <= set(taken)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> TinsmithRep:
        super().prepare(model, device, **kwargs)  # checks the model
        return TinsmithRep(_within_opsets(model))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


class TinsmithRep(BackendRep):
    """A model that is imported when its inputs are known."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model

    def run(self, inputs: Sequence[Any], **kwargs: Any) -> tuple[Array, ...]:
        """One array per graph input → one per output, in the model's own types.

        Raises CompileError as `import_model` does.
        """
        fed = {
            info.name: np.asarray(x)
            for info, x in zip(self.model.graph.input, inputs, strict=False)
        }
        first = next(iter(fed), None)
        integers = {n: x for n, x in fed.items() if n != first and x.dtype != np.float32}
        try:
            return self._run(fed, integers)
        except (
            ImportFailure,
            UnsupportedModel,
        ):  # an operand must be constant, so all but the data are
            return self._run(fed, {n: x for n, x in fed.items() if n != first})

    def _run(self, fed: Mapping[str, Array], constants: Mapping[str, Array]) -> tuple[Array, ...]:
        graph = import_model(_with_constants(self.model, constants))
        data = [_to_int8(fed[v.name]) for v in graph.inputs]
        declared = {o.name: o.type.tensor_type.elem_type for o in self.model.graph.output}
        return tuple(
            _to_uint8(y) if declared[v.name] == TensorProto.UINT8 else y
            for v, y in zip(graph.outputs, run(graph, data), strict=True)
        )


def _within_opsets(model: ModelProto) -> ModelProto:
    """Newer opsets only gave these operators more element types: the model says the newest we take.

    The importer checks the result, so a node that is no such operator is refused.
    """
    stamped = ModelProto()
    stamped.CopyFrom(model)
    for entry in stamped.opset_import:
        if entry.domain in STANDARD_DOMAINS:
            entry.version = min(entry.version, OPSETS[-1])
    return stamped


def _with_constants(model: ModelProto, constants: Mapping[str, Array]) -> ModelProto:
    """The model with some inputs turned into initializers."""
    bound = ModelProto()
    bound.CopyFrom(model)
    kept = [i for i in bound.graph.input if i.name not in constants]
    del bound.graph.input[:]
    bound.graph.input.extend(kept)
    bound.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())
    return bound


def _to_int8(array: Array) -> Array:
    if array.dtype != np.uint8:
        return array
    return (array.astype(np.int16) - _OFFSET).astype(np.int8)


def _to_uint8(array: Array) -> Array:
    return (array.astype(np.int16) + _OFFSET).astype(np.uint8)
