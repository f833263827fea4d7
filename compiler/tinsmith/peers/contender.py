"""What is compared: a model prepared to run again and again in this process, ours or a peer's."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from onnx import ModelProto

from ..errors import CompileError, MissingTool
from ..ir.dtypes import Array, Quant
from ..ir.graph import Graph

EXTRA = "peers"
OFFSET = 128  # of uint8 to int8


@dataclass(frozen=True, eq=False)
class Subject:
    """The model of a comparison.

    Attributes:
        model: as it was given. network: makes its canonical FLOAT graph, in ONNX layout.
        dtype: int8 or float32, as compiled.
        tflite: the same network as a LiteRT file, where there is one.
    """

    name: str
    model: ModelProto
    network: Callable[[], Graph]
    dtype: str
    tflite: Path | None = None

    @cached_property
    def graph(self) -> Graph:
        """`network`, made once: not every peer needs it."""
        return self.network()


@dataclass(frozen=True)
class Feed:
    """One input in the axes of the ONNX model, with its batch of 1.

    real: float32. q: the same number in int8, and how; None of a float32 network.
    """

    real: Array
    q: Array | None = None
    quant: Quant | None = None

    def of_type(self, dtype: np.dtype[Any]) -> Array:
        """What an input of this type is given. Raises NotComparable for a type without meaning."""
        if dtype == np.float32:
            return self.real
        if self.q is not None and dtype == np.int8:
            return self.q
        if self.q is not None and dtype == np.uint8:
            return (self.q.astype(np.int16) + OFFSET).astype(np.uint8)
        raise NotComparable(f"its input has type {dtype}")


class Contender(Protocol):
    """A prepared model. label: unique in a comparison. settings: how it runs, for the report."""

    label: str
    settings: str

    def give(self, feeds: Sequence[Feed]) -> None:
        """What every run from now on reads, in the order of the ONNX inputs."""
        ...

    def run(self) -> object:
        """One inference."""
        ...

    def outputs(self) -> Sequence[Array]:
        """Of the last run, in the order and axes of the ONNX model: int8, uint8 or float32."""
        ...


class NotComparable(Exception):
    """A peer that is installed cannot take this model; the text says why."""


@dataclass(frozen=True)
class Peer:
    """A runtime that others use. package: its distribution's name.

    prepare: subject and threads → its forms of the model. Raises NotComparable.
    """

    name: str
    package: str
    prepare: Callable[[Subject, int], Sequence[Contender]]

    @property
    def version(self) -> str:
        """Empty when it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""

    def require(self) -> None:
        """Raises MissingTool when it is not installed."""
        if not self.version:
            raise MissingTool(
                f"{self.name} is not installed",
                hint=f"pip install 'tinsmith[{EXTRA}]', or leave it out of --against",
            )


def load(module: str) -> Any:
    """A module of an optional package. Raises NotComparable with the import's own words."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotComparable(f"cannot be imported: {error}") from error


@contextmanager
def quiet() -> Generator[None]:
    """Drops what native libraries write to stderr while they are set up."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def find_tflite(model: Path, given: Path | None) -> Path | None:
    """The LiteRT file of a model: the one given, or beside the model with the same stem.

    Raises CompileError when the one given does not exist.
    """
    if given is not None:
        if not given.is_file():
            raise CompileError(f"--tflite {given} is no file")
        return given
    beside = model.with_suffix(".tflite")
    return beside if beside.is_file() else None
