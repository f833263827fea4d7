"""What onnx.checker does not look at: lengths, ranges and types of attributes and constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
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
