"""LiteRT with its XNNPACK delegate, on the model's .tflite file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.dtypes import Array
from .contender import Contender, Feed, NotComparable, Peer, Subject, load

_NHWC, _NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class LiteRtSession:
    """An interpreter; the delegate applies itself to what it supports."""

    def __init__(self, path: Path, threads: int) -> None:
        interpreter = load("ai_edge_litert.interpreter").Interpreter
        self.label = "litert"
        self.settings = f"XNNPACK, {path.name}"
        try:
            self._net: Any = interpreter(model_path=str(path), num_threads=threads)
            self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise NotComparable(f"refuses {path.name}: {error}") from error
        self._flip = False

    def give(self, feeds: Sequence[Feed]) -> None:
        """See Contender. Raises NotComparable when the file has other inputs than the model."""
        details = self._net.get_input_details()
        if len(details) != len(feeds):
            raise NotComparable(f"its file has {len(details)} inputs, the model {len(feeds)}")
        self._flip = False
        for detail, feed in zip(details, feeds, strict=True):
            array = feed.of_type(np.dtype(detail["dtype"]))
            shape = tuple(int(d) for d in detail["shape"])
            flipped = array.ndim == 4 and array.shape != shape
            array = array.transpose(_NHWC) if flipped else array
            if array.shape != shape:
                raise NotComparable(f"its file's input {detail['name']!r} has shape {shape}")
            self._flip |= flipped
            self._net.set_tensor(detail["index"], np.ascontiguousarray(array))

    def run(self) -> object:
        """See Contender."""
        return self._net.invoke()

    def outputs(self) -> Sequence[Array]:
        """See Contender."""
        arrays = [self._net.get_tensor(d["index"]) for d in self._net.get_output_details()]
        return [a.transpose(_NCHW) if self._flip and a.ndim == 4 else a for a in arrays]


def prepare(subject: Subject, threads: int) -> Sequence[Contender]:
    """One form. Raises NotComparable without a .tflite file."""
    if subject.tflite is None:
        raise NotComparable("there is no .tflite file of the model: give one with --tflite")
    return [LiteRtSession(subject.tflite, threads)]


PEER = Peer("litert", "ai-edge-litert", prepare)
