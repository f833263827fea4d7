"""Models and data that are not part of the project; what uses them skips when they are absent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("TINSMITH_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared_models() -> Path:
    """The folder with mlperf_tiny/ and mcu_nets/."""
    return _require("models")


def shared_data() -> Path:
    """The folder with cifar10_subset.npz and fsdd_8khz.npz."""
    return _require("data")


def _require(name: str) -> Path:
    folder = _ROOT / name
    if not folder.is_dir():
        reason = f"needs the shared {name} folder (set TINSMITH_SHARED)"
        if "PYTEST_VERSION" not in os.environ:  # a benchmark
            print(f"skipped: {reason}", file=sys.stderr)
            raise SystemExit(0)
        pytest.skip(reason)
    return folder
