"""The IR: text form, verifier, rewriter. Every structural rule is broken once, hence the length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinsmith.errors import InternalError
from tinsmith.ir.builder import GraphBuilder
from tinsmith.ir.dtypes import DType, Quant, TensorType, float32, int8
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Absent, NoAttrs
from tinsmith.ir.parser import ParseError, parse
from tinsmith.ir.printer import print_graph
from tinsmith.ir.rewrite import Rewriter, live_nodes, rewrite_nodes
from tinsmith.ir.verify import verify
from tinsmith.ops import get, registry


def small() -> Graph:
    """x → conv2d → relu → y, with everything the text form knows."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("a net")
    x = b.input("x", float32(1, 2, 4, 4))
    w = b.constant("weights/0:1", rng.normal(size=(3, 2, 3, 3)).astype(np.float32))
    bias = b.constant("b", np.array([0.1, -2.5e-30, 3e20], np.float32))
    attrs = get("conv2d").attrs(pads=(1, 1, 0, 0), clamp=(0.0, float("inf")))
    y = b.add(get("conv2d"), [x, w, bias], attrs, name='conv "quoted"')
    return b.build([b.add(get("relu"), [y], name="y")])


def quantized() -> Graph:
    """The value types of an int8 graph: per tensor, per channel, int32."""
    b = GraphBuilder("q")
    x = b.input("x", int8((1, 4), 0.1, -3))
    channels = Quant((0.5, 0.25, 1e-7), (0, 0, 0), 0)
    w = b.constant("w", np.arange(12, dtype=np.int8).reshape(3, 4), channels)
    bias_quant = Quant((0.05, 0.025, 1e-8), (0, 0, 0), 0)
    bias = b.constant("b", np.array([1, -(2**31), 2**31 - 1], np.int32), bias_quant)
    made = [b.add(get("dequantize"), [v]) for v in (x, w, bias)]
    y = b.add(get("dense"), made)
    attrs = get("quantize").attrs((0.2,), (7,))
    graph = b.build([b.add(get("quantize"), [y], attrs)])
    return replace(graph, input_layouts=((1, 0),), output_layouts=(None,))


@pytest.mark.parametrize("make", [small, quantized])
def test_print_and_parse_are_inverse(make: Callable[[], Graph]) -> None:
    graph = make()
    text = print_graph(graph)
    again = parse(text, registry())
    assert again == replace(graph, output_layouts=())
    assert print_graph(again) == text


def test_every_case_of_every_operator_prints_and_parses() -> None:
    count = 0
    for op in registry().values():
        for case in op.cases if isinstance(op.cases, tuple) else ():
            b = GraphBuilder(f"{op.name}_{case.name}")
            integer = isinstance(op.onnx_export, Absent)  # has an int8 form only
            types = [int8(s, 0.1, 0) if integer else float32(*s) for s in case.inputs]
            values = [b.input(f"x{i}", t) for i, t in enumerate(types)]
            for i, param in enumerate(case.params):
                array = np.ones(param, np.float32) if isinstance(param, tuple) else param
                values.append(b.constant(f"p{i}", array))
            attrs = op.attrs() if isinstance(case.attrs, NoAttrs) else case.attrs
            graph = b.build(b.add_all(op, values, attrs))
            assert parse(print_graph(graph), registry()) == graph
            count += 1
    assert count > 100


