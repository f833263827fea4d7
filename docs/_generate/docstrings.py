"""Docstrings that say what fields mean as `name, other: meaning.`"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any


def fields_of(thing: Any, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What the docstring of a class says of the whole, and of each of its fields.

    A meaning ends where the next begins, or with the paragraph. What leads up to the first field
    of a paragraph is about the whole in the first one, elsewhere only a transition.
    """
    name = "|".join(names)
    heads = re.compile(rf"(?:^|(?<=[.;:] ))((?:{name})(?:, (?:{name}))*): ")
    about: list[str] = []
    found: dict[str, str] = {}
    for i, paragraph in enumerate((inspect.getdoc(thing) or "").split("\n\n")):
        lead, *parts = heads.split(" ".join(paragraph.split()))
        if i == 0 or not parts:
            about.append(lead.strip())
        for named, meaning in zip(parts[::2], parts[1::2], strict=True):
            for field in named.split(", "):
                found.setdefault(field, meaning.strip().rstrip(".;"))
    return " ".join(about).strip(), found
