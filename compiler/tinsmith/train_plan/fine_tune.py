"""One job: a short fine-tune of the model under one scheme, in the bit-exact simulator.

A worker keeps the parsed model, and the samples up to the first layer that learns: the next job
starts from there unless it learns earlier layers. So jobs come with the earliest first.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Stage
from ..ir.parser import parse
from ..lowering import TO_TRAINING
from ..ops import registry
from ..pass_manager import PassContext, run_passes
from ..train.labelled import Labelled
from ..train.loop import History
from ..train.program import Program, split_frozen
from ..train.scheme import Scheme
from ..train.simulate import Encoded, Trainer, fit
from .samples import Split

_AFTER_QUANTIZED = tuple(p for p in TO_TRAINING if p.requires >= Stage.QUANTIZED)
_KEPT = 2  # encodings per worker


class Job(msgspec.Struct, frozen=True):
    """A scheme and how it is fine-tuned; 0 epochs: not at all.

    scheme None: the nearest class mean of what the classifier reads.
    """

    scheme: Scheme | None
    epochs: int
    rate: float
    seed: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """accuracy: on the held-out samples after training, a fraction; correct: hex of its bits.

    loss: mean of the last epoch's; None without one. gave_up: the loss guard ended training.
    """

    accuracy: float
    loss: float | None
    correct: str = ""
    gave_up: bool = False


@dataclass(frozen=True)
class Bench:
    """What all jobs share. text: the QUANTIZED graph before its classifier is replaced."""

    text: str
    split: Split

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model and the samples."""
        found = hashlib.sha256(self.text.encode())
        for part in (self.split.train, self.split.held):
            for array in (*part.rows, part.given):
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def key(self, job: Job) -> str:
        """What the result of a job depends on."""
        text = msgspec.json.encode(job, order="sorted")
        return hashlib.sha256(self.digest.encode() + text).hexdigest()[:32]


def training_graph(quantized: Graph, scheme: Scheme) -> Graph:
    """The training graph of a QUANTIZED graph that still has its own classifier."""
    return run_passes(quantized, _AFTER_QUANTIZED, PassContext(options={"scheme": scheme}))


def run_job(bench: Bench, job: Job) -> Mapping[str, Any]:
    """The `Outcome` as plain data. Deterministic: the same on every machine."""
    worker = _worker(bench)
    scheme = job.scheme or Scheme(classes=_class_count(bench))
    trainer = Trainer(training_graph(worker.graph, scheme))
    train, held = worker.encoded(trainer)
    labels, answers = bench.split.train.labels, bench.split.held.labels
    if job.scheme is None:
        right = _nearest_class_mean(train, labels, held) == answers
        return msgspec.to_builtins(Outcome(float(right.mean()), None, _bits(right)))
    history = History()
    if job.epochs:
        history = fit(trainer, train, labels, epochs=job.epochs, rate=job.rate, seed=job.seed)
    right = trainer.predict(held) == answers
    loss = float(np.mean(history.losses[-len(labels) :])) if history.losses else None
    return msgspec.to_builtins(Outcome(float(right.mean()), loss, _bits(right), history.gave_up))


def _class_count(bench: Bench) -> int:
    labels = (bench.split.train.labels, bench.split.held.labels)
    return max(2, *(int(a.max()) + 1 for a in labels))


def _bits(right: Array) -> str:
    return np.packbits(right).tobytes().hex()


def _nearest_class_mean(train: list[Encoded], labels: Array, held: list[Encoded]) -> Array:
    """By distance in what the classifier reads; a class without samples is never nearest."""
    x, queries = (
        np.stack([s[-1].ravel() for s in part]).astype(np.float64) for part in (train, held)
    )
    known = np.unique(labels)
    means = np.stack([x[labels == c].mean(axis=0) for c in known])
    distances = ((queries[:, None] - means) ** 2).sum(axis=2)
    return known[distances.argmin(axis=1)]


class _Worker:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.graph = parse(bench.text, registry())
        self.lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], tuple[list[Encoded], list[Encoded]]]
        self._kept = OrderedDict()

    def encoded(self, trainer: Trainer) -> tuple[list[Encoded], list[Encoded]]:
        """Both halves of the samples up to the first layer that learns."""
        key = tuple(v.name for v in trainer.between)
        with self.lock:
            if key not in self._kept:
                self._kept[key] = self._encode(trainer)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _encode(self, trainer: Trainer) -> tuple[list[Encoded], list[Encoded]]:
        for known, (train, held) in reversed(self._kept.items()):
            further = encoder(trainer, known)
            if further is not None:
                return [further(s) for s in train], [further(s) for s in held]
        split = self.bench.split
        return _encode(trainer, split.train), _encode(trainer, split.held)


def encoder(trainer: Trainer, known: Sequence[str]) -> Callable[[Encoded], Encoded] | None:
    """What makes an encoded sample of one that a trainer of another scheme has encoded.

    known: the names of that one's `between`. None: they are not enough.
    """
    graph = trainer.graph
    frozen = split_frozen(graph)[0]
    made = {v.name: v for n in frozen for v in n.outputs}
    kept = [(i, made[name]) for i, name in enumerate(known) if name in made]
    reads = [v for _, v in kept]
    missing = set(trainer.between).difference(reads)
    nodes: list[Node] = []
    for node in reversed(frozen):
        if missing.intersection(node.outputs):
            nodes.append(node)
            missing.difference_update(node.outputs)
            missing.update(set(node.inputs).difference(reads, graph.initializers))
    if missing:
        return None
    program = Program(graph, nodes[::-1], reads, trainer.between, {})
    return lambda sample: tuple(program.run([sample[i] for i, _ in kept]))


def _encode(trainer: Trainer, data: Labelled) -> list[Encoded]:
    return [trainer.encode(data.sample(i)) for i in range(len(data))]


_workers: dict[str, _Worker] = {}
_creating = threading.Lock()


def _worker(bench: Bench) -> _Worker:
    """This process's, one benchmark at a time."""
    with _creating:
        if bench.digest not in _workers:
            _workers.clear()
            _workers[bench.digest] = _Worker(bench)
        return _workers[bench.digest]


__all__ = ["Bench", "Job", "Outcome", "encoder", "run_job", "training_graph"]
