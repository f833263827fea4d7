"""Small protected projects for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tinsmith.codegen.report import Report
from tinsmith.codegen.schedule import schedule
from tinsmith.ir.graph import Graph, Stage
from tinsmith.machine.board import load_board
from tinsmith.pass_manager import PassContext
from tinsmith.trust.keys import device_key
from tinsmith.trust.partition import Partition, partition
from tinsmith.trust.project import Device, Protection, write_protected

from .int8_nets import Int8Net

SECRET = bytes(range(100, 140))
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
    return device_key(SECRET, "00" * 32, device)


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
