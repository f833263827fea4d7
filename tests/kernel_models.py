"""One kernel as a stand-in for a model: the same API around a single function, for host and boards.

Inputs are the node's activations, then its state; outputs are its results, then the state after.
Memory around every buffer is watched. `tight` puts the first output as close to an activation as
the kernel allows.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinsmith import paths
from tinsmith.codegen.c_text import c_pointer, c_table, c_wrap_call
from tinsmith.codegen.functions import Functions, activations, constant_type
from tinsmith.ir.dtypes import Array, TensorType
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.kernels.kernel import Kernel, KernelCall
from tinsmith.machine.board import Board
from tinsmith.runner.execute import run_samples
from tinsmith.runner.protocol import Sample
from tinsmith.toolchain.compile_c import build, firmware
from tinsmith.toolchain.harness import ModelBinding, write_harness

from .host_c import DRIVER, SANITIZE, compile_c

GUARD = 16
_TOGETHER = 16  # models of a C file
_API = (DRIVER / "kernel_model.c.in").read_text()


@dataclass(frozen=True)
class KernelModel:
    """`kernel` on the only node of `graph`. tight: which activation the output comes close to;
    covered: which one the scratch does. shift: where the first buffer starts, beside the alignment
    of 8 that the arena has here."""

    name: str
    graph: Graph
    kernel: Kernel
    tight: int | None = None
    covered: int | None = None
    shift: int = 0

    @property
    def node(self) -> Node:
        return self.graph.nodes[0]

    @property
    def state(self) -> list[Value]:
        return list(self.graph.state)

    @property
    def inputs(self) -> list[TensorType]:
        taken = [v for _, v in activations(self.node, self.graph)]
        return [v.type for v in (*taken, *self.state)]

    @property
    def outputs(self) -> list[TensorType]:
        return [v.type for v in (*self.graph.results(self.node), *self.state)]

    @property
    def call(self) -> KernelCall:
        node, graph = self.node, self.graph
        constants = self.kernel.constants(node, graph)
        return KernelCall(node, self.kernel, constants, self.kernel.scratch_bytes(node, graph))

    def _layout(self) -> tuple[dict[str, int], list[tuple[int, int]], int]:
        """Offsets by name (x0…, s0… the state, y0…, scratch), guards, bytes in all."""
        node, graph, call = self.node, self.graph, self.call
        offsets: dict[str, int] = {}
        guards: list[tuple[int, int]] = []
        top = self.shift

        def place(size: int, **inside: int) -> None:
            nonlocal top
            top += GUARD
            for name, at in inside.items():
                offsets[name] = top + at
            guards.append((top + size, top + size + GUARD + -size % 8))
            top += size + -size % 8 + GUARD

        taken = [v for _, v in activations(node, graph)]
        results = graph.results(node)
        sizes = {f"x{i}": v.type.bytes for i, v in enumerate(taken)}
        if self.tight is not None and results:
            position = activations(node, graph)[self.tight][0]
            lead = self.kernel.lead_bytes(node, position)
            assert lead is not None
            lead += -lead % 8
            at_x, at_y = max(0, lead), max(0, -lead)
            own = sizes.pop(f"x{self.tight}")
            size = max(at_x + own, at_y + results[0].type.bytes)
            place(size, **{f"x{self.tight}": at_x, "y0": at_y})
        if self.covered is not None:
            lead = self.kernel.scratch_lead_bytes(node, activations(node, graph)[self.covered][0])
            assert lead is not None
            lead += -lead % 8
            own = sizes.pop(f"x{self.covered}")
            size = max(lead + own, call.scratch_bytes)
            place(size, **{f"x{self.covered}": lead, "scratch": 0})
        sizes |= {f"y{i}": v.type.bytes for i, v in enumerate(results) if f"y{i}" not in offsets}
        sizes |= {f"s{i}": v.type.bytes for i, v in enumerate(self.state)}
        sizes |= {f"t{i}": v.type.bytes for i, v in enumerate(self.state)}
        if call.scratch_bytes and "scratch" not in offsets:
            sizes["scratch"] = call.scratch_bytes
        for name, size in sizes.items():
            place(size, **{name: 0})
        return offsets, guards, top

    def header(self) -> str:
        m, M = self.name, self.name.upper()
        lines = ["#include <stddef.h>", "#include <stdint.h>", '#include "tinsmith/ts_status.h"']
        sizes = {"INPUT": self.inputs, "OUTPUT": self.outputs}
        lines += [f"#define {M}_ARENA_BYTES {self._layout()[2]}", f"#define {M}_ARENA_ALIGNMENT 8"]
        for kind, types in sizes.items():
            lines.append(f"#define {M}_{kind}_COUNT {len(types)}")
            lines += [f"#define {M}_{kind}_{i}_BYTES {t.bytes}" for i, t in enumerate(types)]
        lines += [
            f"typedef struct {{ uint8_t *arena; }} {m}_context;",
            f"ts_status {m}_init({m}_context *ctx, void *arena, size_t bytes);",
            f"ts_status {m}_run({m}_context *ctx);",
            f"ts_status {m}_selftest({m}_context *ctx);",
            f"void *{m}_input(const {m}_context *ctx, int32_t index);",
            f"const void *{m}_output(const {m}_context *ctx, int32_t index);",
        ]
        return "\n".join(lines) + "\n"

    def source(self, function: str) -> str:
        """Constants, places and the API around `function`, every name with the model's."""
        m, offsets, guards = self.name, *self._layout()[:2]
        lines: list[str] = []
        for name, constant in self.call.constants.items():
            size, c_type = constant.array.size, constant_type(constant).c
            lines.append(
                f"static const _Alignas(8) {c_type} {m}_{name}[{size}] = "
                f"{{\n{c_table(constant.array)}\n}};"
            )
        taken = [f"x{i}" for i, _ in enumerate(activations(self.node, self.graph))]
        results = [f"y{i}" for i, _ in enumerate(self.graph.results(self.node))]
        places = [*taken, *(f"s{i}" for i, _ in enumerate(self.state))]
        ends = [*results, *(f"t{i}" for i, _ in enumerate(self.state))]
        lines.append(
            f"static const uint32_t {m}_in_at[] = {{{', '.join(str(offsets[p]) for p in places)}}},"
            f"\n    {m}_out_at[] = {{{', '.join(str(offsets[p]) for p in ends)}}};"
        )
        pairs = ", ".join(f"{{{a}, {b}}}" for a, b in guards)
        lines.append(f"static const uint32_t {m}_guards[][2] = {{{pairs}}};")
        lines.append(_API.replace("@", m).replace("%COPIES%", self._copies(offsets)).replace(
            "%CALL%", self._call_text(function, offsets)
        ))  # fmt: skip
        return "\n\n".join(lines)

    def _copies(self, offsets: dict[str, int]) -> str:
        return "\n".join(
            f"    memcpy(arena + {offsets[f't{i}']}, arena + {offsets[f's{i}']}, {v.type.bytes});"
            for i, v in enumerate(self.state)
        )

    def _call_text(self, function: str, offsets: dict[str, int]) -> str:
        node, graph, call = self.node, self.graph, self.call
        arguments = [
            c_pointer("arena", offsets[f"x{i}"], v.type.dtype, const=True)
            for i, (_, v) in enumerate(activations(node, graph))
        ]
        arguments += [
            c_pointer("arena", offsets[f"y{i}"], v.type.dtype)
            for i, v in enumerate(graph.results(node))
        ]
        for value in call.kernel.state(node, graph).values():
            at = offsets[f"t{self.state.index(graph.storage[value])}"]
            arguments.append(c_pointer("arena", at, value.type.dtype))
        arguments += [f"{self.name}_{name}" for name in call.constants]
        if call.scratch_bytes:
            arguments.append(f"arena + {offsets['scratch']}")
        return c_wrap_call(function, arguments, ";", "    ")


