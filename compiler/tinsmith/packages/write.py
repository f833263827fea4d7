"""Writes packages: a folder, and where the kind has one its archive."""

from __future__ import annotations

import re
import shutil
import zipfile
from functools import cache
from pathlib import Path

import jinja2

from .. import __version__, paths
from ..errors import CompileError
from .bill import LICENCE, bill_of_materials
from .contents import Contents, read_contents
from .kinds import COMMON, KINDS, Kind

BILL = "sbom.cdx.json"
_VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}")
_NO_URL = "https://example.invalid/"  # some kinds must have one
_LEVELS = {"dsp", "mve"}  # features without which the C of a target does not assemble
_CORES: tuple[tuple[set[str], tuple[str, ...]], ...] = (
    (set(), ("Cortex-M0", "Cortex-M0+", "Cortex-M1", "Cortex-M3", "Cortex-M23")),
    ({"dsp"}, ("Cortex-M4", "Cortex-M7", "Cortex-M33", "Cortex-M35P")),
    ({"dsp", "mve"}, ("Cortex-M52", "Cortex-M55", "Cortex-M85")),
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of the files in an archive, so that it has the same bytes again


def write_package(
    folder: Path, kind: str, out: Path, *, version: str = "1.0.0", url: str = ""
) -> list[Path]:
    """The package of a compiled project, in the folder `out`; the archive lies beside it.

    Returns the folder, and the archive of a kind that has one. Files of an earlier package of the
    same kind are replaced. url: the package's home page, for the kinds that name one.

    Raises CompileError for an unknown kind, a version that is not three numbers, a folder with
    other things in it, a core that the kind is not for, and as `read_contents` does.
    """
    if kind not in KINDS:
        raise CompileError(
            f"there is no package of kind {kind!r}", expected=f"one of {', '.join(KINDS)}"
        )
    if not _VERSION.fullmatch(version):
        raise CompileError(f"{version!r} is no version of a package", expected="like 1.0.0")
    contents = read_contents(folder)
    _check_core(contents, KINDS[kind])
    try:
        _clear(out)
        _write(contents, KINDS[kind], out, version, url)
        made = [out]
        if KINDS[kind].archive:
            made.append(_archive(out, f"tinsmith.{contents.name}.{version}{KINDS[kind].archive}"))
        return made
    except OSError as error:
        raise CompileError(f"cannot write the package: {error}") from error


def _check_core(contents: Contents, kind: Kind) -> None:
    target = contents.board.target
    arm = target.elf == "arm"
    own = _LEVELS.intersection(target.features)
    if (kind.cores == "arm" and not arm) or (kind.cores == "portable" and own):
        wanted = "a Cortex-M" if kind.cores == "arm" else "a core without DSP extension or Helium"
        raise CompileError(
            f"{kind.description} cannot hold kernels for {target.name}",
            expected=f"a project compiled for {wanted}",
            hint="`tinsmith targets` lists the features of each",
        )


def _cores(contents: Contents) -> list[str]:
    """The Cortex-M that have the instructions of the target, as packs name them."""
    needed = _LEVELS.intersection(contents.board.target.features)
    return [name for has, names in _CORES if needed <= has for name in names]


def _clear(out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / BILL).is_file():
        raise CompileError(
            f"{out} has other files in it", expected="an empty folder, or an earlier package"
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def _write(contents: Contents, kind: Kind, out: Path, version: str, url: str) -> None:
    for root, files in ((kind.include, contents.headers), (kind.source, contents.sources)):
        for name, file in files.items():
            copy = out / root / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.data)
    view = {
        "kind": kind,
        "name": contents.name,
        "prefix": contents.name.upper(),
        "version": version,
        "url": url or _NO_URL,
        "tinsmith": __version__,
        "licence": LICENCE,
        "report": contents.report,
        "board": contents.board,
        "target": contents.board.target,
        "headers": [f"{kind.include}/{name}" for name in contents.headers],
        "sources": [f"{kind.source}/{name}" for name in contents.sources],
        "c_sources": [f"{kind.source}/{n}" for n in contents.sources if n.endswith(".c")],
        "core_flags": contents.core_flags,
        "code_flags": contents.code_flags,
        "needs_math": contents.needs_math,
        "needs_fpu": contents.needs_fpu,
        "cores": _cores(contents),
    }
    for name, template in {**COMMON, **kind.files}.items():
        path = out / name.format(name=contents.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_environment().get_template(template).render(view), encoding="utf-8")
    shutil.copyfile(paths.LICENCE, out / "LICENSE")
    (out / BILL).write_text(bill_of_materials(contents, version), encoding="utf-8")


def _archive(folder: Path, name: str) -> Path:
    """The folder's files as a zip file beside it, in order and without times."""
    path = folder.parent / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(str(file.relative_to(folder)), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return path


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=lambda name: name is not None and ".pdsc" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
