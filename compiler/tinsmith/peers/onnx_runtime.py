"""onnxruntime on the CPU, in two forms: the model as it is, and with uint8 activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto

from ..ir.dtypes import Array
from .contender import Contender, Feed, NotComparable, Peer, Subject, load
from .uint8_form import uint8_form

_TYPES = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint8)": np.dtype(np.uint8),
}


class OnnxSession:
    """A session whose inputs and outputs are bound once.

    Threads that wait for work spin, as is its default: that is its fastest setting.
    """

    def __init__(self, model: ModelProto, threads: int, label: str) -> None:
        runtime = load("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        self.label = label
        self.settings = "all graph optimisations, io_binding, idle threads spin"
        try:
            self._session = runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it has one exception type per failure, not all exported
            raise NotComparable(f"refuses the model: {error}") from error
        self._runtime = runtime
        self._binding: Any = None

    def give(self, feeds: Sequence[Feed]) -> None:
        """See Contender."""
        self._binding = self._session.io_binding()
        for info, feed in zip(self._session.get_inputs(), feeds, strict=True):
            array = np.ascontiguousarray(feed.of_type(_TYPES[info.type]))
            value = self._runtime.OrtValue.ortvalue_from_numpy(array)
            self._binding.bind_ortvalue_input(info.name, value)
        for info in self._session.get_outputs():
            self._binding.bind_output(info.name)
        self.run()
        made = self._binding.get_outputs()  # from now on it writes where it wrote first
        for info, value in zip(self._session.get_outputs(), made, strict=True):
            self._binding.bind_ortvalue_output(info.name, value)

    def run(self) -> object:
        """See Contender."""
        return self._session.run_with_iobinding(self._binding)

    def outputs(self) -> Sequence[Array]:
        """See Contender."""
        return [value.numpy().copy() for value in self._binding.get_outputs()]


def prepare(subject: Subject, threads: int) -> Sequence[Contender]:
    """As shipped and, where that is another model, with uint8 activations."""
    sessions = [OnnxSession(subject.model, threads, "onnxruntime")]
    if subject.dtype == "int8":
        try:
            changed = uint8_form(subject.model)
        except NotComparable:
            return sessions
        sessions.append(OnnxSession(changed, threads, "onnxruntime uint8"))
    return sessions


PEER = Peer("onnxruntime", "onnxruntime", prepare)