def run_on_host(
    folder: Path,
    models: Sequence[KernelModel],
    samples: Sequence[Sequence[Sequence[Array]]],
    *flags: str,
    compiler: str = "gcc",
) -> list[list[list[Array]]]:
    """Per model and sample the outputs; sanitized."""
    lines = ['#include "host_main.h"']
    for m in models:
        lines.append(f'#include "{m.name}.h"')
        for kind, types in (("in", m.inputs), ("out", m.outputs)):
            sizes = ", ".join(str(t.bytes) for t in types)
            lines.append(f"static const size_t {m.name}_{kind}_bytes[] = {{{sizes}}};")
        lines.append(f"MODEL({m.name}, {m.name.upper()})")
    calls = "".join(f"    run_{m.name}();\n" for m in models)
    _write(folder, models)
    (folder / "main.c").write_text(
        "\n".join(lines) + f"\nstatic void run_all(void)\n{{\n{calls}}}\n"
    )
    exe = compile_c(folder, "-ffp-contract=off", *(flags or SANITIZE), compiler=compiler)
    with (folder / "in.bin").open("wb") as file:
        for given in samples:
            file.write(np.uint32(len(given)).tobytes())
            for sample in given:
                for array in sample:
                    file.write(np.ascontiguousarray(array).tobytes())
    done = subprocess.run(
        [exe, "in.bin", "out.bin"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"
    data, at = (folder / "out.bin").read_bytes(), 0
    results: list[list[list[Array]]] = []
    for m, given in zip(models, samples, strict=True):
        results.append([[] for _ in given])
        for row in results[-1]:
            for t in m.outputs:
                row.append(np.frombuffer(data, t.dtype.numpy, t.elements, at).reshape(t.shape))
                at += t.bytes
    assert at == len(data)
    return results


def run_on_board(
    folder: Path,
    board: Board,
    models: Sequence[KernelModel],
    samples: Sequence[Sequence[Sequence[Array]]],
) -> tuple[list[list[list[Array]]], list[list[float]]]:
    """As `run_on_host`, under the board's emulator; and executed instructions per run."""
    _write(folder, models)
    shutil.copytree(paths.RUNTIME_C / "include", folder / "runtime/include", dirs_exist_ok=True)
    shutil.copytree(paths.RUNTIME_C / "src", folder / "runtime/src", dirs_exist_ok=True)
    bindings = [ModelBinding(m.name, len(m.inputs), len(m.outputs)) for m in models]
    write_harness(folder, board, bindings)
    build(folder, board)
    elf = firmware(folder, twin=bool(board.twin))
    flat = [Sample(tuple(s), i) for i, given in enumerate(samples) for s in given]
    results = run_samples(elf, board, [m.outputs for m in models], flat)
    for sample, result in zip(flat, results, strict=True):
        assert result.status == 0, f"{models[sample.model].name}: status {result.status}"
    ratio = board.counter.instructions / board.counter.ticks
    rows = iter(results)
    taken = [[next(rows) for _ in given] for given in samples]
    return (
        [[list(r.outputs) for r in given] for given in taken],
        [[r.ticks * ratio for r in given] for given in taken],
    )


def _write(folder: Path, models: Sequence[KernelModel]) -> None:
    """A header for each model; a C file for some together, for a compiler's start costs more than
    a kernel, and functions that differ in nothing are then compiled once."""
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        (folder / f"{model.name}.h").write_text(model.header())
    for first in range(0, len(models), _TOGETHER):
        some = models[first : first + _TOGETHER]
        (folder / f"{some[0].name}.c").write_text(_source(some))


def _source(models: Sequence[KernelModel]) -> str:
    functions = Functions()
    apis = [m.source(functions.add(m.call, m.graph)) for m in models]
    lines = [f'#include "{m.name}.h"' for m in models]
    lines += [f"#include <{h}.h>" for h in ("math", "stdbool", "string")]
    lines += [f'#include "tinsmith/ts_{h}.h"' for h in ("float", "requantize", "simd")]
    return "\n\n".join([*lines, *(view.text for view in functions.views()), *apis])
