"""Goldens: texts under tests/golden to compare with; `pytest --update-goldens` writes them.

Properties (hypothesis) try the same examples on every machine, so a failure is one of the code at
hand; `make fuzz` looks for new ones, and what it finds becomes an `@example`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("reproducible", derandomize=True)
settings.register_profile("fuzz", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("TINSMITH_PROPERTIES", "reproducible"))

GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens", action="store_true", help="write the goldens instead of comparing"
    )
    parser.addoption(
        "--update-budgets", action="store_true", help="write what is measured into budgets.toml"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)`: the text must be that of tests/golden/<name>."""
    update = bool(request.config.getoption("--update-goldens"))

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"there is no golden {name}; write it with --update-goldens"
        assert text == path.read_text(), f"{name} differs; look, then use --update-goldens"

    return check
