"""Projects that learn: C on this machine (sanitized) and in the emulators against `run_step`.

Long: every function of a project that learns is asked on the same few builds, slow to make.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.project import read_graph
from tinsmith.codegen.report import read_report
from tinsmith.errors import BadInput, CompileError, DoesNotFit
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run, run_step
from tinsmith.machine.board import load_board
from tinsmith.pipeline import CompiledProject, compile_model
from tinsmith.runner.bench import bench, profile_step
from tinsmith.runner.execute import run_sequence
from tinsmith.runner.project import device_samples
from tinsmith.runner.protocol import Command, Sample
from tinsmith.runner.training import TrainingProject, open_training, train_project, train_steps
from tinsmith.toolchain.compile_c import build
from tinsmith.train.scheme import Scheme, Update

from .host_c import SANITIZE, WARNINGS
from .own_models import compile_own
from .shared import shared_models

STEPS = 110
PART = Update(last=4, bias=True, weights=0.5)
WHOLE = Update(node="*", bias=True, weights=1.0)


@dataclass(frozen=True)
class Net:
    """A model of ours, its samples and what of it learns."""

    name: str
    scheme: Scheme

    def compile(self, folder: Path, board: str, **options: object) -> CompiledProject:
        return compile_own(self.name, folder, board, train=self.scheme, **options)

    def samples(self, count: int = STEPS) -> tuple[dict[str, Array], Array]:
        data = np.load(paths.GRAPHS / self.name / "samples.npz")
        return {"x": data["x"][:count]}, data["label"][:count].astype(np.int32)


DSCNN = Net("digits_dscnn", Scheme(classes=10, update=(PART,)))
RESNET = Net("digits_resnet", Scheme(update=(WHOLE,)))
NETS = (
    DSCNN,
    RESNET,
    Net("digits_dscnn", Scheme(rule="residual4", update=(WHOLE,))),
    Net("digits_dscnn", Scheme(rule="stochastic", update=(WHOLE,))),
    Net("digits_resnet", Scheme(rule="nearest", update=(PART,))),
    Net("digits_dscnn", Scheme(update=(Update(node="*", bias=True),))),
    Net("digits_autoencoder", Scheme(loss="mse", update=(Update(last=3, bias=True, weights=1.0),))),
)


def label(net: Net) -> str:
    update = net.scheme.update[0]
    return f"{net.name}-{net.scheme.rule}-{update.last or 'all'}-{update.weights or 0:g}"


def oracle(
    graph: Graph, rows: list[Array], given: Array, rates: Array, state: Mapping[Value, Array]
) -> tuple[list[Array], dict[Value, Array]]:
    """The losses, and the state after the last step."""
    losses: list[Array] = []
    current = dict(state)
    for i, rate in enumerate(rates):
        inputs = [*(r[i] for r in rows), given[i], rate[None]]
        outputs, current = run_step(graph, inputs, current)
        losses.append(outputs[-1])
    return losses, current


def agree(folder: Path, net: Net, steps: int = STEPS) -> None:
    """Trains on the device and in numpy: losses and state must have the same bits."""
    training = open_training(folder)
    samples, labels = net.samples(steps)
    rows = device_samples(training.project.graph, samples)
    type_ = training.graph.inputs[-2].type
    given = labels.reshape(-1, 1) if net.scheme.loss == "cross_entropy" else rows[0]
    given = given.reshape(steps, *type_.shape).astype(type_.dtype.numpy)
    rates = np.geomspace(0.02, 0.0005, steps).astype(np.float32)
    result = train_project(training, rows, given, rates)
    start = {v: training.graph.initializers[v] for v in training.graph.state}
    losses, state = oracle(training.graph, rows, given, rates, start)
    assert result.losses.tobytes() == np.concatenate(losses).tobytes()
    for value, array in state.items():
        np.testing.assert_array_equal(result.state[value], array, err_msg=value.name)
    moved = [v for v in state if not np.array_equal(state[v], start[v])]
    assert len(moved) > len(state) / 2
    assert np.isfinite(result.losses).all()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DSCNN for this machine, with sanitizers."""
    folder = tmp_path_factory.mktemp("host") / "dscnn"
    DSCNN.compile(folder, "host")
    build(folder, load_board("host"), extra_cflags=SANITIZE)
    return folder


@pytest.mark.parametrize("net", NETS, ids=label)
def test_a_hundred_steps_are_bit_exact_on_this_machine(net: Net, tmp_path: Path) -> None:
    net.compile(tmp_path, "host")
    build(tmp_path, load_board("host"), extra_cflags=SANITIZE)
    agree(tmp_path, net)


@pytest.mark.slow
@pytest.mark.parametrize("net", [DSCNN, RESNET], ids=label)
@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500", "mps3-an547", "qemu-riscv32"])
def test_a_hundred_steps_are_bit_exact_on_boards(net: Net, board: str, tmp_path: Path) -> None:
    net.compile(tmp_path, board)
    agree(tmp_path, net)


