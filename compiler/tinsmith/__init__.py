"""tinsmith compiles ONNX models into int8 firmware that is bit-exact on every target.

    project = tinsmith.compile("kws.onnx", board="mps2-an500", calibrate="samples.npz", out="kws")
    result = tinsmith.run(project, "test.npz")       # RunResult: outputs, instructions
    tinsmith.verify(project, "test.npz").check()     # raises VerificationFailed

`compile`, `quantize` and `load` are documented in `tinsmith.pipeline`, `run` and `verify` in
`tinsmith.runner`, `protect` in `tinsmith.trust.project`; all take a project or its folder. Nothing
else is promised to stay.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import compile_model as compile
    from .pipeline import load
    from .pipeline import quantize_model as quantize
    from .runner.compare import verify
    from .runner.run import run
    from .trust.project import protect_project as protect

__version__ = "0.1.0"
__all__ = ["compile", "load", "protect", "quantize", "run", "verify"]

# Imported on first use: `import tinsmith` stays quick, and the modules can read `__version__`.
_WHERE = {
    "compile": ("pipeline", "compile_model"),
    "load": ("pipeline", "load"),
    "quantize": ("pipeline", "quantize_model"),
    "run": ("runner.run", "run"),
    "verify": ("runner.compare", "verify"),
    "protect": ("trust.project", "protect_project"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _WHERE[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
