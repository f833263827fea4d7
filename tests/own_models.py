"""The models that come with tinsmith, compiled for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinsmith import paths
from tinsmith.pipeline import CompiledProject, compile_model


def compile_own(model: str, folder: Path, board: str, **options: Any) -> CompiledProject:
    """`graphs/<model>` without pictures; in int8, by its own samples, unless the options say else.

    options: of `compile_model`.
    """
    source = paths.GRAPHS / model
    if options.get("dtype") != "float32":
        options = {"calibrate": source / "calibration.npz", **options}
    options = {"pictures": False, **options}
    return compile_model(source / "model.onnx", board=board, out=folder, **options)
