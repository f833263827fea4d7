"""Packages: built by the real build system where there is one, validated by its schema otherwise.

A product compiles with flags of its own, so everything is compiled with warnings as errors here.

Long: seven build systems, each with a consumer of its own, on shared builds.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.errors import CompileError
from tinsmith.packages.kinds import KINDS
from tinsmith.packages.write import write_package

NET = paths.GRAPHS / "digits_autoencoder"
FLAGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
ARM = ["-DCMAKE_SYSTEM_NAME=Generic", "-DCMAKE_C_COMPILER=arm-none-eabi-gcc",
       "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY"]  # fmt: skip


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One network on three kinds of cores."""
    folder = tmp_path_factory.mktemp("packages")
    for board in ("host", "mps2-an386", "mps3-an547"):
        tinsmith.compile(
            NET / "model.onnx", board=board, out=folder / board, name="net",
            calibrate=NET / "calibration.npz", pictures=False,
        )  # fmt: skip
    return {board.name: board for board in folder.iterdir()}


def _package(project: Path, kind: str, out: Path) -> Path:
    return write_package(project, kind, out, version="2.1.0")[0]


def _run(argv: list[object], folder: Path) -> str:
    done = subprocess.run(
        [str(a) for a in argv], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _cmake(source: Path, build: Path, *options: str) -> None:
    flags = f"-DCMAKE_C_FLAGS={' '.join(FLAGS)}"
    _run(["cmake", "-S", source, "-B", build, flags, *options], source)
    _run(["cmake", "--build", build, "-j2"], source)


def test_cmake_installed_and_found(projects: dict[str, Path], tmp_path: Path) -> None:
    package = _package(projects["host"], "cmake", tmp_path / "net")
    prefix = f"-DCMAKE_INSTALL_PREFIX={tmp_path / 'prefix'}"
    _cmake(package, tmp_path / "b", prefix, "-DNET_EXAMPLE=ON")
    _run([tmp_path / "b" / "net_selftest"], tmp_path)
    _run(["cmake", "--install", tmp_path / "b"], tmp_path)
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    shutil.copy(package / "example" / "selftest.c", consumer)
    (consumer / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\n"
        "find_package(net 2.1 REQUIRED CONFIG)\nadd_executable(app selftest.c)\n"
        "target_link_libraries(app PRIVATE tinsmith::net)\n"
    )
    _cmake(consumer, tmp_path / "c", f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}")
    _run([tmp_path / "c" / "app"], tmp_path)


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_cmake_for_a_board(board: str, projects: dict[str, Path], tmp_path: Path) -> None:
    """As part of a firmware that says which core it is for."""
    package = _package(projects[board], "cmake", tmp_path / "net")
    core = tinsmith.load(projects[board]).board.target.cflags
    flags = " ".join([*(f for f in core if f.startswith("-m")), *FLAGS])
    _cmake(package, tmp_path / "b", *ARM, f"-DCMAKE_C_FLAGS={flags}")
    assert (tmp_path / "b" / "libnet.a").is_file()


def test_zephyr_module(projects: dict[str, Path], tmp_path: Path) -> None:
    """The functions of Zephyr's CMake that modules call, as its documentation describes them."""
    package = _package(projects["mps2-an386"], "zephyr", tmp_path / "net")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(app C)\n"
        "add_library(zephyr_interface INTERFACE)\n"
        "function(zephyr_include_directories)\n"
        "  target_include_directories(zephyr_interface INTERFACE ${ARGV})\nendfunction()\n"
        "macro(zephyr_library_named name)\n  set(ZEPHYR_CURRENT_LIBRARY ${name})\n"
        "  add_library(${name} STATIC)\n"
        "  target_link_libraries(${name} PUBLIC zephyr_interface)\nendmacro()\n"
        "function(zephyr_library_sources)\n"
        "  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})\nendfunction()\n"
        "function(zephyr_library_compile_options)\n"
        "  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})\nendfunction()\n"
        "set(CONFIG_TINSMITH_NET y)\nadd_subdirectory(net/zephyr)\n"
        "add_library(app OBJECT net/example/selftest.c)\n"
        "target_link_libraries(app PRIVATE zephyr_interface)\n"
    )
    flags = " ".join(["-mcpu=cortex-m4", "-mthumb", "-std=c11", "-Os", *FLAGS])
    _cmake(tmp_path, tmp_path / "b", *ARM, f"-DCMAKE_C_FLAGS={flags}")
    assert list((tmp_path / "b").rglob("libtinsmith_net.a"))
    assert (package / "zephyr" / "module.yml").read_text().startswith("name: net\nbuild:\n")


