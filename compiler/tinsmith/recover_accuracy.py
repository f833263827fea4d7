"""Fine-tuning off the device: wins back what post-training quantisation has lost.

The simulator of the device's training runs on the quantised network, whose scales stay as they are.
Samples that do not train decide after every epoch whether the weights are the best so far, so the
network is never worse on them than it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from .codegen.training import inference_graph
from .errors import BadInput
from .ir.dtypes import Array
from .ir.graph import Graph, Node, Stage, Value
from .ir.opdef import Absent
from .ir.rewrite import live_nodes
from .lowering import TO_TRAINING
from .pass_manager import PassContext, run_passes
from .quant.arithmetic import quantize_array
from .quant.batch import run_many
from .quant.samples import load_samples
from .train.balance import balanced
from .train.export import with_trained
from .train.labelled import Labelled, class_count, label_shape, read_labelled
from .train.loop import History
from .train.scheme import Scheme, SchemeError, Update, layers, logits
from .train.simulate import Trainer, fit
from .train.variations import Variation

_BEFORE = tuple(p for p in TO_TRAINING if p.requires < Stage.QUANTIZED)
_AFTER = tuple(p for p in TO_TRAINING if p.requires >= Stage.QUANTIZED)
HELD = 0.2  # of the samples judge
_TYPICAL = 64  # samples say how large gradients are
_LEAST = 5  # samples: four train, one judges


@dataclass(frozen=True)
class FineTune:
    """How to fine-tune.

    data: an .npz file with samples, and labels as `train/labelled.py` reads them. Without any, the
    float model's outputs are what is learnt. scheme: what learns; None: every layer that can. rate:
    of `train/balance.py`, falling to 0.
    """

    data: str | Path
    epochs: int = 3
    rate: float = 0.0001
    scheme: Scheme | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.rate) and self.rate > 0):
            raise BadInput(f"the learning rate is {self.rate:g}", expected="a number above 0")
        if self.epochs < 1:
            raise BadInput(f"{self.epochs} epochs", expected="1 or more")


@dataclass(frozen=True)
class Judged:
    """Of the held-out samples. loss: the mean. accuracy: how many classes are right, or without
    labels the float model's; None where the model has no classes."""

    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class FineTuned:
    """What `recover_accuracy` did.

    Attributes:
        network: the QDQ graph with the best weights; the given one when nothing was better.
        labelled: whether labels or targets judge, and not the float model's outputs.
        trained_on, held: samples.
        float_accuracy: of the float model on the held samples; None without labels of classes.
        before, after: of the quantised network.
        epoch: the one whose weights were kept, from 1; 0 when the network stays as it was.
    """

    network: Graph
    labelled: bool
    trained_on: int
    held: int
    float_accuracy: float | None
    before: Judged
    after: Judged
    epoch: int
    history: History


def recover_accuracy(
    model: Graph, network: Graph, how: FineTune, context: PassContext
) -> FineTuned:
    """Fine-tune a quantised network.

    Args:
        model: the FLOAT graph in ONNX layout.
        network: the same with its scales, after `insert_qdq`.

    Raises BadInput for data that does not match, SchemeError for a scheme that does not fit.
    """
    shape = label_shape(how.data)
    labelled = shape is not None
    quantized = run_passes(network, _BEFORE, context)
    classes = shape is not None and shape[1:] in ((), (1,)) and logits(quantized).type.elements > 1
    scheme = how.scheme or everything(quantized, "cross_entropy" if classes else "mse")
    if not labelled and scheme.loss != "mse":
        raise BadInput(
            f"{how.data} has no labels, and the scheme's loss is {scheme.loss!r}",
            expected='labels y, or a scheme with loss = "mse", which learns from the float model',
        )
    context.options = {**context.options, "scheme": scheme}
    training = run_passes(quantized, _AFTER, context)
    data, correct = (_given if labelled else _taught)(model, training, how.data)
    if len(data) < _LEAST:
        raise BadInput(f"{how.data} holds {len(data)} samples", expected=f"{_LEAST} or more")
    order = np.random.default_rng(how.seed).permutation(len(data))
    held, rest = np.split(order, [max(1, int(HELD * len(data)))])
    plain, pupils = Trainer(training), data.pick(rest)
    encoded = [plain.encode(pupils.sample(i)) for i in range(len(pupils))]
    givens = _givens(pupils, training)
    graph = balanced(training, encoded[:_TYPICAL], givens[:_TYPICAL])
    trainer = Trainer(graph, Variation(numbers="latent", gradients="float32"))
    judge = _Judge(trainer, data.pick(held), None if correct is None else correct[held], labelled)
    before = judge.best
    history = fit(
        trainer,
        encoded,
        givens,
        epochs=how.epochs,
        rate=how.rate,
        seed=how.seed,
        after_epoch=lambda epoch, _: judge.look(epoch + 1),
    )
    tuned = with_trained(network, training, judge.state) if judge.epoch else network
    accuracy = None
    if labelled and correct is not None:
        accuracy = float((_classes(model, how.data, held) == correct[held]).mean())
    return FineTuned(
        tuned, labelled, len(rest), len(held), accuracy, before, judge.best, judge.epoch, history
    )


