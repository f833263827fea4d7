"""The attack suite: its parts against other oracles, its judgement of small networks it can break.

What trains needs torch and skips without it; the rest does not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.attack import torch_extra
from tinsmith.attack.artefacts import check_image, packed_constants
from tinsmith.attack.assignment import best_assignment
from tinsmith.attack.chart import draw_attacks
from tinsmith.attack.observe import answers, correlation
from tinsmith.attack.samples import read_attack_samples
from tinsmith.attack.stolen import split
from tinsmith.attack.suite import Outcome, Report
from tinsmith.errors import BadInput, CompileError, MissingTool, VerificationFailed
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.quant.batch import run_many
from tinsmith.trust.cut import MODES
from tinsmith.trust.partition import join, partition

from .host_c import compile_c, program, write
from .int8_nets import Int8Net
from .test_trust_partition import KEY, mobile_net, readers_net, same

CLASSES = 4


def small_net(seed: int = 3) -> Graph:
    """Wide enough to cut, small enough to attack in a moment."""
    net = Int8Net("small", seed)
    x = net.conv(net.input(1, 6, 6, 2), 8, 3)
    skip = x
    x = net.add("relu", [net.add("add", [skip, net.conv(x, 8, 3)])])
    x = net.pool("average_pool", net.conv(x, 12, 3), 2, 2)
    return net.build(net.add("softmax", [net.dense(x, CLASSES)]))


@pytest.mark.parametrize("size", [1, 2, 5, 17, 40])
def test_the_assignment_is_the_best(size: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(size)
    for score in (rng.normal(size=(size, size)), rng.integers(0, 3, (size, size)).astype(float)):
        found = best_assignment(score)
        assert sorted(found.tolist()) == list(range(size))
        rows, columns = optimize.linear_sum_assignment(-score)
        best = score[rows, columns].sum()
        assert score[np.arange(size), found].sum() == pytest.approx(best)


@pytest.mark.parametrize("mode", MODES)
def test_the_stolen_network_in_parts(mode: str) -> None:
    """Above, gap and below are the whole network, each node once; below needs what crosses."""
    graph = mobile_net()
    parts = partition(graph, mode, KEY)
    stolen = split(parts.nonsecure)
    nodes = [*stolen.above, *stolen.gap, *stolen.below]
    names = {n.name for n in nodes}
    assert len(names) == len(nodes)
    left = [n.op.name for n in parts.nonsecure.nodes if n.name not in names]
    assert left == ["softmax"]
    above = {v for n in stolen.above for v in n.outputs} | set(parts.nonsecure.inputs)
    assert set(stolen.crossing) <= above
    assert set(stolen.inputs) <= set(stolen.crossing)
    with pytest.raises(CompileError, match="no gateway"):
        split(graph)


def rows_of(graph: Graph, count: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-128, 128, (count, *v.type.shape), np.int8) for v in graph.inputs]


def test_correlation_finds_a_permutation_and_not_a_blinded_one() -> None:
    graph = readers_net()
    for mode, recovered in (("permute", 1.0), ("coreguard-otp", 0.0)):
        parts = partition(graph, mode, KEY, cut="conv2d2")
        gate = parts.secure[0]
        (order,) = (a for v, a in gate.initializers.items() if v.name.endswith("order"))
        rows = rows_of(replace(gate, inputs=gate.inputs[:1]), 40)
        found = best_assignment(correlation(rows[0], answers(gate, rows, 5)))
        assert np.mean(found == order) == pytest.approx(recovered, abs=0.25)


def test_a_reused_pad_gives_the_order_away() -> None:
    """The negative control of the test above: the same pad for every query."""
    parts = partition(readers_net(), "coreguard-otp", KEY, cut="conv2d2")
    gate = parts.secure[0]
    rows = rows_of(replace(gate, inputs=gate.inputs[:1]), 40)[0]
    pad = np.random.default_rng(1).integers(-(2**31), 2**31, gate.inputs[1].type.shape, np.int32)
    pads = np.broadcast_to(pad, (40, *pad.shape))
    blinded = run_many(gate, [rows, pads])[0]
    moved = (blinded.astype(np.int64) - blinded[:1] + 2**31) % 2**32 - 2**31
    first = rows.astype(np.int64) - rows[:1]
    order = next(a for v, a in gate.initializers.items() if v.name == "order")
    assert np.array_equal(best_assignment(correlation(first, moved)), order)


def test_weights_are_read_back_from_the_image(tmp_path: Path) -> None:
    """Every constant of the kernels is in the ELF under its name; a changed byte is noticed."""
    from tinsmith.codegen.emit import emit

    graph = small_net()
    made = program(graph)
    files = emit(made)
    main = '#include "small.h"\nint main(void) { return small_selftest((small_context *)0); }\n'
    write(tmp_path, {**files, "main.c": main})
    elf = compile_c(tmp_path, "-g")
    packed = packed_constants(made.graph, "host")
    assert sum(a.nbytes for a in packed.values()) > 1000
    check_image(elf, packed)
    name = next(n for n in packed if n.endswith("_w"))
    wrong = {**packed, name: packed[name] ^ 1}
    with pytest.raises(VerificationFailed, match=name):
        check_image(elf, wrong)
    with pytest.raises(CompileError, match="cannot be read"):
        check_image(tmp_path / "main.c", packed)


def test_samples_that_judge_are_held_out(tmp_path: Path) -> None:
    graph = small_net()
    rows = rows_of(graph, 100)[0]
    labels = np.arange(100) % CLASSES
    path = tmp_path / "data.npz"
    np.savez(path, x=rows, y=labels)
    train, test = read_attack_samples(path, graph)
    assert (len(train), len(test)) == (80, 20)
    np.savez(path, x_train=rows, y_train=labels, x_test=rows[:30], y_test=labels[:30])
    train, test = read_attack_samples(path, graph)
    assert (len(train), len(test)) == (100, 30)
    np.savez(path, x=rows, y=labels, x_test=rows[:30], y_test=labels[:30] + CLASSES)
    with pytest.raises(BadInput, match="y_test"):
        read_attack_samples(path, graph)
    np.savez(path, x=rows)
    with pytest.raises(BadInput, match="no labels"):
        read_attack_samples(path, graph)


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(torch_extra.importlib, "import_module", missing)
    with pytest.raises(MissingTool, match="torch") as error:
        torch_extra.load_torch()
    assert "tinsmith[train]" in (error.value.hint or "")


def test_the_chart_is_reproducible(tmp_path: Path) -> None:
    outcomes = (
        Outcome("unauthorised", "identity", 0, (0.1, 0.12)),
        Outcome("fine-tune", "1% of labels", 47, (0.2, 0.3)),
        Outcome("fine-tune", "10% of labels", 466, (0.4, 0.3)),
    )
    report = Report("ic", "permute", 2, 10, 466, 80, 10, 0.87, outcomes)
    draw_attacks(report, tmp_path / "a.svg")
    draw_attacks(report, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert report.outcomes[0].mean == pytest.approx(0.11)
    assert report.outcomes[1].spread == pytest.approx(0.0707, abs=1e-3)


def test_the_imitation_computes_what_the_device_does() -> None:
    pytest.importorskip("torch")
    from tinsmith.attack.imitation import as_int8, centred, parameters_of, run_nodes

    for graph in (small_net(), mobile_net(), readers_net()):
        nodes = [n for n in graph.nodes if n.op.name != "softmax"]
        rows = rows_of(graph, 6)
        values = {v: centred(v, r) for v, r in zip(graph.inputs, rows, strict=True)}
        run_nodes(graph, nodes, values, parameters_of(graph, nodes))
        last = nodes[-1].outputs[0]
        want = run_many(replace(graph, outputs=(last,)), rows)[0].reshape(6, -1)
        got = as_int8(last, values[last]).reshape(6, -1)
        error = np.abs(got.astype(int) - want)
        assert error.max() <= 6
        assert error.mean() < 0.25 * np.std(want)


@pytest.mark.parametrize("mode", MODES)
def test_the_suite_breaks_what_can_be_broken(mode: str) -> None:
    """A caller clones every gateway; permute alone falls to one query."""
    pytest.importorskip("torch")
    from tinsmith.attack.lab import Samples
    from tinsmith.attack.suite import Budget, attack_network

    graph = small_net()
    parts = partition(graph, mode, KEY, cut="add2" if mode == "withhold" else "relu3")
    joined = join(parts)
    assert same(graph, joined, range(2))
    rows = rows_of(graph, 160)
    labels = run_many(graph, rows)[0].reshape(160, -1).argmax(1).astype(np.int32)
    train, test = Samples([rows[0][:120]], labels[:120]), Samples([rows[0][120:]], labels[120:])
    report = attack_network(
        graph, parts.nonsecure, list(parts.secure), joined, train, test,
        mode=mode, budget=Budget(seeds=1, steps=3, fractions=(0.5,), queries=(1, 100)),
    )  # fmt: skip
    assert report.victim == 1.0
    found = {(o.attack, o.samples): o for o in report.outcomes}
    names = {name for name, _ in found}
    assert {"unauthorised", "fine-tune", "stitch, project", "from scratch"} <= names
    cloned = [o for o in report.outcomes if o.attack.startswith("caller")]
    assert cloned[-1].mean >= 0.8
    if mode == "permute":
        assert cloned[0].orders == (1.0,)
        assert found["unauthorised", 0].mean < 0.9
    assert run(joined, [rows[0][0]])[0].shape == graph.outputs[0].type.shape
