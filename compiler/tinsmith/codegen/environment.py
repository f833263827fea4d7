"""The one Jinja environment: strict, with an assertion tag. Templates are spelling only.

Template names start with the data root they live in: "ops/conv2d.c.j2",
"targets/cortex-m4/kernels/…", "codegen/model.c.j2", "harness/arm/link.ld.j2".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from .. import paths
from ..errors import InternalError
from .c_text import c_comment, c_float, c_int, c_int64, c_table


class AssertExtension(Extension):
    """`{% assert condition, "text" %}`: rendering fails with the text unless it holds."""

    tags = {"assert"}  # noqa: RUF012 — jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        condition = parser.parse_expression()
        parser.stream.expect("comma")
        text = parser.parse_expression()
        place = nodes.Const(f"{parser.name}:{line}")
        call = self.call_method("_check", [condition, text, place])
        return nodes.ExprStmt(call, lineno=line)

    def _check(self, condition: object, text: str, place: str) -> None:
        if not condition:
            raise InternalError(f"template assertion failed: {text}", where=place)


@cache
def environment() -> jinja2.Environment:
    """The environment with its loaders, filters and the assertion tag; made once."""
    loader = jinja2.PrefixLoader(
        {
            "ops": jinja2.FileSystemLoader(paths.OP_TEMPLATES),
            "targets": jinja2.FileSystemLoader(paths.TARGETS),
            "codegen": jinja2.FileSystemLoader(paths.CODEGEN_TEMPLATES),
            "harness": jinja2.FileSystemLoader(paths.RUNTIME_C / "harness"),
            "mlperf": jinja2.FileSystemLoader(paths.RUNTIME_C / "mlperf"),
            "serial": jinja2.FileSystemLoader(paths.RUNTIME_C / "serial"),
            "secure": jinja2.FileSystemLoader(paths.RUNTIME_C / "secure"),
        }
    )
    env = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        extensions=[AssertExtension],
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    filters: dict[str, Callable[..., str]] = {
        "c_int": c_int,
        "c_int64": c_int64,
        "c_float": c_float,
        "c_table": c_table,
        "c_comment": c_comment,
    }
    env.filters.update(filters)
    names: dict[str, Any] = {"infinity": math.inf}
    env.globals.update(names)
    return env


def render(template: str, names: Mapping[str, Any]) -> str:
    """Render one template. Raises InternalError for a missing template or an undefined name."""
    try:
        return environment().get_template(template).render(names)
    except jinja2.TemplateNotFound as error:
        raise InternalError(f"there is no template {error.name!r}", where=template) from error
    except (jinja2.UndefinedError, jinja2.TemplateSyntaxError) as error:
        raise InternalError(f"template {template}: {error}", where=template) from error
