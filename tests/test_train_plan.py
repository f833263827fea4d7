"""Scheme search: costs, fine-tunes, executors, the command. The search: test_train_plan_search.

Long: every step of one command, and every refusal.
"""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tinsmith import cli, paths
from tinsmith.codegen.training import inference_graph
from tinsmith.errors import BadInput, CompileError, DoesNotFit
from tinsmith.ir.printer import print_graph
from tinsmith.machine.board import load_board
from tinsmith.pipeline import compile_model
from tinsmith.train.labelled import Labelled, read_classes
from tinsmith.train.scheme import Scheme, Update, parse_scheme, read_scheme
from tinsmith.train.simulate import Trainer, fit
from tinsmith.train_plan import plan as planning
from tinsmith.train_plan.candidates import Candidate, trainable_layers
from tinsmith.train_plan.contribution import Measured, affordable
from tinsmith.train_plan.costs import Budget, Planner, budget_of
from tinsmith.train_plan.executor import ResultFile, run_jobs, workers
from tinsmith.train_plan.fine_tune import Bench, Job, encoder, run_job, training_graph
from tinsmith.train_plan.plan import Settings, plan_training
from tinsmith.train_plan.report import scheme_text
from tinsmith.train_plan.samples import Split, split

SOURCE = paths.GRAPHS / "digits_dscnn"
MODEL, CALIBRATION, DATA = (
    SOURCE / name for name in ("model.onnx", "calibration.npz", "samples.npz")
)
BOARD = "mps2-an500"


@functools.cache
def quantized():
    return planning.quantized_graph(MODEL, CALIBRATION, None)


@functools.cache
def bench() -> Bench:
    graph = inference_graph(training_graph(quantized(), Scheme()))
    data = read_classes(DATA, graph, 10)
    return Bench(print_graph(quantized()), split(data, None, 24, 20, 0))


def some_jobs() -> dict[str, Job]:
    schemes = [Candidate(n).scheme(Scheme()) for n in (0, 2)]
    jobs = [*(Job(s, 1, 0.004) for s in schemes), Job(None, 0, 0.0), Job(Scheme(), 0, 0.0)]
    return {bench().key(j): j for j in jobs}


# --- candidates and costs -----------------------------------------------------------------------


def test_layers_from_the_last_to_the_first_with_distinct_shares() -> None:
    found = trainable_layers(quantized())
    assert [a.position for a in found] == list(range(1, len(found) + 1))
    assert [a.index for a in found] == sorted((a.index for a in found), reverse=True)
    assert found[-1].fractions == (1.0,)  # one input channel
    assert all(len(set(a.fractions)) == len(a.fractions) for a in found)


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme(),
        Scheme(classes=7, rule="stochastic", update=(Update(last=3, bias=True),)),
        Scheme(loss="mse", update=(Update(node='a "b"*', weights=0.5, select="first"),)),
        Scheme(update=(Update(index=4, channels=(1, 5)), Update(index=4, bias=False))),
    ],
)
def test_a_scheme_s_text_reads_back(scheme: Scheme) -> None:
    assert parse_scheme(scheme_text(scheme, "two\nlines")) == scheme


def test_costs_are_the_compiler_s(tmp_path: Path) -> None:
    scheme = Candidate(3, ((5, 0.5),)).scheme(Scheme(classes=4))
    cost = Planner(quantized(), load_board(BOARD), Budget(64_000)).cost(scheme)
    project = compile_model(
        MODEL, board=BOARD, out=tmp_path, calibrate=CALIBRATION, train=scheme, pictures=False
    )
    report = project.report
    assert cost.arena_bytes == max(report.arena_bytes, report.train_arena_bytes or 0)
    assert cost.arena_bytes + cost.state_bytes <= (report.train_ram_bytes or 0)
    assert (report.train_ram_bytes or 0) < cost.ram_bytes + 4096
    assert cost.instructions > 10_000


