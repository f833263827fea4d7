"""Small protected projects for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tinsmith.codegen.report import Report
from tinsmith.codegen.schedule import schedule
from tinsmith.ir.graph import Graph, Stage
from tinsmith.ir.interpret import run_batch
from tinsmith.machine.board import load_board
from tinsmith.pass_manager import PassContext
from tinsmith.trust.keys import device_key
from tinsmith.trust.partition import Partition, partition
from tinsmith.trust.project import Device, Protection, write_protected

from .int8_nets import Int8Net

SECRET = bytes(range(100, 140))
HOST, BOARD = "host", "mps2-an505"
MODES = ("withhold", "permute", "coreguard-otp")


@cache
def network() -> Graph:
    """PLANNED for the host: a stem, a residual block with a depthwise branch, a classifier."""
    net = Int8Net("guarded", 11)
    x = net.input(1, 8, 8, 3)
    head = net.conv(x, 16, 3, 2)
    wide = net.conv(head, 24, 1)
    branch = net.conv(net.depthwise(wide), 24, 1)
    joined = net.add("add", [wide, branch])
    pooled = net.pool("average_pool", net.conv(joined, 32, 3, 2), 2, 2)
    graph = net.build(net.add("softmax", [net.dense(pooled, 5)]))
    return schedule(graph, load_board("host"), None, False, PassContext()).graph


def key_of(device: str) -> bytes:
    return device_key(SECRET, "00" * 32, device, "tests")


def divided(mode: str, device: str) -> Partition:
    """What the images of that device compute."""
    return partition(replace(network(), stage=Stage.QUANTIZED), mode, key_of(device))


def protected(
    folder: Path, board: str, mode: str, device: str = "d1", quota: int | None = None
) -> Report:
    """The network, protected for a device."""
    signer = Ed25519PrivateKey.from_private_bytes(bytes(32))
    whose = Device(device, key_of(device), signer)
    return write_protected(
        folder,
        network(),
        load_board(board),
        Protection(mode, quota=quota),
        whose,
        PassContext(),
        pictures=False,
    )


class Projects:
    """Makes every project once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, board: str, mode: str, device: str = "d1") -> Path:
        folder = self.root / f"{board}-{mode}-{device}"
        if not folder.exists():
            protected(folder, board, mode, device)
        return folder


def samples(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(-128, 128, (count, *network().inputs[0].type.shape)).astype(np.int8)


def oracle(x: np.ndarray) -> np.ndarray:
    return run_batch(network(), [x])[0]
