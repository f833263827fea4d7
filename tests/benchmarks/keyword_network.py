"""Keyword networks that have never heard one speaker: the features, and training in torch.

    python tests/benchmarks/keyword_network.py FOLDER [--without 0 1 2 3 4 5]

Needs torch (`pip install 'tinsmith[train,dev]'`) and the shared data. FOLDER/without_<speaker>/
gets a float network that tells ten spoken digits apart, trained on the other five speakers, its
calibration samples, the features of all takes as it takes them, and its provenance.
bench_keywords.py goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "graphs"))

from training import conv, fit, infer, save

from tests.shared import shared_data

HERTZ, WINDOW, HOP, FRAMES = 8000, 256, 160, 49
BANDS, COEFFICIENTS = 20, 10
LONG = WINDOW + HOP * (FRAMES - 1)  # samples that the network hears: 0.99 s
OFFICIAL_TEST = 5  # takes 0 … 4 of a digit and speaker are FSDD's test set
SHIFTS = (0.0, -0.05, 0.05)  # seconds; every take is learnt at each
CHANNELS, BLOCKS, EPOCHS, SEED = 48, 4, 12, 7


def mel_filters() -> np.ndarray:
    """Triangles over the power spectrum, [BANDS, WINDOW / 2 + 1], 60 Hz … 3.8 kHz."""
    ends = 1127 * np.log1p(np.array([60.0, 3800.0]) / 700)
    edges = 700 * np.expm1(np.linspace(*ends, BANDS + 2) / 1127)
    f = np.fft.rfftfreq(WINDOW, 1 / HERTZ)
    rising = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


def features(take: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """MFCC float32[1, FRAMES, COEFFICIENTS] of int16 samples at 8 kHz, centred, of even loudness.

    shift: seconds later than centred. What is longer than the network hears loses its ends.
    """
    sound = take.astype(np.float64)
    sound *= 0.1 / max(1.0, np.sqrt(np.mean(sound**2)))
    start = (LONG - len(sound)) // 2 + round(shift * HERTZ)
    heard = np.zeros(LONG)
    low, high = max(0, start), min(LONG, start + len(sound))
    heard[low:high] = sound[low - start : high - start]
    frames = np.lib.stride_tricks.sliding_window_view(heard, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2
    bands = np.log(power @ mel_filters().T + 1e-3)
    n = np.arange(BANDS) + 0.5
    cosines = np.cos(np.pi / BANDS * np.outer(np.arange(COEFFICIENTS), n)) * np.sqrt(2 / BANDS)
    return (bands @ cosines.T).astype(np.float32)[None]


class Network(nn.Module):
    """The keyword network of MLPerf Tiny, narrower: a stem and four separable blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, CHANNELS, (10, 4), 2, (4, 1), bias=False)
        self.stem_norm = nn.BatchNorm2d(CHANNELS)
        self.blocks = nn.ModuleList()
        for _ in range(BLOCKS):
            layers = {
                "depthwise": conv(CHANNELS, CHANNELS, groups=CHANNELS),
                "depthwise_norm": nn.BatchNorm2d(CHANNELS),
                "pointwise": conv(CHANNELS, CHANNELS, size=1),
                "pointwise_norm": nn.BatchNorm2d(CHANNELS),
            }
            self.blocks.append(nn.ModuleDict(layers))
        self.classifier = nn.Linear(CHANNELS, 10)

    def run(self, ops, x):
        x = ops.relu(ops.layer(ops.layer(x, self.stem), self.stem_norm))
        for block in self.blocks:
            x = ops.relu(ops.layer(ops.layer(x, block["depthwise"]), block["depthwise_norm"]))
            x = ops.relu(ops.layer(ops.layer(x, block["pointwise"]), block["pointwise_norm"]))
        return ops.softmax(ops.layer(ops.flatten(ops.pool(x)), self.classifier))


def train_without(speaker: int, folder: Path, shifted: np.ndarray, facts: dict) -> None:
    """shifted: features [SHIFTS, takes, 1, FRAMES, COEFFICIENTS]. facts: of every take."""
    others = facts["speaker"] != speaker
    mine = others & (facts["take"] >= OFFICIAL_TEST)
    mean = shifted[:, mine].mean(axis=(0, 1, 2, 3))
    scale = shifted[:, mine].std(axis=(0, 1, 2, 3))
    shifted = (shifted - mean) / scale
    x, y = np.concatenate(shifted[:, mine]), np.tile(facts["label"][mine], len(SHIFTS))
    torch.manual_seed(SEED)
    network = Network()
    fit(network, x, y.astype(np.int64), nn.CrossEntropyLoss(), EPOCHS)
    right = infer(network, shifted[0]).argmax(1) == facts["label"]
    known = others & (facts["take"] < OFFICIAL_TEST)
    folder.mkdir(parents=True, exist_ok=True)
    save(
        folder,
        network,
        ([1, FRAMES, COEFFICIENTS], [10]),
        {
            "calibration": {"x": shifted[0][mine][::9]},
            "features": {"x": shifted[0], **facts},
        },
        {
            "script": "tests/benchmarks/keyword_network.py",
            "data": "Free Spoken Digit Dataset (CC BY-SA 4.0)",
            "without_speaker": speaker,
            "epochs": EPOCHS,
            "seed": SEED,
            "accuracy_known": round(float(right[known].mean()), 4),
            "accuracy_unseen": round(float(right[~others].mean()), 4),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without", type=int, nargs="*", default=range(6))
    args = parser.parse_args()
    with np.load(shared_data() / "fsdd_8khz.npz") as data:
        takes = np.split(data["samples"], data["offsets"][1:-1])
        facts = {name: data[name] for name in ("label", "speaker", "take")}
    shifted = np.stack([[features(t, shift) for t in takes] for shift in SHIFTS])
    for speaker in args.without:
        train_without(speaker, args.folder / f"without_{speaker}", shifted, facts)


if __name__ == "__main__":
    main()
