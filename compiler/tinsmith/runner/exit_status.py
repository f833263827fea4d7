"""What the exit status of a firmware means."""

from __future__ import annotations

from ..errors import InternalError, NotAuthentic
from .protocol import EXIT_TEXTS, POWER_CUT, WRONG_IMAGE


class PowerCut(Exception):
    """The firmware lost its power in the middle of a commit, as it was told to."""


def check_exit(status: int, sample: int, log: str = "") -> None:
    """Raises PowerCut, NotAuthentic or InternalError for a status other than 0.

    sample: the command in which it stopped. log: what it or its emulator printed.
    """
    if status == POWER_CUT:
        raise PowerCut
    if status == WRONG_IMAGE:
        raise NotAuthentic(
            "the secure image does not start this non-secure image: it was not made with it",
            hint="both images of a device come from one `tinsmith protect`",
        )
    if status != 0:
        reason = EXIT_TEXTS.get(status, f"exit status {status}")
        raise InternalError(
            f"the firmware stopped in sample {sample}: {reason}" + (f"\n{log}" if log else "")
        )
