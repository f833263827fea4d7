"""The documentation as a site: it builds, no link is broken, and a browser loads nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .console_pages import DOCS

ROOT = DOCS.parent
sys.path.insert(0, str(DOCS / "_generate"))
import command_line  # noqa: E402
import github_lists  # noqa: E402
import keys  # noqa: E402
import python_api  # noqa: E402

# What a page fetches by itself; links for the reader may go where they like.
FETCHED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="?(?P<src>[^" >]+)""")
LINKED = re.compile(r"""<link\b(?![^>]*rel="?canonical)[^>]*\bhref="?(?P<href>[^" >]+)""")
IN_STYLE = re.compile(r"url\(\s*['\"]?(?P<url>[^)'\"]+)")


def _build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-f", config, "-d", site],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = _build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = [m[1] for m in (*FETCHED.finditer(text), *LINKED.finditer(text))]
        assert fetched
        assert not [u for u in fetched if "//" in u], page
    for sheet in site.rglob("*.css"):
        urls = IN_STYLE.findall(sheet.read_text(encoding="utf-8"))
        assert not [u for u in urls if "//" in u and not u.startswith("data:")], sheet


def test_pages_are_found_by_searching(site: Path) -> None:
    entries = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    text = {entry["location"]: entry["text"] for entry in entries}
    assert "--samples" in text["reference/cli.html#demo"]
    assert "stack_bytes" in text["reference/board-toml.html#keys"]
    assert any("weights = 1.0" in t for place, t in text.items() if place.startswith("tutorial"))


def test_lists_are_those_of_the_source(site: Path) -> None:
    """Code and tables inside of items do not end a list."""
    page = (site / "add-a-board.html").read_text(encoding="utf-8")
    (steps,) = re.findall(r"<ol>(.*?)</ol>", page, re.DOTALL)
    source = (DOCS / "add-a-board.md").read_text(encoding="utf-8")
    assert steps.count("<li>") == len(re.findall(r"(?m)^\d+\. ", source))
    assert "my-board" in steps


def test_a_broken_link_or_an_unlisted_page_stops_the_build(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "c-api.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](cli.md#there-is-no-such-heading) [b](there-is-no-such-page.md)\n")
    (tmp_path / "docs" / "unlisted.md").write_text("# Unlisted\n")
    done = _build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    for name in ("#there-is-no-such-heading", "there-is-no-such-page.md", "unlisted.md"):
        assert name in done.stderr


def test_every_command_and_option_is_in_the_reference() -> None:
    sections = re.split(r"(?m)^## ", command_line.page())[1:]
    text = {section.split("\n", 1)[0]: section for section in sections}
    assert list(text) == list(command_line.commands())
    for name, command in command_line.commands().items():
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option == "--help" or f"`{option}`" in text[name]
    assert "| `--epochs` `INTEGER` |" in text["train"]
    assert "$ tinsmith bench out --layers" in text["bench"]


@pytest.mark.parametrize("name", keys.described())
def test_every_key_has_a_meaning(name: str) -> None:
    page = keys.described()[name]
    for struct in (s for root in page.roots for s in keys.structs(root)):
        about, known = keys.meanings(struct)
        assert about, struct
        silent = [f for f in struct.__struct_fields__ if not (known.get(f) or page.more.get(f))]
        assert not silent, f"the docstring of {struct.__name__} says nothing of {silent}"


def test_the_tables_are_those_of_the_structs() -> None:
    pages = keys.pages()
    assert "| `trust-cut` | the node after which to cut | text |  |" in pages["tinsmith-toml"]
    assert "| number | `0.0` |" in pages["update-toml"]
    assert (
        "| `regions` | memory; none on the host | list of [Region](#region) |"
        in pages["board-toml"]
    )
    assert "## NodeReport" in pages["report-json"]


def test_the_python_page_has_what_is_promised() -> None:
    page = python_api.page()
    for name in ("compile", "load", "protect", "quantize", "run", "verify"):
        assert f"### {name}\n" in page
    assert "### CompiledProject" in page
    assert "`tinsmith.errors.CompileError` | 2 |" in page


def test_lists_become_what_the_site_reads() -> None:
    for source, wanted in (
        ("1. One\n   more\n2. Two\n   - in", "1. One\n    more\n2. Two\n    - in"),
        (
            "- a\n  ```c\n  x;\n    y;\n  ```\n- b",
            "- a\n\n    ```c\n    x;\n      y;\n    ```\n\n- b",
        ),
        ("- a\n\nOut\n    code", "- a\n\nOut\n    code"),
        ("Text\n- a\n- b", "Text\n\n- a\n- b"),
        ("```sh\n- a\n   - b\n```", "```sh\n- a\n   - b\n```\n"),
    ):
        assert github_lists.indent(source) == wanted