def test_a_question_to_the_planner_is_answered_as_the_whole_plan_would() -> None:
    board = load_board(BOARD)
    for biases in (1, 4):
        scheme = Candidate(biases).scheme(Scheme())
        ram = Planner(quantized(), board, Budget(1 << 20)).cost(scheme).ram_bytes
        asked = Planner(quantized(), board, Budget(ram))
        least = asked.least_bytes(scheme)
        assert least <= ram
        assert asked.admits(scheme)
        assert not asked.admits(scheme, Budget(least - 1))
        assert asked.admits(scheme, Budget(1 << 20))
        assert not asked.admits(scheme, Budget(1 << 20, instructions=1))


def test_a_larger_scheme_costs_more_state_and_a_small_budget_stops_it() -> None:
    board = load_board(BOARD)
    planner = Planner(quantized(), board, Budget(1 << 20))
    small, large = (planner.cost(Candidate(n).scheme(Scheme())) for n in (1, 4))
    assert large.state_bytes == planner.state_bytes(Candidate(4).scheme(Scheme()))
    assert large.state_bytes > small.state_bytes
    assert large.instructions > small.instructions
    narrow = Planner(quantized(), board, Budget(small.ram_bytes + 40))
    parts = affordable(narrow, Scheme())
    assert parts.depths == (1,)
    for part in parts.candidates():
        # What does not fit alone may be listed when only its arena is too large.
        assert narrow.state_bytes(part.scheme(Scheme())) <= large.state_bytes
    quick = replace(planner.budget, instructions=small.instructions)
    assert quick.admits(small)
    assert not quick.admits(large)


def test_a_time_budget_needs_a_clock() -> None:
    assert budget_of(load_board(BOARD), 1000, 0.5).instructions == 12_500_000
    with pytest.raises(CompileError, match="has no clock"):
        budget_of(load_board("host"), 1000, 0.5)


# --- jobs and executors -------------------------------------------------------------------------


def test_a_job_is_a_plain_fine_tune() -> None:
    half = bench().split
    scheme = Candidate(2).scheme(Scheme())
    trainer = Trainer(training_graph(quantized(), scheme))
    encoded = [
        [trainer.encode(d.sample(i)) for i in range(len(d))] for d in (half.train, half.held)
    ]
    history = fit(trainer, encoded[0], half.train.labels, epochs=2, rate=0.004, seed=5)
    right = trainer.predict(encoded[1]) == half.held.labels
    result = run_job(bench(), Job(scheme, 2, 0.004, 5))
    assert result["accuracy"] == right.mean()
    assert bytes.fromhex(result["correct"]) == np.packbits(right).tobytes()
    assert result["loss"] == np.mean(history.losses[-24:])
    assert result == run_job(bench(), Job(scheme, 2, 0.004, 5))


def test_samples_are_encoded_on_from_an_earlier_layer() -> None:
    data = bench().split.held
    early, late = (
        Trainer(training_graph(quantized(), Candidate(0, ((i, 1.0),)).scheme(Scheme())))
        for i in (1, 5)
    )
    known = [v.name for v in early.between]
    further = encoder(late, known)
    assert further is not None
    for i in range(4):
        whole = late.encode(data.sample(i))
        for a, b in zip(further(early.encode(data.sample(i))), whole, strict=True):
            np.testing.assert_array_equal(a, b)
    assert encoder(early, [v.name for v in late.between]) is None


def test_nearest_class_mean_and_no_training_at_all() -> None:
    means, untrained = (run_job(bench(), j) for j in (Job(None, 0, 0.0), Job(Scheme(), 0, 0.0)))
    assert means["accuracy"] > 0.5
    assert untrained["accuracy"] > 0.9  # the model is a good one
    assert untrained["loss"] is None


def test_keys_tell_jobs_samples_and_models_apart() -> None:
    job = Job(Scheme(), 1, 0.1)
    less = Bench(bench().text, Split(bench().split.train, bench().split.held.pick(np.arange(9))))
    keys = {bench().key(job), bench().key(Job(Scheme(), 1, 0.2)), less.key(job)}
    assert len(keys) == 3
    assert bench().key(job) == Bench(bench().text, bench().split).key(Job(Scheme(), 1, 0.1))


