"""What a project has learnt, as files beside it: the state, the delta, an updated ONNX model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from ..codegen.project import read_network
from ..codegen.state import stored_start
from ..errors import CompileError
from ..frontend.onnx_export import export_model
from ..train.delta import encode_delta
from ..train.export import with_trained
from .training import State, TrainingProject

STATE_FILE = "state.npz"
DELTA_FILE = "trained.delta"
MODEL_FILE = "trained.onnx"


def export_learnt(training: TrainingProject, state: State, counter: int) -> dict[str, Path]:
    """Write state.npz (arrays by name), trained.delta (see `train/delta.py`) and trained.onnx (the
    network in QDQ form) into the project; returns "state", "delta" and "model" with their paths.

    counter: of the store. Raises CompileError when a file cannot be written.
    """
    folder, graph = training.project.folder, training.graph
    base = stored_start(training.locked or graph)
    delta = encode_delta(base, training.stored(state), training.base_hash, counter)
    model = export_model(with_trained(read_network(folder), graph, state))
    paths = {"state": STATE_FILE, "delta": DELTA_FILE, "model": MODEL_FILE}
    files = {kind: folder / name for kind, name in paths.items()}
    arrays = {v.name: array for v, array in state.items()}
    try:
        np.savez(files["state"], **arrays)  # pyright: ignore[reportArgumentType] — of any name
        files["delta"].write_bytes(delta)
        onnx.save(model, files["model"])
    except OSError as error:
        raise CompileError(f"cannot write what was learnt: {error}") from error
    return files
