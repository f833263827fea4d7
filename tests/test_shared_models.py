"""The float meaning of every shared model, after the float passes, against onnxruntime.

Float models agree within 1e-4 of the largest output. QDQ models are run as the ONNX text says, with
quantize and dequantize as float nodes: what remains are ties and sums in another order, each of
which can flip a rounding and travel on.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from tinsmith.frontend.onnx_import import import_model
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.lowering import CANONICALIZE
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import eliminate_dead_nodes, legalize_layout

from .shared import shared_models
from .test_passes import compute

TINY = ("ad", "ic", "kws", "vww")
MCU = ("mbv2-w0.35", "mcunet-5fps", "proxyless-w0.3")
SAMPLES = 16
FLOAT_TOLERANCE = 1e-4  # of the largest output: float32 sums in another order, over many layers
PASSES = (*CANONICALIZE, legalize_layout.PASS, eliminate_dead_nodes.PASS)


def load(path: str) -> Graph:
    return run_passes(import_model(shared_models() / f"{path}.onnx"), PASSES, PassContext())


def outputs(graph: Graph, samples: Array) -> Array:
    shape = (1, *samples.shape[1:])
    return np.stack([compute(graph, [x.reshape(shape)])[0][0] for x in samples])


def tiny_golden(name: str) -> dict[str, Array]:
    return dict(np.load(shared_models() / f"mlperf_tiny/{name}_golden.npz"))


@pytest.mark.parametrize("name", TINY)
def test_float_mlperf_tiny(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    facts = json.loads((shared_models() / "mlperf_tiny/facts.json").read_text())[name]
    scale, zero_point = facts["input"]["quantization"]
    x = tiny_golden(name)["x"][:SAMPLES].astype(np.float32)
    x = ((x - zero_point) * scale).astype(np.float32)
    path = f"mlperf_tiny/{name}_f32"
    session = ort.InferenceSession(shared_models() / f"{path}.onnx")
    want = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(
        outputs(load(path), x), want, atol=FLOAT_TOLERANCE * float(np.abs(want).max()), rtol=0
    )


@pytest.mark.parametrize("name", MCU)
def test_float_mcu_nets(name: str) -> None:
    golden = np.load(shared_models() / f"mcu_nets/{name}_golden.npz")
    want = golden["f32_logits"]
    np.testing.assert_allclose(
        outputs(load(f"mcu_nets/{name}_f32"), golden["x"]),
        want,
        atol=FLOAT_TOLERANCE * float(np.abs(want).max()),
        rtol=0,
    )


@pytest.mark.parametrize("name", TINY)
def test_qdq_mlperf_tiny(name: str) -> None:
    """Against onnxruntime's stored outputs: nearly every integer is the same one."""
    golden = tiny_golden(name)
    got = outputs(load(f"mlperf_tiny/{name}_int8"), golden["x"][:SAMPLES])
    want = golden["onnxruntime"][:SAMPLES]
    difference = np.abs(got.astype(np.int32) - want)
    assert np.mean(difference == 0) >= 0.98
    assert difference.max() <= 2
    if name != "ad":  # which has no classes
        np.testing.assert_array_equal(got.argmax(1), want.argmax(1))


@pytest.mark.parametrize("name", MCU)
def test_qdq_mcu_nets(name: str) -> None:
    """Against onnxruntime without its fused kernels; one flipped LSB moves logits by a few LSB."""
    golden = np.load(shared_models() / f"mcu_nets/{name}_golden.npz")
    got = outputs(load(f"mcu_nets/{name}_int8"), golden["x"])
    want = golden["onnxruntime_noopt_logits"]
    lsb = np.abs(got - want) / golden["out_scale"]
    assert lsb.max() <= 5
    np.testing.assert_array_equal(got.argmax(1), want.argmax(1))
