"""Trained networks as ONNX: importing them gives the integers that the device has."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith import paths, pipeline
from tinsmith.errors import CompileError
from tinsmith.frontend.onnx_export import export_model
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.lowering import TO_TRAINING
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.quant.calibrate import calibrate
from tinsmith.quant.samples import read_samples
from tinsmith.train.export import with_trained
from tinsmith.train.scheme import Scheme, Update
from tinsmith.train.simulate import Trainer, fit


def quantized(name: str) -> Graph:
    """A digits model as a QDQ graph."""
    folder = paths.GRAPHS / name
    context = PassContext()
    graph = pipeline.canonical(folder / "model.onnx", context)
    samples = read_samples(folder / "calibration.npz", graph, 20)
    context.calibration = calibrate(graph, samples, "auto")
    return run_passes(graph, pipeline.QUANTIZE, context)


def training(network: Graph, scheme: Scheme) -> Graph:
    context = PassContext(options={"scheme": scheme})
    return run_passes(network, TO_TRAINING, context)


@pytest.mark.parametrize("name", ["digits_dscnn", "digits_resnet"])
@pytest.mark.parametrize("classes", [None, 4])
def test_an_exported_network_computes_what_was_trained(name: str, classes: int | None) -> None:
    network = quantized(name)
    update = (Update(last=3, bias=True, weights=0.5), Update(index=0, bias=True))
    graph = training(network, Scheme(classes=classes, update=update))
    trainer = Trainer(graph)
    rng = np.random.default_rng(0)
    shape = graph.inputs[0].type.shape
    data = [[rng.integers(-128, 128, shape, np.int8)] for _ in range(12)]
    fit(trainer, [trainer.encode(d) for d in data], np.arange(12) % 4, epochs=1, rate=1e-2)

    exported = export_model(with_trained(network, graph, trainer.state))
    context = PassContext()
    again = pipeline.lower(pipeline.canonical(exported, context), "int8", None, "auto", context)
    ends = [n for n in graph.nodes if n.op.name == "softmax_cross_entropy"]
    assert len(ends) == 1
    for sample in data:
        ours = trainer.outputs(trainer.encode(sample))[0]
        assert np.array_equal(run(again, sample)[0], ours)


def test_the_wrong_network_is_refused() -> None:
    graph = training(quantized("digits_resnet"), Scheme(update=(Update(last=1, bias=True),)))
    trainer = Trainer(graph)
    with pytest.raises(CompileError, match="no layer"):
        with_trained(quantized("digits_autoencoder"), graph, trainer.state)