def double(shared: int, job: int) -> int:
    if job == 13:
        raise CompileError("thirteen")
    if job == 14:
        raise ValueError("fourteen")
    return shared + 2 * job


def test_local_processes_and_going_on_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with workers(100, processes=1) as submit:
        with pytest.raises(CompileError, match="thirteen"):
            run_jobs({"a": 1, "b": 13, "c": 3}, double, submit, ResultFile(path))
        with pytest.raises(CompileError, match="ValueError: fourteen"):
            run_jobs({"d": 14}, double, submit, ResultFile(path))
        kept = ResultFile(path)
        assert kept.done["a"] == 102
        told: list[tuple[int, int]] = []
        jobs = {"a": 99, "c": 3}  # "a" is there already: its job is not run
        found = run_jobs(jobs, double, submit, kept, lambda d, n: told.append((d, n)))
    assert found == {"a": 102, "c": 106}
    assert [n for _, n in told] == [2] * len(told)


def test_a_torn_line_is_skipped_and_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"key": "a", "result": 1}\n{"key": "b", "res')
    results = ResultFile(path)
    assert results.done == {"a": 1}
    results.add("c", 3)
    assert ResultFile(path).done == {"a": 1, "c": 3}


def test_a_dask_cluster_gives_the_same_bits(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the dask extra")
    jobs = some_jobs()
    here = {key: dict(run_job(bench(), job)) for key, job in jobs.items()}
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None
    )
    with cluster, workers(bench(), dask=cluster.scheduler_address) as submit:
        there = run_jobs(jobs, run_job, submit, ResultFile(tmp_path / "r.jsonl"))
    assert there == here
    assert ResultFile(tmp_path / "r.jsonl").done == here


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs the dask extra")
    monkeypatch.setattr("tinsmith.train_plan.executor._CONNECT_S", "1s")
    with (
        pytest.raises(CompileError, match="no Dask scheduler answers at tcp"),
        workers(None, dask="tcp://127.0.0.1:9"),
    ):
        pass


# --- samples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has no labels"),
        ({"label": np.arange(3)}, "int64\\[3\\]"),
        ({"label": np.full(5, 0.5)}, "label 0.5 of sample 0 is not a class"),
        ({"label": np.array([0, 1, 2, 3, 10])}, "label 10 of sample 4 is not a class"),
        ({"y": np.array([0, 1, -2, 3, 9])}, "label -2 of sample 2 is not a class"),
    ],
)
def test_bad_labels(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((5, 1, 16, 16), np.float32), **arrays)
    graph = inference_graph(training_graph(quantized(), Scheme()))
    with pytest.raises(BadInput, match=message):
        read_classes(tmp_path / "d.npz", graph, 10)


def test_what_trains_does_not_judge() -> None:
    data = Labelled([np.arange(30)[:, None]], np.arange(30)[:, None])
    found = split(data, None, 100, 8, 1)
    assert len(found.held) == 8
    assert len(found.train) == 22
    assert not set(found.held.labels) & set(found.train.labels)
    other = split(data.pick(np.arange(10)), data.pick(np.arange(10, 30)), 4, 100, 1)
    assert (len(other.train), len(other.held)) == (4, 20)
    with pytest.raises(BadInput, match="two of each"):
        split(data.pick(np.arange(3)), None, 100, 8, 1)


def test_gain_and_its_error() -> None:
    a, b = (Measured(0, np.array(bits, float)) for bits in ([1, 1, 1, 0], [0, 1, 1, 0]))
    assert a.gain_over(b) == (0.25, pytest.approx(np.sqrt(3) / 8))


# --- the whole ----------------------------------------------------------------------------------


def call(*argv: object, exit_code: int = 0):
    result = CliRunner().invoke(cli.app, [str(a) for a in argv])
    assert result.exit_code == exit_code, f"{argv}\n{result.stdout}\n{result.stderr}"
    return result