@pytest.mark.parametrize(("core", "offered"), [("CPU_CORTEX_M7", True), ("CPU_CORTEX_M3", False)])
def test_zephyr_kconfig(
    core: str, offered: bool, projects: dict[str, Path], tmp_path: Path
) -> None:
    kconfiglib = pytest.importorskip("kconfiglib")
    package = _package(projects["mps2-an386"], "zephyr", tmp_path / "net")
    top = tmp_path / "Kconfig"
    top.write_text(
        f'config {core}\n\tbool\n\tdefault y\nsource "{package / "zephyr" / "Kconfig"}"\n'
    )
    configuration = kconfiglib.Kconfig(str(top), warn_to_stderr=False)
    symbol = configuration.syms["TINSMITH_NET"]
    symbol.set_value("y")
    assert (symbol.str_value == "y") is offered


def test_arduino_library(projects: dict[str, Path], tmp_path: Path) -> None:
    """Compiled as the IDE does it: `src` is the only include path, the sketch is C++."""
    package = _package(projects["host"], "arduino", tmp_path / "net")
    lines = (package / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url",
            "architectures"} <= {k for k, v in fields.items() if v}  # fmt: skip
    assert re.fullmatch(r"[A-Za-z0-9][\w .-]{0,62}", fields["name"])
    assert fields["version"] == "2.1.0"
    sketch = package / "examples" / "SelfTest" / "SelfTest.ino"
    assert sketch.stem == sketch.parent.name
    (tmp_path / "Arduino.h").write_text(
        "#pragma once\n#include <cstdint>\n#include <cstdio>\n"
        "struct Port { void begin(long) {} void println(const char *t) { std::puts(t); } };\n"
        "static Port Serial;\n"
    )
    main = tmp_path / "main.cpp"
    main.write_text(
        f"#include <Arduino.h>\n{sketch.read_text()}\nint main() {{ setup(); loop(); return 0; }}\n"
    )
    source = package / "src"
    c_files = sorted(source.rglob("*.c"))
    _run(["gcc", "-c", "-std=gnu11", "-Os", *FLAGS, f"-I{source}", *c_files], tmp_path)
    objects = sorted(tmp_path.glob("*.o"))
    cpp = ["g++", "-std=gnu++17", *FLAGS, f"-I{source}", f"-I{tmp_path}"]
    _run([*cpp, main, *objects, "-o", "sketch"], tmp_path)
    assert _run([tmp_path / "sketch"], tmp_path) == "net: bit-exact\n"


