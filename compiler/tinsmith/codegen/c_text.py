"""Spelling C: literals that keep their exact value, tables, identifiers, comments."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir.dtypes import Array, DType

INDENT = "    "
COLUMNS = 100
_IDENTIFIER_LENGTH = 48

_C_AND_CPP_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
class compl const const_cast constexpr continue decltype default delete do double dynamic_cast
else enum explicit export extern false float for friend goto if inline int long mutable
namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
reinterpret_cast restrict return short signed sizeof static static_assert static_cast struct
switch template this thread_local throw true try typedef typeid typename union unsigned using
virtual void volatile wchar_t while xor xor_eq
"""
# A file <model>.h must not shadow a header that others include.
_HEADERS_OF_OTHERS = """
assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal
stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads
time uchar wchar wctype main harness startup board
"""
_KEYWORDS = frozenset(re.findall(r"\w+", _C_AND_CPP_KEYWORDS))
_HEADERS = frozenset(re.findall(r"\w+", _HEADERS_OF_OTHERS))


def c_int(value: int) -> str:
    """An int32 literal; INT32_MIN has none of its own in C."""
    value = int(value)
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"{value} does not fit int32")
    return "INT32_MIN" if value == -(2**31) else str(value)


def c_int64(value: int) -> str:
    value = int(value)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} does not fit int64")
    return "INT64_MIN" if value == -(2**63) else f"INT64_C({value})"


def c_float(value: float) -> str:
    """The shortest decimal literal that reads back as the same float32.

    INFINITY and NAN need math.h.
    """
    single = np.float32(value)
    if np.isnan(single):
        return "NAN"
    if np.isinf(single):
        return "INFINITY" if single > 0 else "-INFINITY"
    text = str(single)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def c_scalar(value: Any, dtype: np.dtype[np.generic]) -> str:
    """One element of an array of `dtype`."""
    if dtype == np.bool_:
        return "true" if value else "false"
    if np.issubdtype(dtype, np.floating):
        return c_float(value)
    if dtype == np.uint32:
        return f"{value}u"
    return c_int64(value) if dtype.itemsize == 8 else c_int(value)


def c_table(array: Array) -> str:
    """The elements in aligned columns, no line wider than COLUMNS; without the braces."""
    if array.dtype.itemsize < 4 and array.dtype.kind in "iu":
        items = [str(v) for v in array.ravel().tolist()]
    elif array.dtype == np.int32:
        items = [c_int(v) for v in array.ravel().tolist()]
    else:
        items = [c_scalar(v, array.dtype) for v in array.ravel()]
    width = max(map(len, items))
    per_line = max(1, (COLUMNS - len(INDENT) + 1) // (width + 2))
    lines = (
        INDENT + ", ".join(item.rjust(width) for item in items[i : i + per_line])
        for i in range(0, len(items), per_line)
    )
    return ",\n".join(lines)


def c_comment(text: str) -> str:
    """`text` fit to stand inside a comment: printable ASCII, no comment marks, no trigraphs."""
    text = text.replace("…", "...").encode("ascii", "backslashreplace").decode()
    text = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    return text.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\")


def c_comment_block(lines: Sequence[str], indent: str = "") -> str:
    """A comment of several lines, each wrapped within COLUMNS."""
    width = COLUMNS - len(indent) - 6
    wrapped = [
        part
        for line in lines
        for part in textwrap.wrap(c_comment(line), width, subsequent_indent="  ")
    ]
    return f"{indent}/* " + f"\n{indent} * ".join(wrapped) + " */"


def c_identifier(name: str, fallback: str = "v") -> str:
    """A valid identifier in C and C++ that resembles `name`; different names may collide."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    if not text or text[0].isdigit():
        text = f"{fallback}_{text}".rstrip("_")
    if len(text) > _IDENTIFIER_LENGTH:
        digest = hashlib.sha256(name.encode()).hexdigest()[:6]
        text = f"{text[: _IDENTIFIER_LENGTH - 7].rstrip('_')}_{digest}"
    return f"{text}_" if text in _KEYWORDS else text


def c_model_name(name: str) -> str:
    """The prefix of everything a model defines, and the stem of its files."""
    text = c_identifier(name, "model").lower().rstrip("_")
    taken = text in _HEADERS or text in _KEYWORDS or text.split("_")[0] in ("ts", "tinsmith")
    return f"model_{text}" if taken else text


class Names:
    """Hands out unique identifiers."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, wanted: str) -> str:
        name, n = wanted, 1
        while name in self._taken:
            n += 1
            name = f"{wanted}_{n}"
        self._taken.add(name)
        return name


def c_pointer(block: str, offset: int, dtype: DType, *, const: bool = False) -> str:
    """A place in a block of bytes (uint8_t) as a pointer to its element type."""
    if dtype is DType.UINT8:
        return f"{block} + {offset}"
    through = "" if dtype.bytes == 1 else "(void *)"
    return f"({'const ' if const else ''}{dtype.c} *){through}({block} + {offset})"


def c_wrap_call(head: str, arguments: list[str], tail: str, indent: str = "") -> str:
    """`head(a, b, …)tail`, continued under the parenthesis, within COLUMNS where possible."""
    first = f"{indent}{head}("
    margin = " " * len(first) if len(first) <= COLUMNS // 2 else indent + INDENT * 2
    lines = [first]
    for i, argument in enumerate(arguments):
        piece = argument + (", " if i + 1 < len(arguments) else f"){tail}")
        if len(lines[-1].rstrip()) + len(piece.rstrip()) > COLUMNS and lines[-1].strip():
            lines.append(margin)
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
