"""`bench MODEL --against …`: what is compared and how, on small models; never how fast."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

from tests.quant_nets import quantize, samples_of, small_cnn
from tests.shared import shared_models
from tinsmith import cli
from tinsmith.commands.against import show, thread_counts
from tinsmith.errors import CompileError, MissingTool
from tinsmith.frontend.onnx_export import export_model
from tinsmith.ir.dtypes import DType, Quant, TensorType
from tinsmith.ir.interpret import run
from tinsmith.peers import compare as comparing
from tinsmith.peers.agreement import agreement
from tinsmith.peers.compare import Comparison, all_threads, compare, peers_named
from tinsmith.peers.contender import Feed, NotComparable, Peer, find_tflite
from tinsmith.peers.interleave import interleave, ratio
from tinsmith.peers.peak import peak_macs_per_second
from tinsmith.peers.plot import draw

FEW = 3  # rounds


@pytest.fixture(scope="module")
def qdq() -> onnx.ModelProto:
    graph = small_cnn()
    return export_model(quantize(graph, samples_of(graph)))


@pytest.fixture(scope="module")
def comparison(qdq: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("against")
    onnx.save(qdq, folder / "small.onnx")
    return compare(
        folder / "small.onnx", board="host", against="all", out=folder / "out", rounds=FEW
    )


def call(*argv: object) -> Result:
    return CliRunner().invoke(cli.app, [str(a) for a in argv])


def test_interleave_calls_everyone_every_round() -> None:
    calls = [0, 0]

    def first() -> None:
        calls[0] += 1

    def second() -> None:
        calls[1] += 1

    seconds = interleave([first, second], rounds=FEW)
    assert seconds.shape == (2, FEW)
    assert (seconds > 0).all()
    assert min(calls) > FEW


def test_ratio_is_paired() -> None:
    """Noise that meets both in a round does not widen the interval."""
    ours = np.array([1.0, 5.0, 2.0, 9.0, 1.0])
    slower = ratio(ours * 3, ours)
    assert (slower.median, slower.low, slower.high) == (3.0, 3.0, 3.0)


def test_ratio_interval_holds_the_median() -> None:
    random = np.random.default_rng(0)
    slower = ratio(random.uniform(1.5, 2.5, 41), np.ones(41))
    assert 1.5 <= slower.low < slower.median < slower.high <= 2.5


def test_agreement_counts_in_steps() -> None:
    type_ = TensorType((1, 3), DType.INT8, Quant((0.5,), (-1,), None))
    ours = [[np.array([[4, -128, 9]], np.int8)]]
    unsigned = [[np.array([[132, 0, 138]], np.uint8)]]
    found = agreement(ours, unsigned, [type_])
    assert (found.largest, found.same_top, found.in_steps) == (1.0, 1.0, True)
    assert found.equal == pytest.approx(2 / 3)
    real = [[np.array([[2.5, -63.5, 5.0]], np.float32)]]
    assert agreement(ours, real, [type_]).largest == 0
    far = [[np.array([[100.0, -63.5, 5.0]], np.float32)]]
    assert agreement(ours, far, [type_]).same_top == 0


def test_feeds_say_the_same_number_three_ways() -> None:
    q = np.array([-128, 0, 127], np.int8)
    feed = Feed(q.astype(np.float32), q, Quant((1.0,), (0,), None))
    assert feed.of_type(np.dtype(np.int8)) is q
    np.testing.assert_array_equal(feed.of_type(np.dtype(np.uint8)), [0, 128, 255])
    with pytest.raises(NotComparable):
        feed.of_type(np.dtype(np.int64))
    with pytest.raises(NotComparable):
        Feed(feed.real).of_type(np.dtype(np.int8))


def test_compare_measures_both_forms_of_onnxruntime(comparison: Comparison) -> None:
    (run,) = comparison.runs
    rows = {row.label: row for row in run.rows}
    assert run.ours.label == "tinsmith"
    assert run.ours.slower is None
    for label in ("onnxruntime", "onnxruntime uint8"):
        row = rows[label]
        assert row.seconds is not None
        assert row.seconds > 0
        assert row.version == onnxruntime.__version__
        assert row.slower is not None
        assert row.slower.low <= row.slower.median <= row.slower.high
        assert row.agreement is not None
        assert row.agreement.in_steps
        assert row.agreement.largest <= 2


def test_compare_says_why_a_peer_is_missing(comparison: Comparison) -> None:
    """No .tflite lies beside the model; whether the package is there or not, the row says so."""
    (row,) = [r for r in comparison.runs[0].rows if r.label == "litert"]
    assert row.seconds is None
    assert ".tflite" in row.note or "tinsmith[peers]" in row.note


def test_a_comparison_is_shown_and_drawn(
    comparison: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(comparison)
    printed = capsys.readouterr().out
    assert "small on host" in printed
    assert "onnxruntime uint8" in printed
    draw(comparison, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_was_named_must_be_installed(
    qdq: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Peer("absent", "no-such-distribution", lambda subject, threads: [])
    monkeypatch.setattr(comparing, "PEERS", (*comparing.PEERS, absent))
    onnx.save(qdq, tmp_path / "m.onnx")
    with pytest.raises(MissingTool, match="absent is not installed") as caught:
        compare(tmp_path / "m.onnx", board="host", against="absent", out=tmp_path / "out")
    assert "tinsmith[peers]" in caught.value.render()
    assert not (tmp_path / "out").exists(), "compiled for nothing"


def test_names_of_peers() -> None:
    peers, named = peers_named("litert, onnxruntime,litert")
    assert ([p.name for p in peers], named) == (["litert", "onnxruntime"], True)
    assert peers_named("all")[1] is False
    for wrong in ("tensorrt", "", ","):
        with pytest.raises(CompileError, match="names no runtime"):
            peers_named(wrong)


def test_thread_counts() -> None:
    assert thread_counts("1") == [1]
    assert thread_counts("1,all, 1") == list(dict.fromkeys([1, all_threads()]))
    for wrong in ("0", "many", str(all_threads() + 1)):
        with pytest.raises(CompileError, match="--threads"):
            thread_counts(wrong)


def test_a_host_project_has_one_thread(qdq: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(qdq, tmp_path / "m.onnx")
    made = compare(
        tmp_path / "m.onnx",
        board="host",
        against="onnxruntime",
        out=tmp_path / "out",
        threads=[2],
        rounds=1,
    )
    assert [(r.label, r.seconds) for r in made.runs[0].rows] == [("tinsmith", None)]
    assert "one thread" in made.runs[0].ours.note


def test_code_for_another_machine_is_refused(qdq: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(qdq, tmp_path / "m.onnx")
    with pytest.raises(CompileError, match="does not run in this process"):
        compare(
            tmp_path / "m.onnx", board="mps2-an500", against="onnxruntime", out=tmp_path / "out"
        )


def test_where_the_tflite_file_is_found(tmp_path: Path) -> None:
    model, beside, other = (tmp_path / n for n in ("m.onnx", "m.tflite", "o.tflite"))
    assert find_tflite(model, None) is None
    beside.touch()
    other.touch()
    assert find_tflite(model, None) == beside
    assert find_tflite(model, other) == other
    with pytest.raises(CompileError, match="--tflite"):
        find_tflite(model, tmp_path / "absent.tflite")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64's instructions")
def test_peak_of_this_machine() -> None:
    assert peak_macs_per_second("sdot", 1) is None
    flags = Path("/proc/cpuinfo").read_text()
    if " avx2 " not in flags:
        pytest.skip("this machine has no AVX2")
    peak = peak_macs_per_second("madd256", 1)
    assert peak is not None
    assert peak > 0


def test_bench_against_prints_json(qdq: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(qdq, tmp_path / "m.onnx")
    result = call(
        "bench", tmp_path / "m.onnx", "--board", "host", "--against", "onnxruntime",
        "--threads", "1", "--rounds", FEW, "--layers", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data == json.loads((tmp_path / "out" / "against.json").read_text())
    assert [r["label"] for r in data["runs"][0]["rows"]] == [
        "tinsmith", "onnxruntime", "onnxruntime uint8",
    ]  # fmt: skip
    assert (tmp_path / "out" / "against.png").is_file()
    first = data["layers"][0]
    assert (first["op"], first["shapes"]) == ("conv2d", "12×12×3 → 12×12×8, 3×3")
    assert first["macs"] == 12 * 12 * 8 * 27
    assert any("depthwise" in layer["shapes"] for layer in data["layers"])
    assert all(layer["peak_share"] is None for layer in data["layers"]), "the host has no peak"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--against", "onnxruntime"], "--against needs a board"),
        (["--against", "onnxruntime", "--board", "host"], "is no file"),
    ],
)
def test_bench_against_asks_for_what_it_needs(
    options: list[str], said: str, tmp_path: Path
) -> None:
    result = call("bench", tmp_path / "absent.onnx", *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_torch_computes_what_the_graph_says(qdq: onnx.ModelProto) -> None:
    """Within one step: torch rounds half to even, too, but sums in another order."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("executorch")
    from tinsmith.peers.contender import load
    from tinsmith.peers.torch_network import torch_network

    load("executorch.exir")
    graph = quantize(small_cnn(), samples_of(small_cnn()))
    x = samples_of(graph, 1, seed=5)[0]
    quantized = next(n for n in graph.nodes if n.op.name == "quantize")
    quant = quantized.attrs
    q = np.clip(np.rint(x[0] / quant.scale[0]) + quant.zero_point[0], -128, 127).astype(np.int8)
    (got,) = torch_network(graph, torch)(torch.from_numpy(q))
    (want,) = run(graph, [x[0]])
    scale = graph.nodes[-1].inputs[0].type.scale
    zero = graph.nodes[-1].inputs[0].type.zero_point
    assert np.abs((got.numpy().astype(int) - zero) * scale - want).max() <= 1.01 * scale