def test_elided_text_cannot_be_parsed() -> None:
    text = print_graph(small(), elide_constants=True)
    assert "..." in text
    assert len(text) < len(print_graph(small()))
    with pytest.raises(ParseError):
        parse(text, registry())


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
FLOATS = st.floats(width=32, allow_nan=False)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(NAMES, st.lists(FLOATS, min_size=1, max_size=30), st.tuples(FLOATS, FLOATS))
def test_any_name_and_any_float_survive(name: str, values: list[float], clamp: tuple) -> None:
    b = GraphBuilder(name)
    x = b.input(f"x{name}", float32(len(values)))
    k = b.constant(f"k{name}", np.array(values, np.float32))
    y = b.add(get("add"), [x, k], get("add").attrs(clamp=clamp), name=f"y{name}")
    graph = b.build([y])
    assert parse(print_graph(graph), registry()) == graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text has no `graph` line"),
        ("graph g stage=LATER", "line 1: 'LATER'"),
        ("graph g stage=FLOAT\ninput %x : float33[1]", "line 2: 'float33' is not a valid DType"),
        ("graph g stage=FLOAT\ninput x : float32[1]", "line 2: expected '%', found 'x'"),
        (
            "graph g stage=FLOAT\ninput %x : float32[1]\ninput %x : float32[1]",
            "line 3: %x is defined twice",
        ),
        ("graph g stage=FLOAT\n%y : float32[1] = relu(%x)", "line 2: 'x'"),
        (
            "graph g stage=FLOAT\ninput %x : float32[1]\n%y : float32[1] = frob(%x)",
            "line 3: 'frob'",
        ),
        (
            "graph g stage=FLOAT\ninput %x : float32[1]\n%y : float32[1] = relu(%x) {a=1}",
            "line 3: relu has no attribute a",
        ),
        (
            "graph g stage=FLOAT\ninput %x : float32[1] extra",
            "line 2: unexpected 'extra'",
        ),
        (
            "graph g stage=FLOAT\nconst %x : float32[3] = [1.0, 2.0]",
            "line 2: cannot reshape array of size 2 into shape (3,)",
        ),
        ("graph g stage=FLOAT\ninput %x : float32[1", "line 2: expected ',', found ''"),
        ("graph g stage=FLOAT\ninput %x : float32[1] ;", "line 2: cannot read ' ;'"),
    ],
)
def test_parse_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text, registry())
    assert caught.value.message == message


def broken(graph: Graph) -> str:
    with pytest.raises(InternalError) as caught:
        verify(graph, "here")
    assert caught.value.where == "here"
    return caught.value.message


def test_a_sound_graph_verifies() -> None:
    verify(small())
    verify(quantized())


def test_a_name_defined_twice_is_found() -> None:
    graph = small()
    twin = replace(graph.nodes[1], outputs=(Value("x", graph.nodes[1].y),))
    bad = replace(graph, nodes=(graph.nodes[0], twin), outputs=twin.outputs)
    assert "%x is defined twice" in broken(bad)


def test_a_value_read_before_it_is_defined_is_found() -> None:
    graph = small()
    bad = replace(graph, nodes=tuple(reversed(graph.nodes)))
    assert 'reads %conv "quoted" : float32[1,3,3,3] before it is defined' in broken(bad)


def test_an_output_never_defined_is_found() -> None:
    graph = replace(small(), outputs=(Value("z", float32(1)),))
    assert "output %z : float32[1] is never defined" in broken(graph)


def test_attributes_of_another_operator_are_found() -> None:
    graph = small()
    wrong = replace(graph.nodes[1], attrs=get("clip").attrs())
    bad = replace(graph, nodes=(graph.nodes[0], wrong))
    assert "has ClipAttrs, not NoAttrs" in broken(bad)


def test_a_type_that_does_not_follow_is_found() -> None:
    graph = small()
    wrong = replace(graph.nodes[1], outputs=(Value("y", float32(1, 3, 9, 9)),))
    bad = replace(graph, nodes=(graph.nodes[0], wrong), outputs=wrong.outputs)
    text = broken(bad)
    assert "%y is float32[1,3,9,9], its type rule gives float32[1,3,3,3]" in text


def test_inputs_the_type_rule_refuses_are_found() -> None:
    graph = small()
    head = graph.nodes[0]
    wrong = replace(head, inputs=(head.inputs[0], head.inputs[1], head.inputs[1]))
    bad = replace(graph, nodes=(wrong, graph.nodes[1]))
    assert "expected a bias of 3 elements" in broken(bad)


def test_a_missing_output_is_found() -> None:
    b = GraphBuilder("split")
    x = b.input("x", float32(4))
    parts = b.add_all(get("split"), [x], get("split").attrs(0, (1, 3)))
    graph = b.build(parts)
    short = replace(graph.nodes[0], outputs=parts[:1])
    bad = replace(graph, nodes=(short,), outputs=parts[:1])
    assert "has 1 outputs, its type rule gives 2" in broken(bad)


@pytest.mark.parametrize(
    "array", [np.ones((3,), np.float64), np.ones((3,), np.int8), np.ones((4,), np.float32)]
)
def test_an_initializer_of_another_type_is_found(array: np.ndarray) -> None:
    graph = small()
    bias = graph.nodes[0].inputs[2]
    bad = replace(graph, initializers={**graph.initializers, bias: array})
    assert "initializer %b : float32[3] holds" in broken(bad)


