"""Packages in products: several at once, with options, compilers and cores of the product's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import tinsmith
from tinsmith import paths
from tinsmith.packages.write import write_package

NET = paths.GRAPHS / "digits_dscnn"
FLAGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]


def _run(*argv: object, folder: Path) -> str:
    done = subprocess.run(
        [str(a) for a in argv], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _learner(folder: Path, board: str, name: str) -> Path:
    tinsmith.compile(
        NET / "model.onnx", board=board, out=folder / name, name=name, pictures=False,
        calibrate=NET / "calibration.npz", train=NET / "update.toml",
    )  # fmt: skip
    return folder / name


@pytest.fixture(scope="module")
def learners(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that learn, on the host."""
    folder = tmp_path_factory.mktemp("products")
    return _learner(folder, "host", "one"), _learner(folder, "host", "two")


@pytest.fixture(scope="module")
def on_m4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learns, with kernels for the DSP extension and the FPU."""
    return _learner(tmp_path_factory.mktemp("m4"), "mps2-an386", "net")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_two_models_that_learn_in_one_product(
    compiler: str, learners: tuple[Path, Path], tmp_path: Path
) -> None:
    """Linked as objects, as Arduino and CMSIS-Pack do it: each package has its own runtime."""
    includes: list[str] = []
    objects: list[Path] = []
    main = '#include "one.h"\n#include "two.h"\nint main(void)\n{\n    int bad = 0;\n'
    for project in learners:
        name = project.name
        package, *_ = write_package(project, "arduino", tmp_path / name)
        source = package / "src"
        includes.append(f"-I{source}")
        build = tmp_path / f"{name}.o"
        build.mkdir()
        _run(compiler, "-c", "-std=c11", "-O1", *FLAGS, f"-I{source}", *source.glob("*.c"),
             folder=build)  # fmt: skip
        objects += sorted(build.glob("*.o"))
        main += (
            f"    static _Alignas(64) uint8_t {name}_arena[{name.upper()}_ARENA_BYTES];\n"
            f"    static {name}_context {name};\n"
            f"    bad |= {name}_init(&{name}, {name}_arena, sizeof {name}_arena) != TS_OK;\n"
            f"    bad |= {name}_selftest(&{name}) != TS_OK;\n"
        )
    uses = "    bad |= ts_store_region_bytes == 0 || ts_delta_apply == 0;\n"
    (tmp_path / "main.c").write_text(f"{main}{uses}    return bad;\n}}\n")
    relaxed = ["-std=c11", "-Wall", "-Wextra", "-Wno-address", *includes]
    _run(compiler, *relaxed, "main.c", *objects, "-lm", "-o", "app", folder=tmp_path)
    _run(tmp_path / "app", folder=tmp_path)


def test_the_headers_of_the_api_are_cpp(learners: tuple[Path, Path], tmp_path: Path) -> None:
    package, *_ = write_package(learners[0], "cmake", tmp_path / "net")
    include = package / "include"
    for header in ("one.h", *(f"tinsmith/ts_{part}.h" for part in ("status", "store", "delta"))):
        (tmp_path / "one.cpp").write_text(f'#include "{header}"\nint main() {{ return 0; }}\n')
        _run("g++", "-fsyntax-only", "-std=c++17", *FLAGS, f"-I{include}", "one.cpp",
             folder=tmp_path)  # fmt: skip


def test_float_code_is_exact_under_any_options(on_m4: Path, tmp_path: Path) -> None:
    """GCC fuses products and sums where the core can, unless told not to; a product does not know.
    The project itself is compiled with -ffp-contract=off."""
    package, *_ = write_package(on_m4, "cmsis-pack", tmp_path / "net")
    for level in ("-O3", "-Os"):
        _run("arm-none-eabi-gcc", "-c", "-std=gnu11", level, *M4, *FLAGS, f"-I{package}/include",
             package / "src" / "net.c", "-o", "net.o", folder=tmp_path)  # fmt: skip
        code = _run("arm-none-eabi-objdump", "-d", "net.o", folder=tmp_path)
        assert "vmul.f32" in code
        for fused in ("vfma", "vfms", "vfnma", "vfnms"):
            assert fused not in code, level


def test_instructions_of_the_fpu_are_asked_for(on_m4: Path, tmp_path: Path) -> None:
    """Kernels of a layer that learns are instructions of the FPU: without one it does not build."""
    zephyr, *_ = write_package(on_m4, "zephyr", tmp_path / "zephyr")
    assert "\tdepends on FPU\n" in (zephyr / "zephyr" / "Kconfig").read_text()
    pack, *_ = write_package(on_m4, "cmsis-pack", tmp_path / "pack")
    assert '<accept Dcore="Cortex-M4" Dfpu="FPU"/>' in (pack / "tinsmith.net.pdsc").read_text()


def test_the_bill_knows_the_runtime_wherever_the_project_lies(
    learners: tuple[Path, Path], tmp_path: Path
) -> None:
    project = tmp_path / "runtime" / "one"
    project.parent.mkdir()
    project.symlink_to(learners[0], target_is_directory=True)
    package, *_ = write_package(project, "cmake", tmp_path / "net")
    bill = (package / "sbom.cdx.json").read_text()
    direct, *_ = write_package(learners[0], "cmake", tmp_path / "direct")
    assert bill == (direct / "sbom.cdx.json").read_text()