def everything(quantized: Graph, loss: Literal["cross_entropy", "mse"]) -> Scheme:
    """The scheme in which every layer learns that a gradient reaches, on a QUANTIZED graph."""
    blocked, reached = set[Value](), {logits(quantized)}
    for node in reversed(quantized.nodes):
        if not reached.intersection(node.outputs):
            continue
        reached.update(node.inputs)
        learns = _learns(node, quantized)
        stops = not learns and isinstance(node.op.gradient, Absent)
        if stops or blocked.intersection(node.outputs):
            blocked.update(node.inputs)
    update = tuple(
        Update(index=i, bias=True, weights=1.0)
        for i, node in enumerate(layers(quantized))
        if _learns(node, quantized) and node.outputs[0] in reached - blocked
    )
    if not update:
        raise SchemeError(
            "no layer of the model can learn", expected="a convolution or dense layer"
        )
    return Scheme(loss=loss, update=update)


def _learns(node: Node, graph: Graph) -> bool:
    return node.op.name in ("conv2d", "dense") and graph.is_constant(node.inputs[1])


@dataclass
class _Judge:
    """Keeps the best weights by the held-out samples. correct: their classes, or None."""

    trainer: Trainer
    held: Labelled
    correct: Array | None
    labelled: bool
    epoch: int = 0
    best: Judged = field(init=False)
    state: Mapping[Value, Array] = field(init=False)

    def __post_init__(self) -> None:
        count = range(len(self.held))
        self._encoded = [self.trainer.encode(self.held.sample(i)) for i in count]
        self._givens = _givens(self.held, self.trainer.graph)
        self.best, self.state = self._judged(), dict(self.trainer.state)

    def look(self, epoch: int) -> None:
        """The weights of now. With labels the accuracy counts first, then the loss."""
        now, best = self._judged(), self.best
        by_class = self.labelled and now.accuracy is not None
        key, old = ((j.accuracy if by_class else 0.0, -j.loss) for j in (now, best))
        if key > old:
            self.best, self.state, self.epoch = now, dict(self.trainer.state), epoch

    def _judged(self) -> Judged:
        pairs = zip(self._encoded, self._givens, strict=True)
        loss = float(np.mean([self.trainer.loss(sample, given) for sample, given in pairs]))
        if self.correct is None:
            return Judged(loss, None)
        return Judged(loss, self.trainer.accuracy(self._encoded, self.correct))


def _givens(data: Labelled, training: Graph) -> list[Array | int]:
    if class_count(training) is None:
        return list(data.given)
    return [int(label) for label in data.labels]


def _given(model: Graph, training: Graph, path: str | Path) -> tuple[Labelled, Array | None]:
    """Samples with their labels or targets, and the classes."""
    del model
    data = read_labelled(path, inference_graph(training), training)
    return data, None if class_count(training) is None else data.labels


def _taught(model: Graph, training: Graph, path: str | Path) -> tuple[Labelled, Array | None]:
    """Samples with what the float model makes of them, before a softmax; and its classes."""
    rows = load_samples(path, inference_graph(training))
    target, source = training.inputs[-2].type, logits(model)
    (real,) = run_many(_up_to(model, source), load_samples(path, model))
    if real[0].size != max(target.shape, default=1):
        layout = training.output_layout(0)
        if layout is not None and source in model.outputs:
            real = real.transpose(0, *(a + 1 for a in layout))
        if real.shape[1:] != target.shape:
            raise BadInput(
                "without labels the model's output has to be one row of numbers, or an image",
                hint="give labels or targets y",
            )
    given = np.stack([quantize_array(r.reshape(target.shape), target) for r in real])
    copies = real[0].size in (1, sum(row[0].size for row in rows))  # a number, an auto-encoder
    return Labelled(rows, given), None if copies else _best_class(real)


def _up_to(model: Graph, value: Value) -> Graph:
    nodes = live_nodes(model, (value,))
    kept = set(nodes)
    return model.with_nodes(
        [n for n in model.nodes if n in kept], outputs=(value,), output_layouts=()
    )


def _classes(model: Graph, path: str | Path, which: Array) -> Array:
    (real, *_) = run_many(model, [row[which] for row in load_samples(path, model)])
    return _best_class(real)


def _best_class(real: Array) -> Array:
    return real.reshape(len(real), -1).argmax(axis=1)