def test_platformio_manifest(
    projects: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("platformio")
    from platformio.package.manifest.parser import ManifestParserFactory
    from platformio.package.manifest.schema import ManifestSchema

    known = {"licenses": [{"licenseId": "Apache-2.0"}]}  # it would load the list from the network
    monkeypatch.setattr(ManifestSchema, "load_spdx_licenses", staticmethod(lambda: known))
    package = _package(projects["mps3-an547"], "platformio", tmp_path / "net")
    parser = ManifestParserFactory.new_from_file(str(package / "library.json"))
    manifest = ManifestSchema().load_manifest(parser.as_dict())
    assert manifest["headers"] == ["net.h"]
    data = json.loads((package / "library.json").read_text())
    assert "-fno-schedule-insns" in data["build"]["flags"]
    for example in data["examples"]:
        assert all((package / example["base"] / f).is_file() for f in example["files"])
    build = data["build"]
    flags = ["-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-O2", *build["flags"], *FLAGS]
    sources = sorted((package / build["srcDir"]).glob("*.c"))
    include = f"-I{package / build['includeDir']}"
    _run(["arm-none-eabi-gcc", "-c", "-std=gnu11", *flags, include, *sources], tmp_path)


def test_esp_idf_component(projects: dict[str, Path], tmp_path: Path) -> None:
    """Its manifest as the component manager reads it; its function as the build guide has it."""
    package = _package(projects["host"], "esp-idf", tmp_path / "net")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C)\n"
        "macro(idf_component_register)\n"
        '  cmake_parse_arguments(C "" "" "SRCS;INCLUDE_DIRS" ${ARGV})\n'
        "  set(COMPONENT_LIB __idf_net)\n  add_library(${COMPONENT_LIB} STATIC ${C_SRCS})\n"
        "  target_include_directories(${COMPONENT_LIB} PUBLIC ${C_INCLUDE_DIRS})\nendmacro()\n"
        "add_subdirectory(net)\nadd_executable(app net/examples/selftest.c)\n"
        "target_link_libraries(app PRIVATE __idf_net)\n"
    )
    _cmake(tmp_path, tmp_path / "b")
    _run([tmp_path / "b" / "app"], tmp_path)
    pytest.importorskip("idf_component_tools")
    from idf_component_tools.manager import ManifestManager

    manifest = ManifestManager(str(package), "net").load()
    assert str(manifest.version) == "2.1.0"
    assert manifest.license == "Apache-2.0"


def test_cmsis_pack(projects: dict[str, Path], tmp_path: Path) -> None:
    """Its description names files that are in the archive, and every one of them."""
    folder, archive = write_package(
        projects["mps2-an386"], "cmsis-pack", tmp_path / "net", version="2.1.0"
    )
    assert archive == tmp_path / "tinsmith.net.2.1.0.pack"
    names = set(zipfile.ZipFile(archive).namelist())
    root = ElementTree.parse(folder / "tinsmith.net.pdsc").getroot()
    assert [root.findtext(k) for k in ("vendor", "name", "license")] == [
        "tinsmith", "net", "LICENSE",
    ]  # fmt: skip
    assert [r.get("version") for r in root.iter("release")] == ["2.1.0"]
    files = {f.get("name") or "": f.get("category") for f in root.iter("file")}
    assert {n for n in files if not n.endswith("/")} <= names
    assert {n for n in names if n.endswith((".c", ".h"))} <= set(files)
    conditions = {c.get("id") for c in root.iter("condition")}
    assert {c.get("condition") for c in root.iter("component")} <= conditions
    cores = {a.get("Dcore") for a in root.iter("accept")}
    assert {"Cortex-M4", "Cortex-M7", "Cortex-M55"} <= cores
    assert "Cortex-M3" not in cores


@pytest.mark.skipif(not shutil.which("rustc"), reason="needs rustc")
def test_rust_crate(projects: dict[str, Path], tmp_path: Path) -> None:
    """The bindings fit the C: compiled and linked as the crate's build script says."""
    package = _package(projects["host"], "rust", tmp_path / "net")
    sources = re.findall(r'"(c/.*\.c)"', (package / "build.rs").read_text())
    assert sources
    _run(["gcc", "-c", "-std=c11", *FLAGS, "-Ic", *sources], package)
    objects = sorted(p.name for p in package.glob("*.o"))
    _run(["ar", "rcs", "libnet.a", *objects], package)
    edition = ["rustc", "--edition", "2021", "-D", "warnings"]
    _run([*edition, "--crate-type", "lib", "--crate-name", "net_sys", "src/lib.rs"], package)
    main = package / "main.rs"
    main.write_text(
        "#[repr(align(64))] struct Arena([u8; net_sys::ARENA_BYTES]);\n"
        "fn main() {\n"
        "    let mut arena = Arena([0; net_sys::ARENA_BYTES]);\n"
        "    let mut context = net_sys::Context::new();\n"
        "    let status = unsafe {\n"
        "        let place = arena.0.as_mut_ptr().cast();\n"
        "        assert_eq!(net_sys::net_init(&mut context, place, net_sys::ARENA_BYTES), 0);\n"
        "        net_sys::net_selftest(&mut context)\n"
        "    };\n"
        "    std::process::exit(status);\n"
        "}\n"
    )
    _run([*edition, "main.rs", "--extern", "net_sys=libnet_sys.rlib", "-L.", "-lnet"], package)
    _run([package / "main"], package)
    report = tinsmith.load(projects["host"]).report
    library = (package / "src" / "lib.rs").read_text()
    assert f"ARENA_BYTES: usize = {report.arena_bytes};" in library


