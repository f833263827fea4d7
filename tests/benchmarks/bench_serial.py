"""What the serial link carries: payload per second at two baud rates, clean and with 1 % of bytes
corrupted, in the emulator behind a paced line. Every output is compared with the oracle's.

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
from tinsmith.runner.compare import verify
from tinsmith.serial_link.port import using_port
from tinsmith.train.scheme import Scheme, Update

BOARD = "mps2-an386"
SAMPLES = 40


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
        x = archive["x"][:SAMPLES]
    print("| baud | corrupted | payload B/s | of the line | frames damaged | right |")
    print("| --- | --- | --- | --- | --- | --- |")
    for baud in (115_200, 921_600):
        for corrupted in (0.0, 0.01):
            with (
                proxy(emulator(folder, BOARD), baud=baud, faults=Faults(corrupted), seed=1) as line,
                using_port(line.url, baud) as port,
            ):
                result = verify(folder, x, fresh=True)
            assert port is not None
            found = port.statistics
            share = found.throughput / (baud / 10)
            right = f"{result.samples} of {result.samples}" if result.ok else "NO"
            print(
                f"| {baud:,} | {corrupted:.0%} | {found.throughput:,.0f} | {share:.0%} | "
                f"{found.traffic.damaged:,} | {right} |"
            )


if __name__ == "__main__":
    main()
