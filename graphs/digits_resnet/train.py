"""Trains the residual network on 16×16 digits, and writes it with its samples."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import conv, fit, infer, load, save

SEED = 11
EPOCHS = 30


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut, a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.first_norm = conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.second, self.second_norm = conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut = conv(inputs, outputs, size=1, stride=stride) if stride > 1 else None

    def run(self, ops, x):
        y = ops.relu(ops.layer(ops.layer(x, self.first), self.first_norm))
        y = ops.layer(ops.layer(y, self.second), self.second_norm)
        return ops.relu(ops.add(y, ops.layer(x, self.shortcut) if self.shortcut else x))


class Network(nn.Module):
    """A stem, two residual blocks, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = conv(1, 16), nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList([Block(16, 16, 1), Block(16, 32, 2)])
        self.classifier = nn.Linear(32, 10)

    def run(self, ops, x):
        x = ops.relu(ops.layer(ops.layer(x, self.stem), self.stem_norm))
        for block in self.blocks:
            x = block.run(ops, x)
        return ops.layer(ops.flatten(ops.pool(x)), self.classifier)


def main() -> None:
    torch.manual_seed(SEED)
    digits = load(16)
    network = Network()
    fit(network, digits.train_x, digits.train_y, nn.CrossEntropyLoss(), EPOCHS)
    accuracy = float(np.mean(infer(network, digits.test_x).argmax(1) == digits.test_y))
    save(
        Path(__file__).parent,
        network,
        ([1, 16, 16], [10]),
        {
            "calibration": {"x": digits.train_x[:128]},
            "samples": {"x": digits.test_x, "label": digits.test_y.astype(np.uint8)},
        },
        {"seed": SEED, "epochs": EPOCHS, "accuracy": round(accuracy, 4)},
    )


if __name__ == "__main__":
    main()
