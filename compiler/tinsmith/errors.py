"""Every error a user can see: what failed, on which ONNX node, what was expected, what to do.

Exit codes: 0 ok, 1 a check or verification failed, 2 bad usage or input, 3 environment (a missing
tool).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class CompileError(Exception):
    """A failure the user can act on.

    Args:
        message: what failed, one sentence.
        node: the ONNX node's own name (and operator), when one is to blame.
        expected: what would have been accepted.
        hint: what to do about it.
        where: the pass or stage that found it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.expected = expected
        self.hint = hint
        self.where = where

    def render(self) -> str:
        """The text shown to the user; golden-tested."""
        head = f"error: {self.message}"
        rows = [
            ("node", self.node),
            ("expected", self.expected),
            ("hint", self.hint),
            ("in", self.where),
        ]
        return "\n".join([head, *(f"  {label}: {text}" for label, text in rows if text)])

    def __str__(self) -> str:
        return self.render()


class ImportFailure(CompileError):
    """The model file cannot be read, or is not a valid model."""


@dataclass(frozen=True)
class Unsupported:
    """One node the compiler cannot take, and why."""

    node: str
    op: str
    reason: str


class UnsupportedModel(CompileError):
    """Some nodes are not supported; all are listed at once."""

    def __init__(self, nodes: Sequence[Unsupported]) -> None:
        rows = "\n".join(f"  - {n.op} {n.node!r}: {n.reason}" for n in nodes)
        super().__init__(
            f"{len(nodes)} unsupported node{'s' if len(nodes) != 1 else ''}\n{rows}",
            hint="`tinsmith ops` lists what is supported",
        )
        self.nodes = tuple(nodes)


class BadInput(CompileError):
    """A data file (samples, calibration) does not match the model."""


class DoesNotFit(CompileError):
    """The model exceeds a budget of the board; names the layer that peaks."""


class VerificationFailed(CompileError):
    """The device and the oracle disagree."""

    exit_code = 1


class NotAuthentic(CompileError):
    """The images or the manifest of a protected project are not what was signed."""

    exit_code = 1


class Refused(CompileError):
    """The secure world of a protected project did not authorise an inference."""

    exit_code = 1


class MissingTool(CompileError):
    """A compiler, emulator or package is not installed."""

    exit_code = 3


class InternalError(CompileError):
    """A rule of the IR is broken: a defect of tinsmith, not of the model."""

    exit_code = 1
