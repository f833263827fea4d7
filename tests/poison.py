"""Models that spoil their own arena: after every node, all bytes that its plan calls dead.

A trace build calls `ts_trace` after every node. Here the name stands for a function made from the
plan, which overwrites with pseudo-random bytes whatever no buffer of the plan holds between that
node and the next: inputs that have died, scratch, gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tinsmith.codegen.emit import emit
from tinsmith.codegen.program import Program
from tinsmith.plan.model import Buffer, MemoryPlan

Span = tuple[int, int]  # [first, last) byte of the arena

_SOURCE = """\
/* Spoils what is dead in the arena of {name} after every node. */
#include <stddef.h>
#include <stdint.h>

void {name}_poison(int32_t node, const void *data, size_t bytes);

static const uint32_t dead[][2] = {{{dead}}};
static const uint32_t first[] = {{{first}}};
static const uint32_t offsets[] = {{{offsets}}};
static uint32_t junk = 1, call;

void {name}_poison(int32_t node, const void *data, size_t bytes)
{{
    uint8_t *const arena = (uint8_t *)(uintptr_t)data - offsets[call];
    (void)bytes;
    call = (call + 1) % (sizeof offsets / sizeof offsets[0]);
    for (uint32_t i = first[node]; i < first[node + 1]; ++i) {{
        for (uint32_t at = dead[i][0]; at < dead[i][1]; ++at) {{
            junk ^= junk << 13;
            junk ^= junk >> 17;
            junk ^= junk << 5;
            arena[at] = (uint8_t)junk;
        }}
    }}
}}
"""


def poisoned(program: Program) -> Mapping[str, str]:
    """The C sources of a program that does not learn, as `emit` makes them, with the poison."""
    name, graph, plan = program.c_name, program.graph, program.plan
    files = dict(emit(program))
    hook = f"#define TS_TRACE\n#define ts_trace {name}_poison\n"
    files[f"{name}.c"] = hook + files[f"{name}.c"]
    spans = [dead_after(plan, step) for step in range(len(graph.nodes))]
    first = [sum(map(len, spans[:k])) for k in range(len(spans) + 1)]
    flat = [f"{{{a}, {b}}}" for part in spans for a, b in part] or ["{0, 0}"]
    offsets = [plan.offsets[v] for node in graph.nodes for v in node.outputs]
    files[f"{name}_poison.c"] = _SOURCE.format(
        name=name,
        dead=", ".join(flat),
        first=", ".join(map(str, first)),
        offsets=", ".join(map(str, offsets)),
    )
    return files


def dead_after(plan: MemoryPlan, step: int) -> tuple[Span, ...]:
    """The bytes that no buffer holds between this step and the next."""
    by_name = {p.buffer.name: p.buffer for p in plan.placed if not p.buffer.is_scratch}
    held = (p for p in plan.placed if _lasts(p.buffer, step, by_name))
    return tuple(_gaps(sorted((p.offset, p.end) for p in held), plan))


def _lasts(b: Buffer, step: int, by_name: Mapping[str, Buffer]) -> bool:
    """Whether the buffer's bytes must survive from this step to the next. Those of a part do from
    or until the step at which the whole is there."""
    host = by_name[b.host] if b.host is not None else b
    first = host.last if host.last < b.first else b.first
    last = host.first if host.first > b.last else b.last
    return first <= step < last


def _gaps(held: list[Span], plan: MemoryPlan) -> Iterator[Span]:
    at = 0
    for start, end in [*held, (plan.arena_bytes, plan.arena_bytes)]:
        if at < start:
            yield at, start
        at = max(at, end)
