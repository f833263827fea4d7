"""torch, an optional extra: the attacks train networks with it."""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

from ..errors import MissingTool

Tensor: TypeAlias = Any  # torch.Tensor: the package is checked without torch


def load_torch() -> Any:
    """The module. Raises MissingTool that names the extra."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingTool(
            "the attacks need torch, which is not installed",
            hint="pip install 'tinsmith[train]'",
        ) from error
