"""Compiled projects of boards whose kernels come from TVM, and what the oracle says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array, DType
from tinsmith.ir.graph import Graph
from tinsmith.machine.board import Board, load_board
from tinsmith.machine.cpu import missing_flags
from tinsmith.pipeline import CompiledProject, compile_model
from tinsmith.quant.batch import run_many
from tinsmith.runner.project import Project, open_project
from tinsmith.runner.run import run_project
from tinsmith.toolchain.programs import find_program

from .own_models import compile_own
from .shared import shared_models

OWN = ("digits_dscnn", "digits_resnet", "digits_autoencoder")
TINY = ("ad", "kws", "ic", "vww")
NETS = ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3")
MODELS = (*OWN, *TINY, *NETS)
TARGETS = (
    "x86_64-avx512-vnni",
    "x86_64-avx-vnni",
    "x86_64-avx2",
    "aarch64-dotprod",
    "aarch64",
)


def board_of(target: str) -> str:
    return "linux-aarch64" if target.startswith("aarch64") else "linux-x86_64"


def compile_for(model: str, target: str, folder: Path, **options: Any) -> CompiledProject:
    """A model by name; int8 unless the options say otherwise."""
    if model in OWN:
        return compile_own(model, folder, board_of(target), cpu=target, **options)
    kind = "mlperf_tiny" if model in TINY else "mcu_nets"
    source = shared_models() / kind / f"{model}_int8.onnx"
    return compile_model(
        source, board=board_of(target), cpu=target, out=folder, pictures=False, **options
    )


def require(target: str) -> Board:
    """The board of a target, if its programs run on this machine; else the test is skipped."""
    board = load_board(board_of(target), target)
    if board.is_native:
        lacking = missing_flags(board.target)
        if lacking:
            pytest.skip(f"this machine's processor has no {', '.join(lacking)}")
    elif board.emulator:
        find_program(board.emulator[0], board.debian_packages, f"board {board.name}")
    else:
        pytest.skip(f"board {board.name} has no emulator")
    return board


def inputs(graph: Graph, seed: int = 0) -> list[Array]:
    """Two random samples, one of extremes, and constants of the smallest and the largest value."""
    rng = np.random.default_rng(seed)
    made: list[Array] = []
    for value in graph.inputs:
        shape = value.type.shape
        assert value.type.dtype is DType.INT8
        low, high = value.type.dtype.range
        random = rng.integers(low, high, (2, *shape), endpoint=True)
        extreme = rng.choice([low, high, value.type.zero_point], (1, *shape))
        constant = [np.full((1, *shape), v) for v in (low, high)]
        made.append(np.concatenate([random, extreme, *constant]).astype(np.int8))
    return made


def assert_exact(folder: Path) -> Project:
    """Every output of `inputs` has the oracle's bits."""
    project = open_project(folder)
    samples = inputs(project.graph)
    got = run_project(project, samples).device_outputs
    for output, want in zip(got, run_many(project.graph, samples), strict=True):
        np.testing.assert_array_equal(output, want)
    return project
