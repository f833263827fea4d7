"""What `quantize --finetune` wins back on MLPerf Tiny ic, for good and for spoilt calibrations.

    TINSMITH_SHARED=… python tests/benchmarks/bench_finetune.py [--samples 2000] [--epochs 2]

Trains on the training images of the CIFAR subset (some of which the published float model has
seen), judges on its 846 test images. Brighter: how much too bright the calibration images are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from onnx import ModelProto

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.shared import shared_data, shared_models
from tinsmith.lowering import canonical, lower
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import quantize_model
from tinsmith.quant.batch import run_many
from tinsmith.quant.samples import match_samples
from tinsmith.recover_accuracy import FineTune

CASES = ((1, "auto"), (1, "minmax"), (8, "minmax"), (20, "minmax"))  # brighter, method


def accuracy(model: ModelProto, x: np.ndarray, y: np.ndarray) -> float:
    """Of the integers that a device computes."""
    context = PassContext()
    graph = lower(canonical(model, context), "int8", None, "auto", context)
    (outputs, *_) = run_many(graph, match_samples({"x": x}, graph))
    return float((outputs.reshape(len(x), -1).argmax(axis=1) == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=FineTune.rate)
    args = parser.parse_args()
    with np.load(shared_data() / "cifar10_subset.npz") as archive:
        data = {k: archive[k] for k in archive.files}
    x, test = (data[k].astype(np.float32) for k in ("x_train", "x_test"))
    model = shared_models() / "mlperf_tiny" / "ic_f32.onnx"
    with tempfile.TemporaryDirectory() as folder:
        files = {"labels": Path(folder) / "y.npz", "float model": Path(folder) / "x.npz"}
        np.savez(files["labels"], x=x[: args.samples], y=data["y_train"][: args.samples])
        np.savez(files["float model"], x=x[: args.samples])
        for brighter, method in CASES:
            calibration = {"x": x[:64] * np.float32(brighter)}
            plain = quantize_model(model, calibration, method=method)
            start = accuracy(plain.model, test, data["y_test"])
            for source, path in files.items():
                how = FineTune(path, epochs=args.epochs, rate=args.rate)
                tuned = quantize_model(model, calibration, method=method, finetune=how)
                after = accuracy(tuned.model, test, data["y_test"])
                print(
                    f"{method}, {brighter}× too bright, learnt from {source}: "
                    f"{start:.2%} → {after:.2%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
