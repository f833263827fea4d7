"""What onnx.checker does not look at: lengths, ranges and types of attributes and constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from tinsmith.errors import UnsupportedModel
from tinsmith.frontend import onnx_import
from tinsmith.frontend.onnx_import import import_model

from .onnx_models import info, model, node


def malformed_nodes() -> ModelProto:
    x, y = [info("x", [1, 3, 8, 8])], [info(f"y{i}", None) for i in range(10)]
    constants = {
        "w": np.ones((4, 3, 3, 3), np.float32),
        "real": np.array([1.5], np.float32),
        "one": np.array([1], np.int64),
        "two": np.array([1, 2], np.int64),
        "twice": np.array([1, 1], np.int64),
        "far": np.array([7], np.int64),
        "none": np.array([], np.float32),
        "vast": np.array([1, 1, 2.0**20, 2.0**20], np.float32),
    }
    nodes = [
        node("Conv", "x w", "y0", name="pads", pads=[1, 1, 1]),
        node("Conv", "x w", "y1", name="strides", strides=[0, 1], auto_pad="SAME_UPPER"),
        node("MaxPool", "x", "y2", name="kernel", kernel_shape=[2]),
        node("Slice", "x one two", "y3", name="lengths"),
        node("Slice", "x real one", "y4", name="real_bounds"),
        node("Slice", "x one far far", "y5", name="axis"),
        node("Unsqueeze", "x twice", "y6", name="unsqueeze"),
        node("Squeeze", "x far", "y7", name="squeeze"),
        node("Clip", "x none", "y8", name="clip"),
        node("Resize", "x _ vast", "y9", name="resize", mode="nearest"),
    ]
    return model(nodes, x, y, constants)


def test_each_node_is_named_with_its_reason(golden: Callable[[str, str], None]) -> None:
    made = malformed_nodes()
    with pytest.raises(UnsupportedModel) as caught:
        import_model(made)
    assert len(caught.value.nodes) == len(made.graph.node)
    golden("bad_models/malformed_nodes.txt", caught.value.render() + "\n")


def test_what_a_rule_did_not_foresee_is_the_fault_of_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rule(*args: object) -> list[object]:
        return [][len(args)]

    monkeypatch.setattr(onnx_import, "rule_for", lambda proto: rule)
    made = model([node("Relu", "x", "y", name="odd")], [info("x", [1, 4])], [info("y", None)])
    with pytest.raises(UnsupportedModel, match=r"Relu 'odd': its attributes or inputs are malf"):
        import_model(made)


def malformed_scales() -> ModelProto:
    """Quantised operators, each with one scale, zero point or input that cannot be."""
    constants = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w": np.ones((4, 3, 1, 1), np.int8),
        "ws": np.full(4, 0.1, np.float32),
        "wz": np.zeros(4, np.int8),
        "b": np.ones(4, np.int32),
        "zero": np.float32(0),
        "negative": np.array([0.1, -0.1, 0.1, 0.1], np.float32),
        "nan": np.float32(np.nan),
        "endless": np.float32(np.inf),
        "three": np.full(3, 0.1, np.float32),
        "three_zeros": np.zeros(3, np.int8),
        "b3": np.ones(3, np.int32),
        "b8": np.ones(4, np.int8),
        "whole": np.int32(1),
        "table": np.full((4, 1), 0.1, np.float32),
        "real_zero": np.float32(0),
        "wide_zero": np.int32(0),
        "other": np.float32(0.2),
    }
    convolutions = {
        "zero_scale": "q zero z w ws wz s z b",
        "negative_scale": "q s z w negative wz s z b",
        "nan_scale": "q s z w ws wz nan z b",
        "infinite_scale": "q s z w ws wz endless z b",
        "three_scales": "q s z w three three_zeros s z b",
        "three_zero_points": "q s z w ws three_zeros s z b",
        "two_inputs": "q ws wz w ws wz s z b",
        "short_bias": "q s z w ws wz s z b3",
        "int8_bias": "q s z w ws wz s z b8",
        "whole_scale": "q s z w ws wz whole z b",
        "table_of_scales": "q s z w table wz s z b",
        "real_zero_point": "q s real_zero w ws wz s z b",
        "other_scale": "q other z w ws wz s z b",
    }
    plain = {
        "d_zero": ("DequantizeLinear", "q zero z"),
        "d_nan": ("DequantizeLinear", "q nan z"),
        "d_row": ("DequantizeLinear", "q ws wz"),
        "d_pairs": ("DequantizeLinear", "q three z"),
        "d_wide_zero_point": ("DequantizeLinear", "q s wide_zero"),
        "q_negative": ("QuantizeLinear", "x negative wz"),
        "q_infinite": ("QuantizeLinear", "x endless z"),
        "q_pairs": ("QuantizeLinear", "x s wz"),
    }
    contributed = {
        "add_short": ("QLinearAdd", "q s z q"),
        "add_zero": ("QLinearAdd", "q s z q zero z s z"),
        "pool_short": ("QLinearGlobalAveragePool", "q"),
        "sigmoid_negative": ("QLinearSigmoid", "q s z negative wz"),
        "concat_short": ("QLinearConcat", "s z q s"),
        "concat_nothing": ("QLinearConcat", "s z"),
        "gemm_short": ("QGemm", "q s"),
    }
    nodes = [node("QuantizeLinear", "x s z", "q", name="input")]
    nodes += [node("QLinearConv", i, f"y_{n}", name=n) for n, i in convolutions.items()]
    nodes += [node(op, i, f"y_{n}", name=n) for n, (op, i) in plain.items()]
    for name, (op, inputs) in contributed.items():
        made = node(op, inputs, f"y_{name}", name=name)
        made.domain = "com.microsoft"
        nodes.append(made)
    outputs = [info(n.output[0], None) for n in nodes[1:]]
    built = model(nodes, [info("x", [1, 3, 8, 8])], outputs, constants)
    built.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return built


def test_each_wrong_scale_is_named_with_its_node(golden: Callable[[str, str], None]) -> None:
    made = malformed_scales()
    with pytest.raises(UnsupportedModel) as caught:
        import_model(made)
    assert {n.node for n in caught.value.nodes} == {n.name for n in made.graph.node} - {"input"}
    golden("bad_models/malformed_scales.txt", caught.value.render() + "\n")
