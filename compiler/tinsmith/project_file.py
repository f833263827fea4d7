"""`tinsmith.toml`: what to compile and how, so that `tinsmith build` needs no options."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from .errors import BadInput
from .pipeline import CompiledProject, compile_model
from .trust.project import Protection

T = TypeVar("T", bound=msgspec.Struct)

FILE = "tinsmith.toml"
_EXAMPLE = 'model = "model.onnx"\nboard = "mps2-an500"'
_PATHS = ("model", "out", "calibrate", "train", "tuned", "kernels", "input")


class Build(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """One build. The keys are the options of `compile`; paths are relative to the file.

    out: by default `build/NAME` beside the file. verify: compare the device with the oracle after
    compiling, on `input` or on seeded samples. input: samples for that. report: write the HTML
    page too.
    """

    model: str
    board: str
    out: str = ""
    cpu: str | None = None
    calibrate: str | None = None
    method: str = "auto"
    dtype: str = "int8"
    train: str | None = None
    trust: str | None = None
    trust_cut: str | None = None
    quota: int | None = None
    ram: int | None = None
    flash: int | None = None
    optimize: str = "instructions"
    kernels: str | None = None
    tuned: str | None = None
    fold_channels: bool = True
    exact_plan: bool = False
    strict: bool = False
    bind: dict[str, int] = {}
    batch: int = 1
    name: str | None = None
    harness: str = "semihosting"
    baud: int | None = None
    verify: bool = False
    report: bool = False
    input: str | None = None


def read_builds(path: Path) -> dict[str, Build]:
    """The builds of a project file by name, in its order; its paths made absolute.

    Keys outside of tables hold for every `[build.NAME]`; without any there is one build, named
    after its model. Raises BadInput with the key and what is known.
    """
    data = read_toml(path, _EXAMPLE)
    tables = data.pop("build", {})
    if not isinstance(tables, dict) or any(not isinstance(t, dict) for t in tables.values()):
        raise BadInput(f"{path}: `build` is no table of tables", expected="[build.NAME]")
    named = cast("Mapping[str, Mapping[str, Any]]", tables)
    if not named:
        named = {Path(str(data.get("model", "model"))).stem: {}}
    builds = {name: read_build(path, name, {**data, **own}) for name, own in named.items()}
    folders: dict[Path, str] = {}
    for name, build in builds.items():
        other = folders.setdefault(Path(build.out).resolve(), name)
        if other != name:
            raise BadInput(
                f"{path}: builds {other} and {name} both write {build.out}",
                expected="a folder of its own for each",
                hint="`out` belongs into the tables, or leave it out",
            )
    return builds


def run_build(build: Build, **extra: Any) -> CompiledProject:
    """Compile as the entry says. extra: more arguments of `compile_model`. Raises as it does."""
    options = {
        key: getattr(build, key)
        for key in build.__struct_fields__
        if key not in ("model", "trust", "trust_cut", "quota", "verify", "report", "input")
    }
    trust = None
    if build.trust is not None:
        trust = Protection(build.trust, build.trust_cut, build.quota)
    return compile_model(build.model, trust=trust, **options, **extra)


def read_toml(path: Path, example: str) -> dict[str, Any]:
    """A TOML file; `example`: the least there is to it. Raises BadInput when it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"{path} does not exist", expected=f"a file with at least\n{example}"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}", expected="a TOML file") from error


def read_entry(type_: type[T], path: Path, what: str, data: Mapping[str, Any]) -> T:
    """A table of a file as a struct; what: as messages call it. Raises BadInput with the key and
    what is known."""
    known = [f.encode_name for f in msgspec.structs.fields(type_)]
    for key in data:
        if key not in known:
            near = get_close_matches(key, known, 1)
            raise BadInput(
                f"{path}: {what} has a key {key!r}",
                expected=f"one of {', '.join(known)}",
                hint=f"perhaps {near[0]!r}" if near else None,
            )
    try:
        return msgspec.convert(data, type_)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: {what}: {error}") from error


def read_build(path: Path, name: str, data: dict[str, Any], kind: str = "build") -> Build:
    """One entry of a file, its paths made absolute; kind: what messages call it. Raises BadInput
    with the key and what is known."""
    build = read_entry(Build, path, f"{kind} {name}", data)
    if build.trust is None and (build.trust_cut is not None or build.quota is not None):
        raise BadInput(
            f"{path}: {kind} {name}: trust-cut and quota are of a protected model",
            hint="give trust, too",
        )
    build.out = build.out or f"build/{name}"
    for key in _PATHS:
        value = getattr(build, key)
        if value is not None:
            setattr(build, key, str(path.parent / value))
    return build
