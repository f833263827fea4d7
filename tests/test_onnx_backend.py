"""The ONNX project's own node tests, through its standard Backend interface.

All node tests whose operators have an import rule run, but for those excluded below, each with the
reason. What they compare is the operators' float meaning (and that of QDQ nodes) with ONNX's data.
"""

from __future__ import annotations

import re
import unittest
from pathlib import Path

import onnx
import onnx.backend.test
import pytest
from onnx.backend.test.loader import load_model_tests

from tinsmith.frontend.onnx_backend import TinsmithBackend

EXCLUDED = {
    r"_expanded": "function bodies in elementary operators that no deployed model contains",
    r"pool_3d": "3-D windows are not supported",
    r"logsoftmax": "LogSoftmax is not supported",
    r"training": "training mode is not supported",
    r"resize_.*(linear|cubic|crop)": "Resize repeats pixels; it does not interpolate",
    r"resize_downsample": "Resize only enlarges",
    r"resize_upsample_sizes_nearest(_axes_\d_\d)?$": "Resize by whole factors only",
    r"resize_.*not_(larger|smaller)": "Resize by whole factors only, without an aspect policy",
    r"resize_.*(floor_align_corners|ceil_half_pixel|round_prefer_ceil)": (
        "these coordinates do not repeat pixels evenly"
    ),
    r"(add|sub|mul|div)_u?int8$|clip_default_int8|maxpool_2d_uint8": (
        "integers without a scale have no meaning here"
    ),
    r"prelu_": "one constant slope only",
    r"zero_size|allowzero_reordered|slice_start_out_of_bounds": "tensors without elements",
    r"clip_min_greater": "a minimum above the maximum is an error in a model",
    r"gather_2d_indices": "Gather takes constant indices along one axis",
    r"dequantizelinear_axis": "activations are quantised per tensor",
    r"blocked": "blocked quantisation is not supported",
}
EXPECTED_PASSES = 207


def candidates() -> list[str]:
    """Names of the node tests whose operators have an import rule."""
    names: list[str] = []
    for case in load_model_tests(kind="node"):
        model = onnx.load(Path(case.model_dir) / "model.onnx")
        if TinsmithBackend.is_compatible(model):
            names.append(case.name)
    return names


CANDIDATES = candidates()


def reason_against(name: str) -> str | None:
    return next((why for pattern, why in EXCLUDED.items() if re.search(pattern, name)), None)


SELECTED = [name for name in CANDIDATES if reason_against(name) is None]


def node_tests() -> type[unittest.TestCase]:
    """onnx's test case, without the thousands of tests that it would only report as skipped."""
    made = onnx.backend.test.BackendTest(TinsmithBackend, __name__).test_cases
    every = made["OnnxBackendNodeModelTest"]
    return type("TestNodes", (unittest.TestCase,), {n: vars(every)[n] for n in map(_cpu, SELECTED)})


def _cpu(name: str) -> str:
    return f"{name}_cpu"


TestNodes = node_tests()


def test_most_node_tests_are_run() -> None:
    assert len(SELECTED) >= EXPECTED_PASSES


@pytest.mark.parametrize("pattern", EXCLUDED)
def test_every_exclusion_excludes_something(pattern: str) -> None:
    assert any(re.search(pattern, name) for name in CANDIDATES)


def test_unknown_devices_are_refused() -> None:
    assert TinsmithBackend.supports_device("CPU")
    assert not TinsmithBackend.supports_device("CUDA")
