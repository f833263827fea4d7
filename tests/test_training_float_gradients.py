"""Gradients that stay float32 on the device: their sums are in the stated order, and C has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array
from tinsmith.machine.board import load_board
from tinsmith.ops._convolution import ConvolutionAttrs, filter_gradient, input_gradient
from tinsmith.ops._ordered_sums import (
    ordered_filter_gradient,
    ordered_input_gradient,
    ordered_sum,
)
from tinsmith.toolchain.compile_c import build
from tinsmith.train.scheme import Scheme, SchemeError, Update, parse_scheme
from tinsmith.train.simulate import Trainer

from .host_c import SANITIZE
from .test_training_c import PART, WHOLE, Net, agree
from .training_nets import everything, mobile_net, real_gradients, samples, training_graph

NETS = (
    Net("digits_dscnn", Scheme(classes=10, gradients="float32", update=(PART,))),
    Net("digits_resnet", Scheme(rule="residual4", gradients="float32", update=(WHOLE,))),
    Net(
        "digits_autoencoder",
        Scheme(loss="mse", gradients="float32", update=(Update(last=3, bias=True, weights=1.0),)),
    ),
)
LAYERS = [
    ((4, 5, 6), 4, (1, 1), ConvolutionAttrs()),
    ((6, 5, 3), 4, (3, 2), ConvolutionAttrs((2, 1), (1, 1, 1, 0))),
    ((7, 6, 4), 6, (3, 3), ConvolutionAttrs((1, 2), (2, 2, 2, 2), (2, 2), 2)),
    ((6, 6, 5), 5, (3, 3), ConvolutionAttrs((2, 2), (1, 1, 1, 1), groups=5)),
]


def _label(net: Net) -> str:
    return f"{net.name}-{net.scheme.rule}"


def _arrays(size, out, kernel, attrs: ConvolutionAttrs) -> tuple[Array, Array, Array]:
    """(g, x, w) over many magnitudes: every order of their sums rounds differently."""
    rng = np.random.default_rng(5)
    w = rng.integers(-127, 128, (out, *kernel, size[2] // attrs.groups)).astype(np.float32)
    x = rng.integers(-255, 256, (1, *size)).astype(np.float32)
    pads = (attrs.pads[:2], attrs.pads[2:])
    steps = zip(size[:2], *pads, attrs.dilations, kernel, attrs.strides, strict=True)
    grid = [(n + a + b - d * (k - 1) - 1) // s + 1 for n, a, b, d, k, s in steps]
    g = rng.normal(0, 1, (1, *grid, out)) * 10.0 ** rng.uniform(-3, 3, (1, *grid, out))
    return g.astype(np.float32), x, w


def _products(g: Array, w: Array, size, attrs: ConvolutionAttrs):
    """Every (filter index, pixel of g, pixel and channel of x) that meet, in the order of g."""
    out, kernel_h, kernel_w, channels = w.shape
    per_out = out // attrs.groups
    for oy, ox in np.ndindex(*g.shape[1:3]):
        for o, ky, kx, i in np.ndindex(out, kernel_h, kernel_w, channels):
            y = oy * attrs.strides[0] + ky * attrs.dilations[0] - attrs.pads[0]
            x = ox * attrs.strides[1] + kx * attrs.dilations[1] - attrs.pads[1]
            if 0 <= y < size[0] and 0 <= x < size[1]:
                yield (o, ky, kx, i), (0, oy, ox, o), (0, y, x, o // per_out * channels + i)


@pytest.mark.parametrize(("size", "out", "kernel", "attrs"), LAYERS)
def test_sums_are_in_the_stated_order(size, out, kernel, attrs: ConvolutionAttrs) -> None:
    """One scalar operation after the other gives the same bits."""
    g, x, w = _arrays(size, out, kernel, attrs)
    terms = list(_products(g, w, size, attrs))
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for at_w, at_g, at_x in terms:
        dw[at_w] += g[at_g] * x[at_x]
    for at_w, at_g, at_x in sorted(terms, key=lambda t: (t[0][1:3], t[0][0])):
        dx[at_x] += g[at_g] * w[at_w]
    assert np.array_equal(ordered_input_gradient(g, w, attrs, x.shape), dx)
    assert np.array_equal(ordered_filter_gradient(g, x, kernel, w.shape[3], attrs), dw)
    total = np.zeros(out, np.float32)
    for row in g.reshape(-1, out):
        total += row
    assert np.array_equal(ordered_sum(g), total)
    wide = g.astype(np.float64)
    np.testing.assert_allclose(dx, input_gradient(wide, w, attrs, x.shape), rtol=1e-3, atol=1)
    exact = filter_gradient(wide, x.astype(np.float64), kernel, w.shape[3], attrs)
    np.testing.assert_allclose(dw, exact, rtol=1e-3, atol=1)


@pytest.mark.parametrize(
    "net", [NETS[0], pytest.param(NETS[1], marks=pytest.mark.slow), NETS[2]], ids=_label
)
def test_a_hundred_steps_are_bit_exact_on_this_machine(net: Net, tmp_path: Path) -> None:
    net.compile(tmp_path, "host")
    build(tmp_path, load_board("host"), extra_cflags=SANITIZE)
    agree(tmp_path, net)


@pytest.mark.slow
@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an500", "mps3-an547", "qemu-riscv32"])
def test_a_hundred_steps_are_bit_exact_on_boards(board: str, tmp_path: Path) -> None:
    NETS[0].compile(tmp_path, board)
    agree(tmp_path, NETS[0])


def test_they_are_what_int8_ones_round() -> None:
    """One step moves every weight by as much as with int8 gradients, to their rounding."""
    moved: list[dict[str, Array]] = []
    for scheme in (everything(), real_gradients(everything())):
        graph = training_graph(mobile_net(), scheme)
        trainer = Trainer(graph)
        (sample,) = samples(graph, 1)
        trainer.step(trainer.encode(sample), 2, 3e-3)
        moved.append({v.name: a - graph.initializers[v] * 1.0 for v, a in trainer.state.items()})
    rounded, real = moved
    assert rounded.keys() == real.keys()
    for name, step in real.items():
        if name.endswith(".trained"):
            assert np.abs(step - rounded[name]).max() <= 1 + 0.2 * np.abs(step).max()
    assert any(not np.array_equal(step, rounded[name]) for name, step in real.items())


def test_other_gradients_are_refused() -> None:
    assert parse_scheme('gradients = "float32"').gradients == "float32"
    with pytest.raises(SchemeError, match="gradients"):
        parse_scheme('gradients = "float16"')
