"""Update schemes: reading them, what they select, and the paper's memory model."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest

from tinsmith import paths, pipeline
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.ir.verify import verify
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import (
    build_backward,
    lower_requantize,
    replace_classifier,
    select_updates,
)
from tinsmith.train.memory_model import paper_memory
from tinsmith.train.scheme import Scheme, SchemeError, layers, parse_scheme, read_scheme, resolve
from tinsmith.train.simulate import Trainer

from .shared import shared_models

FILES = sorted((paths.GRAPHS / "schemes").glob("*.toml"))


@functools.cache
def network(name: str) -> Graph:
    """A published network before its constants are lowered."""
    context = PassContext()
    graph = pipeline.canonical(shared_models() / "mcu_nets" / f"{name}_int8.onnx", context)
    return run_passes(
        graph, [p for p in pipeline.TO_INT8 if p is not lower_requantize.PASS], context
    )


def selected(graph: Graph, scheme: Scheme) -> tuple[Graph, PassContext]:
    context = PassContext(options={"scheme": scheme})
    passes = (replace_classifier.PASS, lower_requantize.PASS, select_updates.PASS)
    return run_passes(graph, passes, context), context


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_published_scheme_builds_and_has_its_published_size(path) -> None:
    name, _, label = path.stem.rpartition("-")
    graph, context = selected(network(name), read_scheme(path))
    published = json.loads((shared_models() / "mcu_nets" / "schemes.json").read_text())
    (entry,) = [s for s in published["schemes"] if (s["model"], s["label"]) == (name, label)]
    memory = paper_memory(graph)
    assert abs(memory.kib - entry["memory"]["total_kib"]) < 0.005
    assert int(memory.kib) == entry["memory"]["floor_kib"]
    assert memory.residual == memory.weights

    training = run_passes(graph, (build_backward.PASS,), context)
    verify(training)
    assert paper_memory(training) == memory
    trained = {
        layers(graph).index(n): len(n.attrs.update_channels or n.attrs.trained_channels)
        for n in layers(graph)[:-1]
        if n.op.name == "conv2d_trainable" and n.inputs[2].type.elements
    }
    for index in list(trained):
        node = layers(graph)[index]
        if node.attrs.groups > 1 and not node.attrs.update_channels:
            trained[index] = node.x.shape[3]
    assert trained == {int(k): n for k, n in entry["updated_input_channels"].items() if n}


def test_there_are_fifteen() -> None:
    assert len(FILES) == 15


def test_selecting_changes_no_result() -> None:
    """The trainable form computes what the layers computed before."""
    from tinsmith.ir.interpret import run

    scheme = parse_scheme("[[update]]\nindex = 41\nweights = 0.25\nbias = true\n")
    before, _ = selected(network("mcunet-5fps"), Scheme(update=scheme.update))
    lowered = run_passes(network("mcunet-5fps"), (lower_requantize.PASS,), PassContext())
    x = np.random.default_rng(0).integers(-128, 128, before.inputs[0].type.shape, np.int8)
    assert np.array_equal(run(before, [x])[0], run(lowered, [x])[0])


def test_magnitude_picks_the_largest_columns() -> None:
    scheme = parse_scheme("[[update]]\nindex = 39\nweights = 0.25\n")
    graph, _ = selected(network("mcunet-5fps"), scheme)
    plain = run_passes(network("mcunet-5fps"), (lower_requantize.PASS,), PassContext())
    old, new = layers(plain)[39], layers(graph)[39]
    w = plain.initializers[old.inputs[1]].astype(np.float64)
    size = np.abs(w * np.array(old.inputs[1].type.quant.scale)[:, None, None, None]).sum((0, 1, 2))
    chosen = list(new.attrs.trained_channels)
    assert chosen == sorted(chosen)
    assert len(chosen) == 24
    assert size[chosen].min() >= np.delete(size, chosen).max()


def test_later_entries_win_and_left_out_keys_stay() -> None:
    text = """
    rule = "residual4"
    [[update]]
    last = 3
    bias = true
    weights = 0.5
    [[update]]
    node = "conv41*"
    weights = 0.0
    """
    chosen = resolve(parse_scheme(text), network("mcunet-5fps"))
    nodes = layers(network("mcunet-5fps"))
    assert [chosen[n.name].weights for n in nodes[-4:]] == [0.5, 0.5, 0.0, 1.0]
    assert all(chosen[n.name].bias for n in nodes[-4:])
    assert not chosen[nodes[38].name].trains


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes = 1", "classes = 1"),
        ("clases = 3", "clases"),
        ('rule = "truncate"', "truncate"),
        ('loss = "mse"\nclasses = 3', "replaces a classifier"),
        ("[[update]]\nbias = true", "names its layers by nothing"),
        ("[[update]]\nindex = 1\nlast = 2", "index and last"),
        ("[[update]]\nindex = 1\nweights = 1.5", "weights = 1.5"),
        ("[[update]]\nindex = 1\nchannels = [1, 1]", "twice"),
        ("[[update]]\nindex = -1", "index = -1"),
        ("[[update]]\nlast = 0", "last = 0"),
        ('[[update]]\nindex = "x"', "int"),
        ("[[update", "update.toml"),
    ],
)  # fmt: skip
def test_bad_files_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(SchemeError) as error:
        parse_scheme(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[update]]\nindex = 43", "no layer 43"),
        ("[[update]]\nlast = 43", "there are 42 layers"),
        ('[[update]]\nnode = "conv24_b8_pw"\nbias = true', "conv24_b8_pw1"),
        ("[[update]]\nindex = 41\nchannels = [576]", "channel 576"),
        ('[[update]]\nindex = 41\nweights = 0.5\nselect = "contribution"', "needs data"),
    ],
)
def test_schemes_that_do_not_fit_the_model(text: str, message: str) -> None:
    with pytest.raises(SchemeError) as error:
        selected(network("mcunet-5fps"), parse_scheme(text))
    assert message in str(error.value)


def test_an_unreadable_file_is_an_error(tmp_path) -> None:
    with pytest.raises(SchemeError, match="cannot read"):
        read_scheme(tmp_path / "absent.toml")


def test_dead_channels_never_move() -> None:
    """Three steps of a published network: what is frozen keeps its bytes, the rest learns."""
    scheme = read_scheme(paths.GRAPHS / "schemes" / "mcunet-5fps-148kb.toml")
    graph, context = selected(network("mcunet-5fps"), scheme)
    graph = run_passes(graph, (build_backward.PASS,), context)
    assert any("conv33_b11_pw1" in n and "7 of 384" in n for n in context.notes)
    trainer = Trainer(graph)
    rng = np.random.default_rng(0)
    image = rng.integers(-128, 128, graph.inputs[0].type.shape, np.int8)
    encoded = trainer.encode([image])
    for label in (1, 2, 3):
        trainer.step(encoded, label, 2e-3)
    frozen = moved = 0
    for node in graph.nodes:
        if node.op.name not in ("weight_update", "bias_update"):
            continue
        weights = node.op.name == "weight_update"
        coefficient = graph.initializers[node.inputs[4 if weights else 3]]
        old = node.inputs[5] if weights else _state_of(graph, node)
        same = np.array_equal(
            trainer.state[old][coefficient == 0], graph.initializers[old][coefficient == 0]
        )
        assert same
        frozen += int((coefficient == 0).sum())
        moved += int(np.count_nonzero(trainer.state[old] != graph.initializers[old]))
    assert frozen >= 7 + 14
    assert moved > 1000


def _state_of(graph: Graph, node: Node) -> Value:
    """The bias state that a bias_update ends."""
    return next(old for old, new in graph.updates if new == node.outputs[0])
