"""The kinds of packages: where their files lie and which templates describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A build system's form of a library.

    include, source: folders in the package. files: path in the package → template; `{name}` in a
    path is the model's C name. archive: the suffix of the file that the folder is packed into.
    cores: "arm", "portable" (no instructions of Arm) or "any".
    """

    name: str
    description: str
    files: Mapping[str, str]
    include: str = "include"
    source: str = "src"
    archive: str = ""
    cores: str = "any"


_EXAMPLE = "selftest.c.j2"

COMMON: Mapping[str, str] = {"README.md": "README.md.j2"}
KINDS: Mapping[str, Kind] = {
    k.name: k
    for k in (
        Kind(
            "cmake",
            "a library for add_subdirectory, or to install and find_package",
            {
                "CMakeLists.txt": "cmake/CMakeLists.txt.j2",
                "cmake/{name}-config.cmake.in": "cmake/config.cmake.in.j2",
                "example/selftest.c": _EXAMPLE,
            },
        ),
        Kind(
            "zephyr",
            "a Zephyr module",
            {
                "zephyr/module.yml": "zephyr/module.yml.j2",
                "zephyr/CMakeLists.txt": "zephyr/CMakeLists.txt.j2",
                "zephyr/Kconfig": "zephyr/Kconfig.j2",
                "example/selftest.c": _EXAMPLE,
            },
        ),
        Kind(
            "arduino",
            "an Arduino library",
            {
                "library.properties": "arduino/library.properties.j2",
                "examples/SelfTest/SelfTest.ino": "arduino/SelfTest.ino.j2",
            },
            include="src",
        ),
        Kind(
            "platformio",
            "a PlatformIO library",
            {
                "library.json": "platformio/library.json.j2",
                "examples/selftest/main.c": _EXAMPLE,
            },
        ),
        Kind(
            "esp-idf",
            "an ESP-IDF component",
            {
                "CMakeLists.txt": "esp-idf/CMakeLists.txt.j2",
                "idf_component.yml": "esp-idf/idf_component.yml.j2",
                "examples/selftest.c": _EXAMPLE,
            },
            cores="portable",
        ),
        Kind(
            "cmsis-pack",
            "an Open-CMSIS-Pack",
            {"tinsmith.{name}.pdsc": "cmsis-pack/pack.pdsc.j2", "example/selftest.c": _EXAMPLE},
            archive=".pack",
            cores="arm",
        ),
        Kind(
            "rust",
            "a Rust -sys crate that compiles the C",
            {
                "Cargo.toml": "rust/Cargo.toml.j2",
                "build.rs": "rust/build.rs.j2",
                "src/lib.rs": "rust/lib.rs.j2",
            },
            include="c",
            source="c",
        ),
    )
}
