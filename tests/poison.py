"""Models that spoil their own arena: after every node, all bytes that its plan calls dead.

A trace build calls `ts_trace` after every node. Here the name stands for a function made from the
plan of the entry point, inference or training step, which overwrites with pseudo-random bytes
whatever no buffer of that plan holds between the node and the next: inputs that have died, scratch,
gaps.
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

void {name}(int32_t node, const void *data, size_t bytes);

static const uint32_t dead[][2] = {{{dead}}};
static const uint32_t first[] = {{{first}}};
static const int32_t offsets[] = {{{offsets}}}; /* of what is traced; -1: not in the arena */
static uint32_t junk = 1, call;
static uint8_t *arena;

void {name}(int32_t node, const void *data, size_t bytes)
{{
    if (offsets[call] >= 0) {{
        arena = (uint8_t *)(uintptr_t)data - offsets[call];
    }}
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
    """The C sources of a program as `emit` makes them, with the poison in all its entry points."""
    name = program.c_name
    files = dict(emit(program))
    text = f"#define TS_TRACE\n#define ts_trace {name}_poison\n" + files[f"{name}.c"]
    files[f"{name}_poison.c"] = _poison(f"{name}_poison", program)
    if program.train is not None:
        entry, spoil = f"ts_status {name}_train_step(", f"{name}_poison_step"
        before, found, after = text.partition(entry)
        assert found
        assert entry not in after
        hook = f"#undef ts_trace\n#define ts_trace {spoil}\n"
        hook += f"void {spoil}(int32_t node, const void *data, size_t bytes);\n"
        text = before + hook + entry + after
        files[f"{spoil}.c"] = _poison(spoil, program.train)
    files[f"{name}.c"] = text
    return files


def _poison(name: str, program: Program) -> str:
    graph, plan = program.graph, program.plan
    spans = [dead_after(plan, step) for step in range(len(graph.nodes))]
    first = [sum(map(len, spans[:k])) for k in range(len(spans) + 1)]
    flat = [f"{{{a}, {b}}}" for part in spans for a, b in part] or ["{0, 0}"]
    traced = [v for node in graph.nodes for v in node.outputs]
    offsets = [-1 if v in graph.storage else plan.offsets[v] for v in traced]
    assert offsets[0] >= 0
    return _SOURCE.format(
        name=name,
        dead=", ".join(flat),
        first=", ".join(map(str, first)),
        offsets=", ".join(map(str, offsets)),
    )


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