def test_bill_of_materials(projects: dict[str, Path], tmp_path: Path) -> None:
    package = _package(projects["host"], "cmake", tmp_path / "net")
    text = (package / "sbom.cdx.json").read_text()
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    code, (model, runtime) = bill["metadata"]["component"], bill["components"]
    digests = {
        c["name"]: c["hashes"][0]["content"] for c in (*code["components"], *runtime["components"])
    }
    shipped = {p for p in package.rglob("*.[ch]") if p.parent.name != "example"}
    assert len(digests) == len(shipped)
    for path in shipped:
        name = path.relative_to(package).as_posix().partition("/")[2]
        assert digests[name] == hashlib.sha256(path.read_bytes()).hexdigest()
    origin = {p["name"]: p["value"] for p in model["properties"]}
    wanted = hashlib.sha256((NET / "model.onnx").read_bytes()).hexdigest()
    assert origin["tinsmith:source:sha256"] == wanted
    assert origin["tinsmith:source:file"] == "model.onnx"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_again(kind: str, projects: dict[str, Path], tmp_path: Path) -> None:
    project = projects["mps2-an386" if KINDS[kind].cores == "arm" else "host"]
    digests = []
    for _ in range(2):  # over the first one
        made = write_package(project, kind, tmp_path / "net")
        files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
        digests.append([(p.name, p.read_bytes()) for p in files])
    assert digests[0] == digests[1]
    assert (made[0] / "LICENSE").read_bytes() == paths.LICENCE.read_bytes()
    assert "aligned to" in (made[0] / "README.md").read_text()


def test_a_model_that_learns_has_its_runtime(tmp_path: Path) -> None:
    net = paths.GRAPHS / "digits_dscnn"
    tinsmith.compile(
        net / "model.onnx", board="host", out=tmp_path / "p", name="net", pictures=False,
        calibrate=net / "calibration.npz", train=net / "update.toml",
    )  # fmt: skip
    package = _package(tmp_path / "p", "cmake", tmp_path / "net")
    _cmake(package, tmp_path / "b", "-DNET_EXAMPLE=ON")
    _run([tmp_path / "b" / "net_selftest"], tmp_path)
    assert "state that it learns" in (package / "README.md").read_text()


def test_command(projects: dict[str, Path], tmp_path: Path) -> None:
    argv = ["package", str(projects["host"]), "-o", str(tmp_path), "--url", "https://a.example/"]
    result = CliRunner().invoke(app, [*argv, "--kind", "arduino", "--kind", "rust", "--json"])
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)) == {"arduino", "rust"}
    assert "url=https://a.example/\n" in (tmp_path / "arduino/library.properties").read_text()


@pytest.mark.parametrize(
    ("board", "kind", "version", "wanted"),
    [
        ("host", "conda", "1.0.0", "one of cmake, zephyr"),
        ("host", "cmake", "1.0", "like 1.0.0"),
        ("mps2-an386", "esp-idf", "1.0.0", "without DSP"),
        ("host", "cmsis-pack", "1.0.0", "a Cortex-M"),
    ],
)
def test_refused(
    board: str, kind: str, version: str, wanted: str, projects: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(CompileError, match=wanted):
        write_package(projects[board], kind, tmp_path / "net", version=version)
    assert not (tmp_path / "net").exists()


def test_other_files_are_not_removed(projects: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(CompileError, match="has other files"):
        write_package(projects["host"], "cmake", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years"