def command(folder: Path, *options: object) -> list[object]:
    return [
        "train-plan", MODEL, "--board", BOARD, "--calibrate", CALIBRATION, "--data", DATA,
        "--ram", 10_400, "--samples", 12, "--judges", 30, "--epochs", 1, "--rate", 0.004,
        "--classes", 10, "--jobs", 1, "-o", folder, *options,
    ]  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    plan = json.loads(call(*command(tmp_path, "--json")).stdout)
    assert plan["ram_budget_bytes"] == 10_400
    assert plan["best"]["ram_bytes"] <= 10_400
    assert plan["best_sum"]["proved"]
    assert [p["ram_bytes"] for p in plan["front"]] == sorted(p["ram_bytes"] for p in plan["front"])
    assert all(p["ram_bytes"] <= 10_400 and p["gain"] is not None for p in plan["front"])
    names = ["classifier only", "biases only", "last layers", "random half", "full update"]
    assert [b["name"] for b in plan["baselines"]] == [*names, "nearest class mean"]
    assert [b.get("fits") for b in plan["baselines"]][4:] == [False, None]
    best = max(p["gain"] for p in plan["front"])
    assert plan["best"]["gain"] >= best
    assert json.loads((tmp_path / "plan.json").read_text()) == plan
    assert (tmp_path / "front.png").stat().st_size > 5_000

    scheme = read_scheme(tmp_path / "update.toml")
    assert scheme.classes == 10
    board = load_board(BOARD)
    cost = Planner(quantized(), board, Budget(10_400)).cost(scheme)
    assert cost.ram_bytes == plan["best"]["ram_bytes"]

    lines = (tmp_path / "fine_tunes.jsonl").read_text()
    shown = call(*command(tmp_path)).stdout
    assert (tmp_path / "fine_tunes.jsonl").read_text() == lines  # nothing was made again
    assert "Pareto front" in shown
    assert "wrote update.toml" in shown


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (("--ram", 6_000), 2, "training the classifier alone takes"),
        (("--time-budget", 0.001), 2, "a step that trains the classifier alone"),
        (("--rule", "truncate"), 2, "unknown rule 'truncate'"),
        (("--classes", 4), 2, "label 8 of sample 0 is not a class"),
        (("--data", "missing.npz"), 2, "missing.npz"),
        (("-o", "/dev/null/here"), 2, "cannot write into /dev/null/here"),
    ],
)
def test_bad_usage(tmp_path: Path, options: tuple, exit_code: int, message: str) -> None:
    result = call(*command(tmp_path / "out", *options), exit_code=exit_code)
    assert message in result.stderr


def test_a_budget_for_the_classifier_only(tmp_path: Path) -> None:
    head = Planner(quantized(), load_board(BOARD), Budget(1 << 20)).cost(Scheme()).ram_bytes
    settings = Settings(epochs=1, rate=0.004, train=8, held=10, processes=1)
    plan = plan_training(
        MODEL, board=BOARD, ram=head, data=DATA, out=tmp_path, calibrate=CALIBRATION,
        settings=settings,
    )  # fmt: skip
    assert plan.best.candidate == Candidate()
    assert [b.name for b in plan.baselines][-1] == "untrained"
    with pytest.raises(DoesNotFit, match="arena"):
        plan_training(
            MODEL, board=BOARD, ram=head - 1, data=DATA, out=tmp_path, calibrate=CALIBRATION,
            settings=settings,
        )  # fmt: skip


def test_results_can_move(tmp_path: Path) -> None:
    """The result file alone is what an interrupted run needs."""
    first, second = tmp_path / "a", tmp_path / "b"
    call(*command(first, "--json"))
    second.mkdir()
    shutil.copy(first / "fine_tunes.jsonl", second)
    cut = (second / "fine_tunes.jsonl").read_text().splitlines()
    (second / "fine_tunes.jsonl").write_text("\n".join(cut[:3]) + "\n")
    call(*command(second, "--json"))
    assert (second / "plan.json").read_bytes() == (first / "plan.json").read_bytes()