def test_the_model_runs_with_what_it_learnt(host: Path) -> None:
    training = open_training(host)
    samples, labels = DSCNN.samples(12)
    rows = device_samples(training.project.graph, samples)
    rates = np.full(12, 0.01, np.float32)
    learn, learn_types = training.steps(rows, labels.reshape(-1, 1), rates)
    ask = [Sample((row,)) for row in rows[0]]
    outputs = [v.type for v in training.project.graph.outputs]
    commands = [*learn[:6], *ask[:3], *learn[6:], *ask]
    types = [*learn_types[:6], *[outputs] * 3, *learn_types[6:], *[outputs] * 12]
    results = run_sequence(training.project.elf(), training.project.board, types, commands)
    state = {v: training.graph.initializers[v] for v in training.graph.state}
    given = labels.reshape(-1, 1)
    _, halfway = oracle(training.graph, [r[:6] for r in rows], given[:6], rates[:6], state)
    _, after = oracle(training.graph, [r[6:] for r in rows], given[6:], rates[6:], halfway)
    for got, row in zip(results[6:9], rows[0], strict=False):
        np.testing.assert_array_equal(got.outputs[0], run(with_state(host, halfway), [row])[0])
    for got, row in zip(results[-12:], rows[0], strict=True):
        np.testing.assert_array_equal(got.outputs[0], run(with_state(host, after), [row])[0])


def with_state(folder: Path, state: Mapping[Value, Array]) -> Graph:
    graph = read_graph(folder)
    known = {v: a for v, a in state.items() if v in graph.initializers}
    assert known
    return replace(graph, initializers={**graph.initializers, **known})


BAD_LABEL, BAD_RATE = 6, 7


@pytest.mark.parametrize(
    ("wrong", "rate", "status"),
    [
        (10, 0.1, BAD_LABEL), (-1, 0.1, BAD_LABEL), (2**31 - 1, 0.1, BAD_LABEL),
        (3, np.nan, BAD_RATE), (3, np.inf, BAD_RATE), (3, -0.1, BAD_RATE),
    ],
)  # fmt: skip
def test_a_refused_step_changes_nothing(wrong: int, rate: float, status: int, host: Path) -> None:
    training = open_training(host)
    samples, labels = DSCNN.samples(3)
    rows = device_samples(training.project.graph, samples)
    labels[1] = wrong
    rates = np.array([0.1, rate, 0.0], np.float32)
    commands, types = training.steps(rows, labels.reshape(-1, 1), rates)
    look = Sample((), command=Command.GET_STATE)
    commands = [commands[0], look, commands[1], look, commands[2], look]
    types = [types[0], [training.state_type], types[1], [training.state_type]] * 2
    results = run_sequence(training.project.elf(), training.project.board, types[:6], commands)
    assert [r.status for r in results] == [0, 0, status, 0, 0, 0]
    states = [r.outputs[0].tobytes() for r in results[1::2]]
    assert states[0] == states[1]
    start = {v: training.graph.initializers[v] for v in training.graph.state}
    assert states[0] != training.pack(start).tobytes()


@pytest.mark.parametrize("rate", [np.inf, 3e38, 1e30])
def test_an_absurd_gradient_saturates(rate: float, host: Path) -> None:
    """Whatever the rate, a step neither wraps nor leaves the range of the weights."""
    if not np.isfinite(rate):
        with pytest.raises(BadInput, match="learning rate"):
            train_steps(host, *DSCNN.samples(2), rate)
        return
    training = open_training(host)
    samples, labels = DSCNN.samples(2)
    result = train_steps(host, samples, labels, rate)
    rows = device_samples(training.project.graph, samples)
    start = {v: training.graph.initializers[v] for v in training.graph.state}
    given = labels.reshape(-1, 1)
    losses, state = oracle(training.graph, rows, given, np.full(2, rate, np.float32), start)
    assert result.losses.tobytes() == np.concatenate(losses).tobytes()
    for value, array in state.items():
        np.testing.assert_array_equal(result.state[value], array)


def test_state_can_be_given_and_taken(host: Path) -> None:
    training = open_training(host)
    samples, labels = DSCNN.samples(8)
    first = train_steps(host, {"x": samples["x"][:5]}, labels[:5], 0.01)
    rest = train_steps(host, {"x": samples["x"][5:]}, labels[5:], 0.01, state=first.state)
    whole = train_steps(host, samples, labels, 0.01)
    for value in training.graph.state:
        np.testing.assert_array_equal(rest.state[value], whole.state[value])
    assert rest.losses.tobytes() == whole.losses[5:].tobytes()
    packed = training.pack(whole.state)
    again = training.unpack(packed)
    assert all(np.array_equal(again[v], whole.state[v]) for v in again)


