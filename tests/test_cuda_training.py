"""The rules for the GPU of a training step, their CUDA source run on the CPU: bit-exact, float32
included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run_step
from tinsmith.train.simulate import Trainer

pytest.importorskip("tvm", reason="the rules need TVM: pip install 'tinsmith[tvm]'")

from tinsmith.tvm_backend.cuda.device_code import device_code
from tinsmith.tvm_backend.cuda.rule import buffer_names, rule_for, state_names

from .cuda_emulation import Emulator, emulated, make_driver
from .training_case import TrainingCase
from .training_cases import training_cases
from .training_nets import branched_net, dense_net, everything, mobile_net, samples, some
from .training_nets import training_graph as training_graph_of

OPERATORS = {
    "average_pool_gradient",
    "bias_update",
    "clip_mask",
    "conv2d_input_gradient",
    "conv2d_trainable",
    "gather_channels",
    "lookup_gradient",
    "mask_gradient",
    "max_pool_gradient",
    "mse_loss",
    "mul_gradient",
    "quantize_gradient",
    "reduce_gradient",
    "scale_gradient",
    "softmax_cross_entropy",
    "spread_gradient",
    "sum_gradients",
    "weight_update",
}
SEEDS = range(4)


def _cases() -> list[TrainingCase]:
    """Those with a rule: int8 gradients, and the rules whose weights do not wait for each other."""
    cases = training_cases()
    return [c for c in cases if rule_for(c.graph.nodes[0], c.graph) is not None]


def _known(case: TrainingCase, seed: int) -> tuple[dict[Value, Array], dict[Value, Array]]:
    """(what a step is given, what it makes), by value; the new content of a state by the state."""
    inputs, state = case.inputs(seed), case.state(seed)
    if case.graph.nodes[0].op.name in ("quantize_gradient", "scale_gradient") and seed == 1:
        inputs[0].flat[-1] = np.inf
    outputs, after = run_step(case.graph, inputs, state)
    given = dict(zip(case.graph.inputs, inputs, strict=True)) | state
    return given, dict(zip(case.graph.outputs, outputs, strict=True)) | after


class Steps:
    """The kernels of many cases in one emulated driver."""

    def __init__(self, cases: Sequence[TrainingCase], folder: Path) -> None:
        self.cases = cases
        functions = {}
        for i, case in enumerate(cases):
            rule = rule_for(case.graph.nodes[0], case.graph)
            assert rule is not None
            functions[f"f{i}"] = rule.build(case.graph.nodes[0], case.graph)
        self.code = device_code(functions, "sm_80")
        self.folder = make_driver(self.code.source, folder)
        self.emulator = Emulator(self.folder)

    def run(self, index: int, given: Mapping[Value, Array], order: str) -> dict[str, Array]:
        """The buffers of a case's node afterwards, by name."""
        graph, node = self.cases[index].graph, self.cases[index].graph.nodes[0]
        rule = rule_for(node, graph)
        assert rule is not None
        buffers = {n: c.array.ravel() for n, c in rule.constants(node, graph).items()}
        for name, value in (*buffer_names(node, graph), *state_names(node, graph)):
            rubbish = np.full(value.type.elements, 77, value.type.dtype.numpy)
            buffers[name] = rubbish if name[0] == "y" else given[value].ravel().copy()
        with emulated(self.folder, order=order):
            for launch in self.code.launches[f"f{index}"]:
                self.emulator.launch(launch, buffers)
        return buffers


def _written(graph: Graph) -> list[tuple[str, Value]]:
    node = graph.nodes[0]
    results = [(name, value) for name, value in buffer_names(node, graph) if name[0] == "y"]
    return results + state_names(node, graph)


def test_every_operator_is_bit_exact(tmp_path: Path) -> None:
    """Results, and what becomes of state, whichever way threads take turns."""
    cases = _cases()
    assert {c.graph.nodes[0].op.name for c in cases} >= OPERATORS
    steps = Steps(cases, tmp_path / "driver")
    for i, case in enumerate(cases):
        for seed in SEEDS:
            given, wanted = _known(case, seed)
            for order in ("forward", "backward"):
                made = steps.run(i, given, order)
                for name, value in _written(case.graph):
                    label = f"{case.name}, {name}, seed {seed}, {order}"
                    want = wanted[value].ravel()
                    assert made[name].tobytes() == want.tobytes(), label


class Network:
    """The kernels of a training graph, launched in order; state lies in memory and is changed
    there."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph, functions = graph, {}
        for i, node in enumerate(graph.nodes):
            rule = rule_for(node, graph)
            assert rule is not None or node.op.is_view, f"no rule for {node.op.name} {node.name}"
            if rule is not None:
                functions[f"f{i}"] = rule.build(node, graph)
        self.code = device_code(functions, "sm_80")
        self.emulator = Emulator(make_driver(self.code.source, folder))
        self.state = {v: graph.initializers[v].ravel().copy() for v in graph.state}

    def step(self, inputs: Sequence[Array]) -> list[Array]:
        """The graph's outputs; what is not state yet holds rubbish before it is computed."""
        graph = self.graph
        memory = {v: a.ravel() for v, a in graph.initializers.items()}
        memory |= {v: np.ravel(a) for v, a in zip(graph.inputs, inputs, strict=True)}
        memory |= {v: self.state[old] for v, old in graph.storage.items()}
        for i, node in enumerate(graph.nodes):
            for value in graph.results(node):
                rubbish = np.full(value.type.elements, 77, value.type.dtype.numpy)
                memory[value] = memory[node.inputs[0]] if node.op.is_view else rubbish
            if node.op.is_view:
                continue
            rule = rule_for(node, graph)
            assert rule is not None
            buffers = {n: c.array.ravel() for n, c in rule.constants(node, graph).items()}
            named = (*buffer_names(node, graph), *state_names(node, graph))
            buffers |= {name: memory[value] for name, value in named}
            for launch in self.code.launches[f"f{i}"]:
                self.emulator.launch(launch, buffers)
        return [memory[v] for v in graph.outputs]


NETWORKS = {
    "mobile": (mobile_net, everything()),
    "in part": (mobile_net, some()),
    "branched": (branched_net, everything()),
    "squared error": (dense_net, everything("mse")),
    "nearest": (mobile_net, everything(rule="nearest")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_the_simulator_s(name: str, tmp_path: Path) -> None:
    """Loss, outputs and every state over some steps of whole networks."""
    net, scheme = NETWORKS[name]
    graph = training_graph_of(net(), scheme)
    network, trainer = Network(graph, tmp_path / "driver"), Trainer(graph)
    targets = samples(graph, 3)
    with emulated(tmp_path / "driver"):
        for i, sample in enumerate(samples(graph, 3)):
            label = targets[i][0] if scheme.loss == "mse" else np.array([i], np.int32)
            rate = np.array([1e-3 * (i + 1)], np.float32)
            *outputs, loss = network.step([*sample, label, rate])
            encoded = trainer.encode(sample)
            for made, want in zip(outputs, trainer.outputs(encoded), strict=True):
                assert np.array_equal(made, want.ravel())
            wanted = trainer.step(encoded, label if scheme.loss == "mse" else i, float(rate[0]))
            assert loss[0] == wanted
            for value, array in trainer.state.items():
                assert network.state[value].tobytes() == array.tobytes(), value.name
