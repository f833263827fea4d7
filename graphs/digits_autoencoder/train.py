"""Trains a dense autoencoder on the 8×8 digits 0 to 4; the others, anomalies, reconstruct badly."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import fit, infer, load, save

SEED = 3
EPOCHS = 150
WIDTHS = (64, 48, 48, 12, 48, 48, 64)
NORMAL_BELOW = 5


class Network(nn.Module):
    """Dense layers with ReLU between them; the output is the reconstructed image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(WIDTHS))

    def run(self, ops, x):
        for layer in self.layers[:-1]:
            x = ops.relu(ops.layer(x, layer))
        return ops.layer(x, self.layers[-1])


def main() -> None:
    torch.manual_seed(SEED)
    digits = load(8)
    train = digits.train_x[digits.train_y < NORMAL_BELOW].reshape(-1, 64)
    test = digits.test_x.reshape(-1, 64)
    network = Network()
    fit(network, train, train, nn.MSELoss(), EPOCHS)
    error = ((infer(network, test) - test) ** 2).mean(1)
    anomalous = digits.test_y >= NORMAL_BELOW
    save(
        Path(__file__).parent,
        network,
        ([64], [64]),
        {
            "calibration": {"x": train[:128]},
            "samples": {"x": test, "label": anomalous.astype(np.uint8)},
        },
        {
            "seed": SEED,
            "epochs": EPOCHS,
            "auc": round(float(roc_auc_score(anomalous, error)), 4),
            "mse": round(float(error[~anomalous].mean()), 5),
        },
    )


if __name__ == "__main__":
    main()
