"""The self-test of the TVM back end: a broken pair of packages is a message, not a crash."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tinsmith.errors import MissingTool
from tinsmith.machine.target import Isa, load_target, target_names
from tinsmith.tvm_backend import self_test

ISAS = {n: t for n in target_names() if (t := load_target(n).tvm) is not None}
ANY = ISAS["x86_64-avx2"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _break(package: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts another `package` in front of the installed one, for processes started from here."""
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def _installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Packages as if these versions were installed."""
    names = {n.replace("_", "-"): v for n, v in versions.items()}
    monkeypatch.setattr(self_test, "version", names.__getitem__)


def test_a_crash_names_the_versions_and_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(monkeypatch, apache_tvm="0.27.0.post1", apache_tvm_ffi="0.1.15.post2")
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    _break("tvm_ffi", crash, tmp_path, monkeypatch)
    _break("tvm", "import tvm_ffi\n", tmp_path, monkeypatch)
    with pytest.raises(MissingTool) as caught:
        self_test.check(ANY)
    text = caught.value.render()
    assert "apache-tvm 0.27.0.post1 with apache-tvm-ffi 0.1.15.post2" in text
    assert "it died of SIGSEGV" in text
    assert "apache-tvm-ffi==" in text
    assert "pip install 'tinsmith[tvm]'" in text
    assert caught.value.exit_code == 3


def test_an_error_is_quoted_and_never_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(monkeypatch, apache_tvm="9.0", apache_tvm_ffi="9.0")
    _break("tvm", "raise RuntimeError('LLVM module verification failed')\n", tmp_path, monkeypatch)
    for _ in range(2):
        with pytest.raises(MissingTool, match="said: RuntimeError: LLVM module verification"):
            self_test.check(ANY)
    assert not list((tmp_path / "cache").rglob("*"))


def test_what_passed_is_remembered_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        started.append(command[-1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    for versions in ("0.1.14", "0.1.14", "0.1.15"):
        _installed(monkeypatch, apache_tvm="0.27", apache_tvm_ffi=versions)
        self_test.check(ANY)
    self_test.check(ISAS["aarch64"])
    assert len(started) == 3


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    _installed(monkeypatch, apache_tvm="0.27", apache_tvm_ffi="0.1.14")
    passed = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: passed)
    self_test.check(ANY)


def test_without_tvm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(self_test, "version", absent)
    with pytest.raises(MissingTool, match="apache-tvm is not installed") as caught:
        self_test.check(ANY)
    assert "pip install 'tinsmith[tvm]'" in caught.value.render()


@pytest.mark.parametrize("isa", ISAS.values(), ids=ISAS)
def test_the_installed_pair_passes(isa: Isa) -> None:
    pytest.importorskip("tvm", reason="needs the extra: pip install 'tinsmith[tvm]'")
    self_test.main(isa)


def test_the_installed_pair_passes_in_its_own_process(tmp_path: Path) -> None:
    pytest.importorskip("tvm", reason="needs the extra: pip install 'tinsmith[tvm]'")
    self_test.check(ANY)
    assert len(list((tmp_path / "cache" / "tinsmith").glob("tvm-*.passed"))) == 1
