"""A transformer encoder in every mode: attention, FFN, norms, head are locked, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.project import read_graph
from tinsmith.ir.graph import Graph, Stage
from tinsmith.ir.interpret import run
from tinsmith.pipeline import compile_model
from tinsmith.runner.run import run as run_project
from tinsmith.trust import keys
from tinsmith.trust.cut import Mode, TrustError, choose, places
from tinsmith.trust.partition import join, partition
from tinsmith.trust.project import protect_project

from .transformer import HEADS, TOKENS, Norm, transformer

KEY = bytes(range(32))
MODES: tuple[Mode, ...] = ("withhold", "permute", "coreguard-otp")
KINDS: dict[Norm, str] = {"layer": "Gelu", "batch": "Relu"}  # with which activation


class Networks:
    """Compiles every kind for a board once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cache  # noqa: B019 — lives as long as the module
    def folder(self, norm: Norm, board: str = "host") -> Path:
        model = transformer(self.root / f"{norm}.onnx", norm=norm, activation=KINDS[norm])
        samples = self.root / "samples.npz"
        x = np.random.default_rng(1).standard_normal((32, TOKENS, 12))
        np.savez(samples, x=x.astype(np.float32))
        out = self.root / f"{norm}-{board}"
        compile_model(model, board=board, out=out, calibrate=samples, pictures=False)
        return out

    def graph(self, norm: Norm) -> Graph:
        return replace(read_graph(self.folder(norm)), stage=Stage.QUANTIZED)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return Networks(tmp_path_factory.mktemp("transformer"))


def given(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-128, 128, (count, TOKENS, 12)).astype(np.int8)


def test_layers_of_every_kind_are_locked(networks: Networks) -> None:
    """Below the cut: Q, K, V and output projections, norms, both layers of the FFN, the head."""
    graph = networks.graph("layer")
    site = choose(graph, "withhold")
    after = [n for n in site.place.below if n.op.name == "dense"]
    locked = [n for n in site.locked_nodes if n.op.name == "dense"]
    assert locked == after
    assert len(locked) == 4 + 2 + 1  # of the second block, and the head
    gains = [n for n in site.locked_nodes if n.op.name in ("mul", "add")]
    assert len(gains) >= 4  # gain and offset of its norms
    assert any(n.op.name == "dense" for n in site.bridge)
    names = [n.op.name for n in graph.nodes]
    assert names.count("softmax") == 2
    assert names.count("matmul") == 4
    assert HEADS > 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm", KINDS)
def test_every_cut_is_exact_or_says_why_it_is_none(
    networks: Networks, norm: Norm, mode: Mode
) -> None:
    """All places where one value carries the network, around each residual."""
    graph = networks.graph(norm)
    inputs = given(2)
    wanted = [run(graph, [x[None]])[0] for x in inputs]
    reasons = {
        "withhold": "nothing to withhold before",
        "coreguard-otp": "can run on blinded integers",
        "permute": "no reason",
    }
    exact, refused = 0, list[str]()
    for place in places(graph):
        try:
            divided = partition(graph, mode, KEY, place.value.name)
        except TrustError as error:
            refused.append(error.message)
            continue
        whole = join(divided)
        rng = np.random.default_rng(exact)
        for x, y in zip(inputs, wanted, strict=True):
            pads = [
                rng.integers(-(2**31), 2**31, v.type.shape).astype(np.int32)
                for v in whole.inputs[1:]
            ]
            assert np.array_equal(run(whole, [x[None], *pads])[0], y), place.value.name
        exact += 1
    assert exact >= 4
    assert all(reasons[mode] in text for text in refused)


def test_the_stolen_half_does_not_answer(networks: Networks) -> None:
    """With another device's order the answers have nothing to do with the right ones."""
    graph = networks.graph("layer")
    one, other = (join(partition(graph, "permute", bytes([k] * 32))) for k in (1, 2))
    stolen = partition(graph, "permute", bytes([1] * 32))
    wrong = replace(stolen, secure=partition(graph, "permute", bytes([2] * 32)).secure)
    inputs = given(24)
    right = np.stack([run(one, [x[None]])[0].ravel() for x in inputs])
    assert np.array_equal(right, np.stack([run(other, [x[None]])[0].ravel() for x in inputs]))
    got = np.stack([run(join(wrong), [x[None]])[0].ravel() for x in inputs])
    a, b = (y - y.mean(axis=0) for y in (right.astype(np.float64), got.astype(np.float64)))
    assert a.std() > 1
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.4


@pytest.mark.parametrize(
    ("board", "norm", "mode"),
    [
        ("mps2-an505", "layer", "withhold"),
        ("mps2-an505", "layer", "permute"),
        ("host", "layer", "coreguard-otp"),
        ("host", "batch", "withhold"),
    ],
)
def test_the_pair_computes_what_the_model_does(
    networks: Networks, tmp_path: Path, board: str, norm: Norm, mode: Mode
) -> None:
    keys.new_secret(tmp_path / "root.key")
    folder, out = networks.folder(norm, board), tmp_path / "pair"
    secret = tmp_path / "root.key"
    protect_project(folder, out, secret=secret, device="d", mode=mode, pictures=False)
    x = given(20)
    got = run_project(out, {"x": x}).device_outputs[0]
    wanted = np.stack([run(read_graph(folder), [row[None]])[0] for row in x])
    assert np.array_equal(got.reshape(wanted.shape), wanted)
