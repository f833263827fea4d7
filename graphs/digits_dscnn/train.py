"""Trains the depthwise-separable network on 16×16 digits, and writes it with its samples."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import conv, fit, infer, load, save

SEED = 7
EPOCHS = 40
# Output channels and stride of each depthwise + pointwise pair.
BLOCKS = ((32, 2), (32, 1), (48, 2))


class Network(nn.Module):
    """A stem, three separable blocks, a classifier. Every convolution has its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = conv(1, 16), nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList()
        channels = 16
        for outputs, stride in BLOCKS:
            layers = {
                "depthwise": conv(channels, channels, stride=stride, groups=channels),
                "depthwise_norm": nn.BatchNorm2d(channels),
                "pointwise": conv(channels, outputs, size=1),
                "pointwise_norm": nn.BatchNorm2d(outputs),
            }
            self.blocks.append(nn.ModuleDict(layers))
            channels = outputs
        self.classifier = nn.Linear(channels, 10)

    def run(self, ops, x):
        x = ops.relu6(ops.layer(ops.layer(x, self.stem), self.stem_norm))
        for block in self.blocks:
            x = ops.relu6(ops.layer(ops.layer(x, block["depthwise"]), block["depthwise_norm"]))
            x = ops.relu6(ops.layer(ops.layer(x, block["pointwise"]), block["pointwise_norm"]))
        return ops.softmax(ops.layer(ops.flatten(ops.pool(x)), self.classifier))


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