def test_both_entry_points_share_functions_and_constants(host: Path) -> None:
    report = read_report(host)
    source = (host / f"{report.c_name}.c").read_text()
    run_body, step_body = (
        re.search(rf"{report.c_name}_{what}\(.*?\n}}\n", source, re.S).group(0)  # type: ignore[union-attr]
        for what in ("run", "train_step")
    )
    called = set(re.findall(r"^    (\w+)\(", run_body, re.M))
    assert len(called) > 3
    assert called <= set(re.findall(r"^    (\w+)\(", step_body, re.M))
    weights = (host / f"{report.c_name}_weights.c").read_text()
    arrays = re.findall(r"^alignas\(\d+\) const (.*? = \{.*?\});", weights, re.S | re.M)
    bodies = [a.partition(" = ")[2] for a in arrays if "sample" not in a]
    assert len(bodies) == len(set(bodies))


def test_clang_takes_the_sources(host: Path) -> None:
    command = ["clang", "-std=c11", "-fsyntax-only", *WARNINGS, "-Iruntime/include", "-I."]
    sources = sorted(p.name for p in host.glob("*.c"))
    done = subprocess.run(
        [*command, *sources], cwd=host, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_report_says_what_learning_costs(tmp_path: Path) -> None:
    project = DSCNN.compile(tmp_path, "mps2-an500")
    report = bench(tmp_path)
    assert report.state_bytes is not None
    assert report.train_arena_bytes is not None
    assert report.train_macs is not None
    assert report.train_macs > report.macs
    held = max(report.arena_bytes, report.train_arena_bytes) + report.state_bytes
    assert report.train_ram_bytes is not None
    assert held <= report.train_ram_bytes <= held + 1024
    assert report.train_step_instructions is not None
    assert report.train_step_instructions > (report.instructions_per_inference or 0)
    nodes = profile_step(tmp_path)
    assert [p.node.name for p in nodes] == [n.name for n in report.train_nodes]
    total = sum(p.instructions for p in nodes)
    assert total == pytest.approx(report.train_step_instructions, rel=0.2)
    header = (project.folder / f"{report.c_name}.h").read_text()
    assert f"TRAIN_ARENA_BYTES {report.train_arena_bytes}\n" in header
    assert f"STATE_BYTES {report.state_bytes}\n" in header


def test_too_little_memory_names_the_peak_of_training(tmp_path: Path) -> None:
    with pytest.raises(DoesNotFit) as raised:
        DSCNN.compile(tmp_path, "mps2-an500", ram=12_000)
    training_node = raised.value.node
    assert training_node
    assert "data and stack" in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "text"),
    [(np.zeros(3, np.int32), "3 labels"), (np.full(2, 10), "label 10"), (np.zeros(2), "float64")],
)
def test_wrong_labels_are_refused(labels: Array, text: str, host: Path) -> None:
    samples, _ = DSCNN.samples(2)
    with pytest.raises(BadInput, match=text):
        train_steps(host, samples, labels, 0.1)


def test_a_project_that_does_not_learn_says_so(tmp_path: Path) -> None:
    compile_own("digits_dscnn", tmp_path, "host")
    with pytest.raises(CompileError, match="not a project that learns"):
        open_training(tmp_path)
    assert not isinstance(read_report(tmp_path).state_bytes, int)


def test_training_projects_are_written_the_same_twice(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        DSCNN.compile(tmp_path / name, "host")
        found = sorted(p for e in ("c", "h", "tin") for p in (tmp_path / name).glob(f"*.{e}"))
        assert len(found) >= 6
        texts.append([p.read_text() for p in found])
    assert texts[0] == texts[1]
    assert isinstance(open_training(tmp_path / "a"), TrainingProject)


@pytest.mark.slow
def test_mcunet_learns_within_its_budgets(tmp_path: Path) -> None:
    """The published 49 kB scheme, ten classes, on a Cortex-M7: bit-exact, and what it costs."""
    compile_model(
        shared_models() / "mcu_nets" / "mcunet-5fps_int8.onnx",
        board="mps2-an500",
        out=tmp_path,
        train=paths.GRAPHS / "schemes" / "mcunet-5fps-49kb.toml",
        pictures=False,
    )
    training = open_training(tmp_path)
    rng = np.random.default_rng(0)
    image = training.project.graph.inputs[0].type.shape
    rows = [rng.integers(-128, 128, (4, *image), np.int8)]
    given = np.array([[3], [9], [0], [3]], np.int32)
    rates = np.full(4, 0.01, np.float32)
    result = train_project(training, rows, given, rates)
    start = {v: training.graph.initializers[v] for v in training.graph.state}
    losses, state = oracle(training.graph, rows, given, rates, start)
    assert result.losses.tobytes() == np.concatenate(losses).tobytes()
    for value, array in state.items():
        np.testing.assert_array_equal(result.state[value], array, err_msg=value.name)
    assert sum(not np.array_equal(state[v], start[v]) for v in state) > len(state) / 2
    assert (read_report(tmp_path).train_ram_bytes or 1e9) <= 131_000
    assert (result.instructions_per_step or 1e9) <= 40_000_000
