"""Random graphs with made-up kernels, and a simulation of the arena with the worst kernels
allowed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinsmith.errors import InternalError
from tinsmith.ir.dtypes import DType, TensorType
from tinsmith.ir.graph import Graph, Node, Origin, Value
from tinsmith.ir.opdef import Absent, NoAttrs, OpDef, no_macs
from tinsmith.kernels.kernel import Kernel, KernelCall
from tinsmith.plan.check import check_plan
from tinsmith.plan.model import MemoryPlan

Case = tuple[Graph, list[KernelCall]]
_Read = tuple[float, Value, int]  # byte of a value, no later than before this byte is written
NONE = Absent("a test's operator")


@dataclass(frozen=True)
class ConcatAttrs:
    axis: int = 0


def fake_op(name: str, attrs: type = NoAttrs, *, is_view: bool = False) -> OpDef:
    def never(*args: object) -> object:
        raise AssertionError("the planner must not run operators")

    return OpDef(name, attrs, never, never, NONE, no_macs, NONE, NONE, NONE, is_view=is_view)


MIX, VIEW = fake_op("mix"), fake_op("view", is_view=True)
CONCAT = fake_op("concat", ConcatAttrs)


def value(name: str, size: int) -> Value:
    return Value(name, TensorType((size,), DType.INT8))


def node(
    op: OpDef, inputs: Sequence[Value], outputs: Sequence[Value], attrs: object = None
) -> Node:
    attrs = op.attrs() if attrs is None else attrs
    return Node(op, tuple(inputs), tuple(outputs), attrs, Origin(f"/{outputs[0].name}", op.name))


def call(
    node: Node,
    leads: Mapping[int, int] | None = None,
    scratch: int = 0,
    scratch_leads: Mapping[int, int] | None = None,
) -> KernelCall:
    """A kernel with the given lead per input position, and scratch with its own."""
    known, over = dict(leads or {}), dict(scratch_leads or {})
    kernel = Kernel(
        f"{node.op.name}_test",
        node.op.name,
        "none",
        view=lambda node, graph: {},
        constants=lambda node, graph: {},
        lead_bytes=lambda node, index: known.get(index),
        scratch_lead_bytes=lambda node, index: over.get(index),
        scratch_bytes=lambda node, graph: scratch,
    )
    return KernelCall(node, kernel, {}, scratch)


def chain(sizes: Sequence[int], lead: int | None = None, scratch: int = 0) -> Case:
    """An input of sizes[0] bytes, then a node per further size, all with that lead and scratch."""
    values = [value(f"v{i}", size) for i, size in enumerate(sizes)]
    nodes = [node(MIX, [a], [b]) for a, b in itertools.pairwise(values)]
    graph = Graph("chain", (values[0],), (values[-1],), {}, tuple(nodes))
    leads = {} if lead is None else {0: lead}
    return graph, [call(n, leads, scratch) for n in nodes]


def random_case(seed: int, *, most: int = 12, views: bool = True, over: bool = False) -> Case:
    """A random graph of up to `most` nodes: fan-out, repeated reads, views, concats, dead values.

    Nodes with two outputs, inputs that are outputs, scratch, and leads of any size and sign.
    over: much scratch, which may overlap inputs.
    """
    rng = random.Random(seed)
    covers = random.Random(seed)
    known = [value(f"x{i}", rng.randint(1, 40)) for i in range(rng.randint(1, 2))]
    inputs = tuple(known)
    nodes: list[Node] = []
    calls: list[KernelCall] = []
    for i in range(rng.randint(1, most)):
        kind = rng.random()
        recent = known[-4:]
        if views and kind < 0.2:
            source = rng.choice(recent)
            made = node(VIEW, [source], [value(f"n{i}", source.type.bytes)])
        elif views and kind < 0.35 and len(recent) > 1:
            sources = rng.sample(recent, 2)
            total = sum(v.type.bytes for v in sources)
            made = node(CONCAT, sources, [value(f"n{i}", total)])
        else:
            sources = [rng.choice(recent) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
            count = 2 if rng.random() < 0.1 else 1
            names = [f"n{i}"] if count == 1 else [f"n{i}.0", f"n{i}.1"]
            made = node(MIX, sources, [value(n, rng.randint(1, 40)) for n in names])
        nodes.append(made)
        known += made.outputs
        if made.op is not VIEW:
            leads = {p: _lead(rng, made) for p in range(len(made.inputs)) if rng.random() < 0.6}
            scratch = rng.randint(1, 20) if rng.random() < 0.2 else 0
            covered: dict[int, int] = {}
            if over and covers.random() < 0.7:
                scratch = covers.randint(1, 60)
                covered = {p: _lead(covers, made) for p in range(len(made.inputs))}
            calls.append(call(made, leads, scratch, covered))
    last = nodes[-1].outputs[0]
    extra = [v for v in known if v != last and rng.random() < 0.08]
    return Graph("random", inputs, (last, *extra), {}, tuple(nodes)), calls


def _lead(rng: random.Random, made: Node) -> int:
    return rng.choice((0, 0, 0, 4, 8, -4, rng.randint(-10, made.y.bytes + 5)))


def accepted(case: Case, plan: MemoryPlan) -> bool:
    """Whether the checker takes the plan."""
    try:
        check_plan(*case, plan)
    except InternalError:
        return False
    return True


def survives(graph: Graph, calls: Sequence[KernelCall], plan: MemoryPlan) -> bool:
    """Play the graph on a real arena with the worst kernels the contract allows.

    Every byte has a tag of its own. With lead D a kernel reads byte j of its input immediately
    before it writes byte j + D of its first output, as late as it may, and other outputs before
    that; without a lead it reads everything again after the last write. It soils its scratch
    before, and reads it after; what it may cover with scratch of lead D, and does, it reads
    immediately before it writes byte j + D there, and no more after that.
    """
    by_name = {c.node.name: c for c in calls}
    memory: dict[int, object] = {}
    tags: dict[Value, list[object]] = {}

    def store(v: Value) -> None:
        tags[v] = [(v.name, k) for k in range(v.type.bytes)]
        for k, tag in enumerate(tags[v]):
            memory[plan.offsets[v] + k] = tag

    def whole(v: Value) -> bool:
        return all(memory.get(plan.offsets[v] + k) == tag for k, tag in enumerate(tags[v]))

    for v in graph.inputs:
        store(v)
    if not all(whole(v) for v in graph.inputs):
        return False
    for made in graph.nodes:
        if made.name in plan.in_place and made.op.name == "slice":
            (start,) = made.attrs.starts
            tags[made.outputs[0]] = tags[made.inputs[0]][start : start + made.y.bytes]
            if not whole(made.outputs[0]):
                return False
        elif made.name in plan.in_place:
            tags[made.outputs[0]] = [t for v in made.inputs for t in tags[v]]
            if not whole(made.outputs[0]):
                return False
        elif not _run(made, by_name[made.name], plan, memory, tags) or not all(
            whole(v) for v in made.outputs
        ):
            return False
    return all(whole(v) for v in graph.outputs)


def _run(
    made: Node,
    kernel_call: KernelCall,
    plan: MemoryPlan,
    memory: dict[int, object],
    tags: dict[Value, list[object]],
) -> bool:
    def read(v: Value, k: int) -> bool:
        return memory.get(plan.offsets[v] + k) == tags[v][k]

    def write(cells: Sequence[int], texts: Sequence[object], reads: list[_Read]) -> bool:
        """Writes cell by cell; each read is as late as it may be. Whether all found their bytes."""
        reads.sort(key=lambda r: r[0])
        at = 0
        for time, (cell, text) in enumerate(zip(cells, texts, strict=True)):
            while at < len(reads) and reads[at][0] <= time:
                if not read(*reads[at][1:]):
                    return False
                at += 1
            memory[cell] = text
        return all(read(v, k) for _, v, k in reads[at:])

    base, size = plan.scratch.get(made.name, 0), kernel_call.scratch_bytes
    scratch = range(base, base + size)
    soil = [("scratch", made.name, at) for at in scratch]
    early: list[_Read] = []
    late: list[_Read] = []
    for index, v in enumerate(made.inputs):
        lead = kernel_call.kernel.lead_bytes(made, index)
        over = kernel_call.kernel.scratch_lead_bytes(made, index)
        for k in range(v.type.bytes):
            if over is not None and plan.offsets[v] + k in scratch:
                early.append((k + over, v, k))
            else:
                late.append((float("inf") if lead is None else k + lead, v, k))
    if not write(scratch, soil, early):
        return False
    for v in made.outputs:
        tags[v] = [(v.name, k) for k in range(v.type.bytes)]
    first, *others = made.outputs
    for v in others:
        memory.update({plan.offsets[v] + k: tag for k, tag in enumerate(tags[v])})
    cells = range(plan.offsets[first], plan.offsets[first] + first.type.bytes)
    return write(cells, tags[first], late) and all(
        memory[at] == text for at, text in zip(scratch, soil, strict=True)
    )
