"""Measures a compiled model against other runtimes, all in one process and one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

from ..errors import CompileError
from ..frontend.model_file import load_model
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..pass_manager import PassContext
from ..pipeline import CompiledProject, canonical, compile_model, quantize_model
from ..quant.samples import Samples
from ..runner.project import open_project
from . import executorch, litert, onnx_runtime
from .agreement import Agreement, agreement
from .contender import Contender, NotComparable, Peer, Subject, find_tflite, quiet
from .feeds import random_feeds
from .in_process import LABEL, InProcess, build_library
from .interleave import ROUNDS, CpuLoad, Ratio, interleave, ratio
from .layers import Layer, measure_layers
from .peak import peak_macs_per_second

PEERS: tuple[Peer, ...] = (onnx_runtime.PEER, litert.PEER, executorch.PEER)
ALL = "all"
BUSY = 0.15  # cores that others keep busy, above which figures are doubted
_SAMPLES = 8  # on which outputs are compared


@dataclass(frozen=True)
class Row:
    """One contender. seconds: median of one inference. slower: its time over ours; None of ours.

    note: why it was not measured, with nothing else set.
    """

    label: str
    version: str = ""
    settings: str = ""
    seconds: float | None = None
    slower: Ratio | None = None
    agreement: Agreement | None = None
    note: str = ""


@dataclass(frozen=True)
class ThreadRun:
    """What was measured with so many threads; ours is the first row.

    peak: int8 MACs a second that the target's dot product reaches here; None when it is not known.
    others: cores that other processes kept busy meanwhile.
    """

    threads: int
    rows: tuple[Row, ...]
    peak: float | None
    others: float

    @property
    def ours(self) -> Row:
        return self.rows[0]


@dataclass(frozen=True)
class Comparison:
    """runs: one per number of threads. macs: of one inference. layers: ours, where asked for."""

    model: str
    board: str
    target: str
    dtype: str
    macs: int
    runs: tuple[ThreadRun, ...] = field(default=())
    layers: tuple[Layer, ...] = field(default=())

    def peak_share(self, run: ThreadRun) -> float | None:
        """How much of the machine's int8 peak our whole inference reaches."""
        if run.peak is None or run.ours.seconds is None or self.dtype != "int8":
            return None
        return self.macs / run.ours.seconds / run.peak


def peers_named(names: str) -> tuple[tuple[Peer, ...], bool]:
    """The peers of a comma-separated list, and whether they were named; "all" names none.

    Raises CompileError for an unknown name.
    """
    known = {peer.name: peer for peer in PEERS}
    if names.strip() == ALL:
        return PEERS, False
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise CompileError(
            f"--against {names!r} names no runtime that is known",
            expected=f"{ALL}, or of {', '.join(known)}, separated by commas",
        )
    return tuple(known[name] for name in dict.fromkeys(wanted)), True


def all_threads() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compare(
    model: Path,
    *,
    board: str,
    against: str,
    out: Path,
    calibrate: Samples | None = None,
    dtype: str = "int8",
    tflite: Path | None = None,
    threads: Sequence[int] = (1,),
    rounds: int = ROUNDS,
    layers: bool = False,
    bind: Mapping[str, int] | None = None,
    undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Compile `model` for `board` into `out`, and time it against each peer, interleaved.

    calibrate: quantises a float model first; the peers then get the quantised one, too.
    layers: time each of our own layers, too. undisturbed: entered around all that is timed.
    Raises MissingTool for a peer that was named and is not installed; what compiling raises.
    """
    peers, named = peers_named(against)
    if named:
        for peer in peers:
            peer.require()
    tell = progress or (lambda text: None)
    source = _source(model, calibrate, dtype, bind)
    tell("compiling")
    compiled = compile_model(
        source, board=board, out=out, dtype=dtype, bind=bind, name=model.stem, pictures=False
    )

    def network() -> Graph:
        return canonical(source, PassContext(), bind=bind)

    subject = Subject(model.stem, source, network, dtype, find_tflite(model, tflite))
    library = build_library(open_project(out))
    runs = tuple(
        _measure(subject, compiled, library, peers, count, rounds, undisturbed, tell)
        for count in dict.fromkeys(threads)
    )
    report = compiled.report
    made = Comparison(subject.name, report.board, report.target, dtype, report.macs, runs)
    if not layers:
        return made
    tell("timing the layers")
    feeds = random_feeds(compiled.graph, source, 0)
    with undisturbed():
        peak = _peak(compiled, 1) if dtype == "int8" else None
        return replace(made, layers=measure_layers(open_project(out), report, feeds, peak))


def _source(
    model: Path, calibrate: Samples | None, dtype: str, bind: Mapping[str, int] | None
) -> ModelProto:
    if calibrate is not None and dtype == "int8":
        return quantize_model(model, calibrate, bind=bind).model
    return load_model(model)


def _measure(
    subject: Subject,
    compiled: CompiledProject,
    library: Path,
    peers: Sequence[Peer],
    threads: int,
    rounds: int,
    undisturbed: Callable[[], AbstractContextManager[None]],
    tell: Callable[[str], None],
) -> ThreadRun:
    try:
        ours = InProcess(open_project(compiled.folder), library, threads)
    except NotComparable as error:
        return ThreadRun(threads, (Row(LABEL, note=str(error)),), None, 0.0)
    contenders: list[Contender] = [ours]
    versions = {ours.label: ""}
    missing: list[Row] = []
    for peer in peers:
        tell(f"preparing {peer.name}")
        try:
            for made in _prepared(peer, subject, threads):
                contenders.append(made)
                versions[made.label] = peer.version
        except NotComparable as error:
            missing.append(Row(peer.name, peer.version, note=str(error)))
    agreements = _agreements(compiled.graph, subject, contenders, missing)
    load = CpuLoad()
    load.start()
    with undisturbed():
        peak = _peak(compiled, threads)
        seconds = interleave(
            [c.run for c in contenders],
            rounds=rounds,
            progress=lambda i, n: tell(f"{threads} threads, round {i} of {n}"),
        )
    others = load.others()
    rows = [
        Row(
            c.label,
            versions[c.label],
            c.settings,
            float(np.median(times)),
            None if c is ours else ratio(times, seconds[0]),
            agreements.get(c.label),
        )
        for c, times in zip(contenders, seconds, strict=True)
    ]
    return ThreadRun(threads, (*rows, *missing), peak, others)


def _peak(compiled: CompiledProject, threads: int) -> float | None:
    isa = compiled.board.target.tvm
    return None if isa is None else peak_macs_per_second(isa.dot, threads)


def _prepared(peer: Peer, subject: Subject, threads: int) -> Sequence[Contender]:
    if not peer.version:
        raise NotComparable("not installed: pip install 'tinsmith[peers]'")
    with quiet():
        return peer.prepare(subject, threads)


def _agreements(
    graph: Graph, subject: Subject, contenders: list[Contender], missing: list[Row]
) -> dict[str, Agreement]:
    """How far every peer's outputs are from ours; who cannot run the samples leaves the list."""
    answers: dict[str, list[list[Array]]] = {c.label: [] for c in contenders}
    for seed in range(_SAMPLES):
        feeds = random_feeds(graph, subject.model, seed)
        for contender in list(contenders):
            try:
                contender.give(feeds)
            except NotComparable as error:
                contenders.remove(contender)
                missing.append(Row(contender.label, note=str(error)))
                continue
            contender.run()
            answers[contender.label].append(list(contender.outputs()))
    ours, *others = contenders
    types = [v.type for v in graph.outputs]
    return {c.label: agreement(answers[ours.label], answers[c.label], types) for c in others}
