"""ONNX pooling, means and data movement in the forms of opset 11 to 22, against onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tinsmith.errors import UnsupportedModel
from tinsmith.frontend.onnx_import import import_model
from tinsmith.ir.dtypes import Array, Shape
from tinsmith.ir.interpret import run
from tinsmith.ir.verify import verify

from .onnx_builder import run_onnx


@dataclass(frozen=True)
class Form:
    """One ONNX node on one fed input, with constant inputs after it ("" where absent)."""

    op_type: str
    shape: Shape
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: tuple[Array | str, ...] = ()
    outputs: int = 1
    opsets: tuple[int, ...] = (11, 13, 17, 18, 22)
    nodes: tuple[str, ...] | None = None  # operators of the imported graph, where it matters

    def model(self, opset: int) -> onnx.ModelProto:
        names = [f"c{i}" if isinstance(c, np.ndarray) else "" for i, c in enumerate(self.constants)]
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op_type, ["x", *names], outputs, name="node", **self.attrs)
        float32 = onnx.TensorProto.FLOAT
        initializers = [
            numpy_helper.from_array(c, n)
            for c, n in zip(self.constants, names, strict=True)
            if isinstance(c, np.ndarray)
        ]
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", float32, self.shape)],
            [helper.make_tensor_value_info(o, float32, None) for o in outputs],
            initializers,
        )
        opset_imports = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=opset_imports, ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model)
        for output, known in zip(model.graph.output, inferred.graph.output, strict=True):
            output.CopyFrom(known)
            output.type.tensor_type.shape.SetInParent()  # required, though nothing may be known
        return model


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


IMAGE = (1, 3, 9, 8)
SIGNAL = (1, 4, 13)
POOL = {"kernel_shape": [3, 2], "strides": [2, 2]}
NEAREST = {"mode": "nearest"}

FORMS = {
    "max_pads": Form("MaxPool", IMAGE, {**POOL, "pads": [1, 0, 1, 1]}),
    "max_ceil": Form("MaxPool", IMAGE, {**POOL, "ceil_mode": 1}),
    "max_dilated": Form("MaxPool", IMAGE, {"kernel_shape": [2, 3], "dilations": [3, 2]}),
    "max_same_upper": Form("MaxPool", IMAGE, {**POOL, "auto_pad": "SAME_UPPER"}),
    "max_same_lower_ceil": Form(
        "MaxPool", IMAGE, {**POOL, "auto_pad": "SAME_LOWER", "ceil_mode": 1}
    ),
    "max_1d": Form(
        "MaxPool",
        SIGNAL,
        {"kernel_shape": [4], "strides": [3], "pads": [1, 2]},
        nodes=("reshape", "max_pool", "reshape"),
    ),
    "global_max": Form("GlobalMaxPool", IMAGE, nodes=("max_pool",)),
    "global_max_1d": Form("GlobalMaxPool", SIGNAL),
    "average": Form("AveragePool", IMAGE, {**POOL, "pads": [1, 0, 1, 1]}),
    "average_count_pads": Form(
        "AveragePool", IMAGE, {**POOL, "pads": [1, 0, 1, 1], "count_include_pad": 1}
    ),
    "average_ceil": Form("AveragePool", IMAGE, {**POOL, "ceil_mode": 1}),
    "average_ceil_counts": Form(
        "AveragePool",
        IMAGE,
        {**POOL, "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
        opsets=(19, 22),  # before, onnxruntime counts what lies beyond the padding
    ),
    "average_same": Form("AveragePool", IMAGE, {**POOL, "auto_pad": "SAME_UPPER"}),
    "average_dilated": Form(
        "AveragePool", IMAGE, {"kernel_shape": [2, 3], "dilations": [3, 2]}, opsets=(19, 22)
    ),
    "average_1d": Form("AveragePool", SIGNAL, {"kernel_shape": [4], "strides": [2]}),
    "average_all": Form("AveragePool", IMAGE, {"kernel_shape": [9, 8]}, nodes=("reduce_mean",)),
    "global_average": Form("GlobalAveragePool", IMAGE, nodes=("reduce_mean",)),
    "global_average_1d": Form("GlobalAveragePool", SIGNAL),
    "mean_axes": Form("ReduceMean", IMAGE, {"axes": [-1, 1], "keepdims": 0}, opsets=(11, 13, 17)),
    "mean_axes_input": Form("ReduceMean", IMAGE, {}, (ints(2, 3),), opsets=(18, 22)),
    "mean_everything": Form("ReduceMean", IMAGE, {"keepdims": 0}),
    "mean_noop": Form("ReduceMean", IMAGE, {"noop_with_empty_axes": 1}, opsets=(18,)),
    "split_sizes": Form("Split", IMAGE, {"axis": 3, "split": [3, 5]}, outputs=2, opsets=(11,)),
    "split_equal": Form("Split", IMAGE, {"axis": 1}, outputs=3, opsets=(11, 13, 17)),
    "split_input": Form("Split", IMAGE, {"axis": -2}, (ints(2, 7),), outputs=2, opsets=(13, 22)),
    "split_uneven": Form("Split", IMAGE, {"axis": 2, "num_outputs": 2}, outputs=2, opsets=(18, 22)),
    "slice_all_inputs": Form(
        "Slice", IMAGE, {}, (ints(-1, 1), ints(-100, 99), ints(-1, 2), ints(-3, 2))
    ),
    "slice_axes_absent": Form("Slice", SIGNAL, {}, (ints(0, 1), ints(1, -1))),
    "slice_nothing_cut": Form("Slice", IMAGE, {}, (ints(0), ints(2**62), ints(2))),
    "gather_scalar": Form("Gather", IMAGE, {"axis": 1}, (np.array(-1),)),
    "gather_stepped": Form("Gather", IMAGE, {"axis": 2}, (ints(7, 4, 1),), nodes=("slice",)),
    "gather_irregular": Form("Gather", IMAGE, {"axis": 3}, (ints(0, 3, 1, 1),)),
    "pad_constant": Form("Pad", IMAGE, {}, (ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(1.5))),
    "pad_default": Form("Pad", IMAGE, {}, (ints(0, 1, 0, 0, 0, 0, 0, 0),)),
    "pad_edge": Form("Pad", IMAGE, {"mode": "edge"}, (ints(0, 0, 1, 2, 0, 0, 0, 1),)),
    "pad_reflect": Form("Pad", IMAGE, {"mode": "reflect"}, (ints(0, 0, 1, 2, 0, 0, 0, 1),)),
    "pad_axes": Form("Pad", IMAGE, {}, (ints(2, 1, 0, 3), "", ints(-1, 2)), opsets=(18, 22)),
    "transpose": Form("Transpose", IMAGE, {"perm": [0, 2, 3, 1]}),
    "transpose_reversed": Form("Transpose", SIGNAL),
    "resize_asymmetric": Form(
        "Resize",
        IMAGE,
        {**NEAREST, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        (np.float32([]), np.float32([1, 1, 3, 2])),
    ),
    "resize_half_pixel": Form(
        "Resize", IMAGE, NEAREST, (np.float32([]), np.float32([1, 1, 2, 4])), opsets=(11, 13, 18)
    ),
    "resize_sizes": Form(
        "Resize", IMAGE, NEAREST, ("", "", ints(1, 3, 18, 8)), opsets=(13, 18, 19)
    ),
    "resize_axes": Form(
        "Resize", IMAGE, {**NEAREST, "axes": [2, 3]}, ("", np.float32([2, 2])), opsets=(18, 19)
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_form_means_what_onnxruntime_computes(name: str) -> None:
    form = FORMS[name]
    x = np.random.default_rng(len(name)).normal(size=form.shape).astype(np.float32)
    for opset in form.opsets:
        model = form.model(opset)
        graph = import_model(model)
        verify(graph)
        if form.nodes is not None:
            assert tuple(n.op.name for n in graph.nodes) == form.nodes
        for got, want in zip(run(graph, [x]), run_onnx(model, [x]), strict=True):
            np.testing.assert_allclose(got, want, 1e-5, 1e-6, err_msg=f"opset {opset}")


REFUSED = {
    "the second output, Indices": Form("MaxPool", IMAGE, POOL, outputs=2),
    "3-D pooling": Form("MaxPool", (1, 2, 4, 4, 4), {"kernel_shape": [2, 2, 2]}),
    "does not fit": Form("AveragePool", IMAGE, {"kernel_shape": [20, 2]}),
    "is not supported; nearest is": Form(
        "Resize", IMAGE, {"mode": "linear"}, ("", np.float32([1, 1, 2, 2]))
    ),
    "does not repeat pixels evenly": Form(
        "Resize",
        IMAGE,
        {**NEAREST, "coordinate_transformation_mode": "asymmetric"},
        ("", np.float32([1, 1, 3, 3])),
    ),
    "whole factors are": Form("Resize", IMAGE, NEAREST, ("", "", ints(1, 3, 12, 8))),
    "only the last axes may grow": Form("Resize", IMAGE, NEAREST, ("", np.float32([1, 2, 1, 1]))),
    "selects nothing": Form("Slice", IMAGE, {}, (ints(5), ints(2), ints(3))),
    "leave axis 3": Form("Gather", IMAGE, {"axis": 3}, (ints(9),)),
    "1-D list": Form("Gather", IMAGE, {"axis": 3}, (np.array([[0, 1]]),)),
    "irregular indices": Form(
        "Gather", (1, 99), {"axis": 1}, (ints(*[i * i for i in range(9)] * 2),)
    ),
    "negative pads": Form("Pad", IMAGE, {}, (ints(0, 0, -1, 0, 0, 0, 0, 0),)),
    "'wrap' is not supported": Form(
        "Pad", IMAGE, {"mode": "wrap"}, (ints(0, 0, 1, 0, 0, 0, 0, 0),), opsets=(19,)
    ),
    "a reflection of 9 leaves": Form(
        "Pad", IMAGE, {"mode": "reflect"}, (ints(0, 0, 9, 0, 0, 0, 0, 0),)
    ),
    "equal parts": Form("Split", IMAGE, {"axis": 3}, outputs=3, opsets=(13,)),
    "into parts that hold data": Form(
        "Split", IMAGE, {"axis": 3}, (ints(0, 8),), outputs=2, opsets=(13,)
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_supported_says_why(reason: str) -> None:
    form = REFUSED[reason]
    with pytest.raises(UnsupportedModel) as caught:
        import_model(form.model(form.opsets[-1] if len(form.opsets) == 1 else 13))
    (node,) = caught.value.nodes
    assert node.op == form.op_type
    assert reason in node.reason
