"""Which schemes a protected model can have: where the cut goes for them, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.report import read_report
from tinsmith.errors import CompileError
from tinsmith.runner.training import train_steps
from tinsmith.train.scheme import Scheme, Update
from tinsmith.trust import keys
from tinsmith.trust.project import protect_project

from .own_models import compile_own
from .test_trust_training import ALL, CASES, HOST, PART, Case


def test_a_pad_blinds_no_gradient(tmp_path: Path) -> None:
    case = Case(HOST, "coreguard-otp", "digits_dscnn", Scheme(update=(Update(index=0, bias=True),)))
    with pytest.raises(CompileError, match="which a pad cannot blind"):
        case.compile(tmp_path / "out")


def test_the_cut_moves_to_where_the_scheme_is_legal(tmp_path: Path) -> None:
    """A pad lets nothing before the cut learn, nor the layer that it blinds."""
    update = Update(node="*blocks.1.depthwise", bias=True)
    case = Case(HOST, "coreguard-otp", "digits_dscnn", Scheme(update=(update,)))
    case.compile(tmp_path)
    report = read_report(tmp_path)
    assert report.trust is not None
    assert report.trust.cut == "blocks.0.depthwise_relu6.q"
    assert any("where the scheme would not be legal" in note for note in report.notes)


def test_a_plain_project_that_learns_is_protected(tmp_path: Path) -> None:
    """The same steps as its own, and as those of the pair that was compiled as one."""
    plain, out = tmp_path / "plain", tmp_path / "protected"
    compile_own("digits_dscnn", plain, HOST, train=CASES[5].scheme)
    keys.new_secret(tmp_path / "root.key")
    protect_project(
        plain, out, secret=tmp_path / "root.key", device="d", mode="withhold", pictures=False
    )
    x, labels = CASES[5].samples(10)
    mine, theirs = (train_steps(folder, {"x": x}, labels, 0.01) for folder in (plain, out))
    assert np.array_equal(mine.losses, theirs.losses)
    assert all(np.array_equal(mine.state[v], a) for v, a in theirs.state.items())
    (plain / "scheme.json").unlink()
    with pytest.raises(CompileError, match="does not say how its model learns"):
        protect_project(plain, tmp_path / "again", secret=tmp_path / "root.key", device="d")


@pytest.mark.parametrize(
    ("scheme", "cut", "expected"),
    [
        (Scheme(batch=4, update=(ALL,)), None, "no sum of gradients is kept in secure memory"),
        (Scheme(rule="stochastic", update=(PART,)), None, "random numbers"),
        (Scheme(gradients="float32", update=(PART,)), None, "int8 gradients"),
    ],
    ids=["batch", "stochastic", "float32"],
)
def test_what_does_not_learn_says_why(
    tmp_path: Path, scheme: Scheme, cut: str | None, expected: str
) -> None:
    case = Case(HOST, "withhold", "digits_dscnn", scheme)
    with pytest.raises(CompileError, match=expected):
        case.compile(tmp_path / "out", cut=cut)
    assert not (tmp_path / "out").exists()