def test_scales_that_do_not_match_the_axis_are_found() -> None:
    graph = quantized()
    old = next(v for v in graph.initializers if v.name == "w")
    new = Value("w", replace(old.type, quant=Quant((0.5, 0.25), (0, 0), 0)))
    nodes = tuple(
        replace(n, inputs=tuple(new if v == old else v for v in n.inputs)) for n in graph.nodes
    )
    arrays = {new if v == old else v: a for v, a in graph.initializers.items()}
    assert "initializer %w has 2 scales along axis 0" in broken(
        replace(graph, nodes=nodes, initializers=arrays)
    )


def test_quantized_stage_wants_scales() -> None:
    b = GraphBuilder("no scale")
    x = b.input("x", TensorType((1, 4), DType.INT8))
    y = b.add(get("reshape"), [x], get("reshape").attrs((4,)))
    assert "%x is int8 without a scale" in broken(b.build([y], Stage.QUANTIZED))


def test_quantized_stage_has_no_quantize_left() -> None:
    text = broken(replace(quantized(), stage=Stage.QUANTIZED))
    assert "is left over from the float graph" in text


def test_quantized_stage_has_no_node_without_integer_meaning() -> None:
    b = GraphBuilder("batch_norm")
    x = b.input("x", int8((1, 2, 2, 3), 0.1, 0))
    ones = [b.constant(f"c{i}", np.ones(3, np.float32)) for i in range(4)]
    y = b.add(get("batch_norm"), [x, *ones], get("batch_norm").attrs(layout="NHWC"))
    assert "has no integer meaning" in broken(b.build([y], Stage.QUANTIZED))


def test_quantized_stage_is_nhwc() -> None:
    assert "is still NCHW" in broken(replace(small(), stage=Stage.QUANTIZED))


def test_duplicate_quantisation_parameters_must_pair() -> None:
    with pytest.raises(ValueError, match="do not pair up"):
        Quant((0.5, 0.25), (0,), 0)
    with pytest.raises(ValueError, match="do not pair up"):
        Quant((0.5, 0.25), (0, 0))


def test_the_rewriter_types_what_follows_again() -> None:
    graph = small()
    rewriter = Rewriter(graph, "widen")
    wide = Value("wide", float32(1, 2, 6, 6))
    rewriter.rename(graph.inputs[0], wide)
    for node in graph.nodes:
        rewriter.keep(node)
    changed = rewriter.finish(inputs=(wide,))
    verify(changed)
    assert changed.outputs[0].type.shape == (1, 3, 5, 5)
    assert graph.outputs[0].type.shape == (1, 3, 3, 3)


def test_rewriting_leaves_the_old_graph_alone_and_signs_the_new_one() -> None:
    graph = small()
    before = print_graph(graph)

    def relu_to_neg(node: Node, rewriter: Rewriter) -> bool:
        if node.op.name != "relu":
            return False
        rewriter.emit(get("neg"), node.inputs, origin=node.origin, outputs=node.outputs)
        return True

    changed = rewrite_nodes(graph, "negate", relu_to_neg)
    assert print_graph(graph) == before
    assert [n.op.name for n in changed.nodes] == ["conv2d", "neg"]
    assert changed.nodes[1].origin == Origin("y", "relu", ("negate",))
    assert changed.nodes[0] is graph.nodes[0]
    x = np.ones((1, 2, 4, 4), np.float32)
    np.testing.assert_array_equal(run(changed, [x])[0], -run(graph, [x])[0])


def test_live_nodes_and_consumers() -> None:
    graph = small()
    conv, relu = graph.nodes
    assert live_nodes(graph, [conv.outputs[0]]) == (conv,)
    assert graph.sole_consumer(conv.outputs[0]) is relu
    assert graph.sole_consumer(relu.outputs[0]) is None
    assert graph.activations(conv) == graph.inputs
    watched = replace(graph, outputs=(conv.outputs[0],))
    assert watched.sole_consumer(conv.outputs[0]) is None


def test_the_interpreter_refuses_other_inputs() -> None:
    with pytest.raises(InternalError, match=r"input x is float64"):
        run(small(), [np.zeros((1, 2, 4, 4))])
