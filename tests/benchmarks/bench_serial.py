"""What the serial link carries: payload per second at two baud rates, clean and with 1 % of bytes
corrupted, in the emulator behind a paced line. Every output is compared with the oracle's, every
training step with the simulator's.

    python tests/benchmarks/bench_serial.py [-o out/serial]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tinsmith
from tests.serial_proxy import Faults, emulator, proxy
from tinsmith import paths
from tinsmith.ir.dtypes import Array
from tinsmith.runner.compare import verify
from tinsmith.runner.project import device_samples
from tinsmith.runner.training import open_training, train_project
from tinsmith.serial_link.port import using_port
from tinsmith.train.scheme import Scheme, Update
from tinsmith.train.simulate import Trainer

BOARD = "mps2-an386"
SAMPLES, STEPS = 40, 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", type=Path, default=Path("out/serial"))
    folder = parser.parse_args().o
    model = paths.GRAPHS / "digits_dscnn"
    tinsmith.compile(
        model / "model.onnx", board=BOARD, out=folder, calibrate=model / "calibration.npz",
        harness="serial", pictures=False, train=Scheme(update=(Update(last=1, weights=1.0),)),
    )  # fmt: skip
    with np.load(model / "samples.npz") as archive:
        x, labels = archive["x"][:SAMPLES], archive["label"][:STEPS]
    print("| | baud | corrupted | payload B/s | of the line | frames damaged | right |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for what, work in (("verify", _verify), ("train", _train)):
        for baud in (115_200, 921_600):
            for corrupted in (0.0, 0.01):
                with (
                    proxy(
                        emulator(folder, BOARD), baud=baud, faults=Faults(corrupted), seed=1
                    ) as line,
                    using_port(line.url, baud) as port,
                ):
                    right = work(folder, x, labels)
                assert port is not None
                found = port.statistics
                share = found.throughput / (baud / 10)
                print(
                    f"| {what} | {baud:,} | {corrupted:.0%} | {found.throughput:,.0f} | "
                    f"{share:.0%} | {found.traffic.damaged:,} | {right} |",
                    flush=True,
                )


def _verify(folder: Path, x: Array, _: Array) -> str:
    result = verify(folder, x, fresh=True)
    return f"{result.samples} of {result.samples} samples" if result.ok else "NO"


def _train(folder: Path, x: Array, labels: Array) -> str:
    """Losses and state against the simulator's."""
    training = open_training(folder)
    rows = device_samples(training.project.graph, x[:STEPS])
    trainer = Trainer(training.graph)
    steps = zip(rows[0], labels, strict=True)
    losses = [trainer.step(trainer.encode([row]), int(label), 0.01) for row, label in steps]
    got = train_project(training, rows, labels, 0.01)
    same = np.array_equal(got.losses, np.array(losses, np.float32))
    same &= all(np.array_equal(got.state[v], a) for v, a in trainer.state.items())
    return f"{STEPS} of {STEPS} steps, and the state" if same else "NO"


if __name__ == "__main__":
    main()
