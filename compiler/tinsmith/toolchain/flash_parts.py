"""Where the flash of a firmware goes, from its link map: constants, code by kernel, the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ..codegen.report_model import FlashReport, KernelCode, NodeReport
from .sizes import contributions

_HELPER = re.compile(r"(_\d+)?(_[a-z]\w*)?(\.\w+)*")  # of a kernel's function: _2, _block, .isra.0


def flash_parts(
    elf: Path, model: str, flash_bytes: int, nodes: Collection[NodeReport], weights_bytes: int
) -> FlashReport:
    """Of a firmware that `build` linked, with the map beside it.

    model: its C name. flash_bytes: of the ELF. nodes: those that it computes. weights_bytes: of the
    filters as the model has them, before kernels pack them.
    """
    layers = Counter(node.kernel for node in nodes if node.kernel)
    code: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for section, size, origin in contributions(elf.with_suffix(".map")):
        part = _part(origin, model)
        kernel = _kernel(section, layers) if part == "model" else None
        if kernel is not None:
            code[kernel] += size
        else:
            parts[part] += size
    known = sum(parts.values()) + sum(code.values())
    return FlashReport(
        constants_bytes=parts["constants"],
        weights_bytes=weights_bytes,
        code=tuple(KernelCode(name, layers[name], code[name]) for name in sorted(layers)),
        compiled_bytes=parts["compiled"],
        run_bytes=parts["model"],
        harness_bytes=parts["harness"],
        runtime_bytes=parts["runtime"],
        library_bytes=parts["library"],
        padding_bytes=flash_bytes - known,
    )


def _part(origin: str, model: str) -> str:
    if origin.endswith(")"):
        return "library"
    stem = Path(origin).stem
    named: Mapping[str, str] = {
        model: "model",
        f"{model}_weights": "constants",
        f"{model}_kernels": "compiled",
    }
    if stem in named:
        return named[stem]
    return "runtime" if stem.startswith("runtime_") else "harness"


def _kernel(section: str, kernels: Iterable[str]) -> str | None:
    """The kernel whose function a section of text holds; None of the model's own functions."""
    function = section.removeprefix(".text.")
    fitting = [k for k in kernels if function.startswith(k) and _is_helper(function, k)]
    return max(fitting, key=len, default=None)


def _is_helper(function: str, kernel: str) -> bool:
    return _HELPER.fullmatch(function[len(kernel) :]) is not None