def test_executorch_runs_the_same_integers() -> None:
    pytest.importorskip("executorch")
    from tinsmith.lowering import canonical
    from tinsmith.pass_manager import PassContext
    from tinsmith.peers.executorch import ExecuTorchModule, program

    folder = shared_models() / "mlperf_tiny"
    golden = np.load(folder / "ad_golden.npz")
    graph = canonical(folder / "ad_int8.onnx", PassContext())
    module = ExecuTorchModule(program(graph), 1)
    x = golden["x"][:1]
    module.give([Feed(x.astype(np.float32), x, graph.inputs[0].type.quant)])
    module.run()
    np.testing.assert_array_equal(module.outputs()[0], golden["litert_reference"][:1])


def test_litert_runs_the_file_beside_the_model() -> None:
    pytest.importorskip("ai_edge_litert")
    from tinsmith.peers.litert import LiteRtSession

    folder = shared_models() / "mlperf_tiny"
    golden = np.load(folder / "ad_golden.npz")
    x = golden["x"][:1]
    made = LiteRtSession(folder / "ad_int8.tflite", 1)
    made.give([Feed(x.astype(np.float32), x, Quant((1.0,), (0,), None))])
    made.run()
    np.testing.assert_array_equal(made.outputs()[0], golden["litert_reference"][:1])
