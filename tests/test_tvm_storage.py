"""What is stored as uint8 on x86, and what must not be: graphs whose values share bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.project import write_project
from tinsmith.codegen.schedule import schedule
from tinsmith.ir.dtypes import Quant
from tinsmith.ir.graph import Graph
from tinsmith.ops.reshape import ReshapeAttrs
from tinsmith.pass_manager import PassContext
from tinsmith.quant.batch import run_many
from tinsmith.runner.execute import run_samples
from tinsmith.runner.protocol import Sample
from tinsmith.toolchain.firmware import build_firmware

from .int8_nets import Int8Net, residual_net
from .tvm_projects import inputs, require

pytest.importorskip("tvm", reason="needs the tvm extra")
PLAIN = "x86_64-avx2"


def rows_in_place() -> Graph:
    """A concatenation of rows that is laid out in place, with a branch that is also read alone."""
    net = Int8Net("rows", 5)
    net.quant = lambda *_: Quant.per_tensor(0.04, 3)  # type: ignore[method-assign]
    x = net.input(1, 8, 8, 16)
    low = net.conv(x, 16)
    joined = net.concat([net.conv(x, 16), net.conv(low, 16)], axis=1)
    return net.build(net.dense(joined, 7), net.dense(low, 3))


def the_input_passes_through() -> Graph:
    """The input is joined with what rules make of it; a view of a value is an output."""
    net = Int8Net("through", 6)
    x = net.input(1, 6, 6, 8)
    y = net.conv(x, 8)
    both = net.concat([x, y, net.depthwise(y)], axis=3)
    z = net.conv(both, 4, 1)
    flat = net.add("reshape", [z], ReshapeAttrs((1, z.type.elements)))
    return net.build(flat, net.dense(z, 5))


def parts_of_a_split() -> Graph:
    net = Int8Net("parts", 7)
    x = net.input(1, 5, 7, 12)
    a, b = net.split(net.conv(x, 12), (4, 8))
    joined = net.concat([net.conv(b, 4), net.add("mul", [a, net.conv(a, 4)])])
    return net.build(net.add("softmax", [net.dense(net.depthwise(joined), 6)]))


@pytest.mark.parametrize(
    "make", [residual_net, rows_in_place, the_input_passes_through, parts_of_a_split]
)
def test_graphs_that_share_bytes_are_exact(make: Callable[[], Graph], tmp_path: Path) -> None:
    board = require(PLAIN)
    graph = make()
    program = schedule(graph, board, None, False, PassContext())
    assert program.stored
    ends = {*graph.inputs, *graph.outputs}
    assert not program.stored & ends
    if make is rows_in_place:
        assert any(n.op.name == "concat" for n in graph.nodes if n.name in program.plan.in_place)
    write_project(tmp_path, program)
    built = build_firmware(tmp_path, program.graph, board)
    samples = inputs(program.graph)
    types = [v.type for v in program.graph.outputs]
    rows = [Sample(tuple(row)) for row in zip(*samples, strict=True)]
    results = run_samples(built.elf, board, [types], rows)
    for i, want in enumerate(run_many(program.graph, samples)):
        np.testing.assert_array_equal(np.stack([r.outputs[i] for r in results]), want)


def test_on_arm_nothing_is_raised() -> None:
    board = require("aarch64")
    assert not schedule(residual_net(), board, None, False, PassContext()).stored
