"""`update.toml`: what of a network learns on the device, and how. See docs/training.md."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import CompileError
from ..ir.graph import Graph, Node, Value
from ..ops._gradient import Optimizer

Select = Literal["magnitude", "contribution", "first"]
Rule = Literal["residual8", "residual4", "stochastic", "nearest"]
_LARGEST_BATCH = 65536
_MOST_MOMENTUM = 0.999
_LEAST_DECAY = 1e-9
LAYERS = ("conv2d", "dense", "conv2d_trainable")


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[update]]`: the layers it names by `node`, `index` or `last`, and what of them learns.

    A key that is left out keeps what earlier entries said.

    node: an ONNX name, or a glob. index: of the convolution or dense layer, from 0. last: the last
    so many before the classifier. bias: whether it learns. weights: the fraction of input channels
    that learn (of a depthwise layer: of channels), 0 for none. channels: their numbers, instead of
    a fraction. select: which channels a fraction takes.
    """

    node: str | None = None
    index: int | None = None
    last: int | None = None
    bias: bool | None = None
    weights: float | None = None
    channels: tuple[int, ...] | None = None
    select: Select | None = None


class Scheme(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file. classes: replace the classifier by a fresh one with so many outputs.

    loss: what a step makes less. rule: how a weight remembers updates smaller than its last place
    (docs/training.md). gradients: what they are computed in.
    batch: samples to a step. momentum, weight_decay: of SGD, as `torch.optim.SGD` means them.
    update: what learns; later entries win.
    """

    classes: int | None = None
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    rule: Rule = "residual8"
    gradients: Literal["int8", "float32"] = "int8"
    batch: int = 1
    momentum: float = 0.0
    weight_decay: float = 0.0
    update: tuple[Update, ...] = ()

    @property
    def optimizer(self) -> Optimizer:
        return Optimizer(self.batch, self.momentum, self.weight_decay)


@dataclass(frozen=True)
class Selection:
    """What of one layer learns.

    weights: fraction of its input channels; channels: their numbers instead, when not None.
    """

    bias: bool = False
    weights: float = 0.0
    channels: tuple[int, ...] | None = None
    select: Select = "magnitude"

    @property
    def trains(self) -> bool:
        return self.bias or self.weights > 0 or bool(self.channels)


class SchemeError(CompileError):
    """An update scheme that cannot be read or does not fit the model."""


def read_scheme(path: str | PathLike[str]) -> Scheme:
    """Raises SchemeError with the key at fault."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemeError(f"cannot read the update scheme {path}: {error}") from error
    return parse_scheme(text, str(path))


def parse_scheme(text: str, name: str = "update.toml") -> Scheme:
    """Raises SchemeError with the key at fault."""
    try:
        scheme = msgspec.toml.decode(text.encode(), type=Scheme)
    except msgspec.DecodeError as error:
        raise SchemeError(
            f"{name}: {error}",
            expected="classes, loss, rule, gradients, batch, momentum, weight_decay and "
            "[[update]] tables",
            hint="docs/training.md lists the keys",
        ) from error
    if scheme.classes is not None and scheme.classes < 2:
        raise SchemeError(f"{name}: classes = {scheme.classes}", expected="two classes or more")
    if scheme.classes is not None and scheme.loss != "cross_entropy":
        raise SchemeError(
            f"{name}: classes replaces a classifier, but the loss is {scheme.loss!r}",
            expected='loss = "cross_entropy", or no classes',
        )
    _check_optimizer(scheme, name)
    for i, update in enumerate(scheme.update, 1):
        _check(update, f"{name}: [[update]] number {i}")
    return scheme


def _check_optimizer(scheme: Scheme, name: str) -> None:
    if not 1 <= scheme.batch <= _LARGEST_BATCH:
        raise SchemeError(
            f"{name}: batch = {scheme.batch}",
            expected=f"a number of samples, 1 … {_LARGEST_BATCH:,}",
        )
    if not 0 <= scheme.momentum <= _MOST_MOMENTUM:
        raise SchemeError(
            f"{name}: momentum = {scheme.momentum}",
            expected=f"0 (none) … {_MOST_MOMENTUM}: what is kept of the last step",
        )
    if not (scheme.weight_decay == 0 or _LEAST_DECAY <= scheme.weight_decay <= 1):
        raise SchemeError(
            f"{name}: weight_decay = {scheme.weight_decay}",
            expected=f"0 (none), or {_LEAST_DECAY:g} … 1; 1e-4 is usual",
        )


def _check(update: Update, where: str) -> None:
    named = [k for k in ("node", "index", "last") if getattr(update, k) is not None]
    if len(named) != 1:
        raise SchemeError(
            f"{where} names its layers by {' and '.join(named) or 'nothing'}",
            expected="one of node, index, last",
        )
    if update.weights is not None and not 0 <= update.weights <= 1:
        raise SchemeError(f"{where}: weights = {update.weights}", expected="a fraction, 0 … 1")
    if update.weights is not None and update.channels is not None:
        raise SchemeError(f"{where} has weights and channels", expected="one of them")
    if update.channels is not None and len(set(update.channels)) != len(update.channels):
        raise SchemeError(f"{where} names a channel twice")
    if (update.last is not None and update.last < 1) or (update.index or 0) < 0:
        raise SchemeError(f"{where}: {named[0]} = {getattr(update, named[0])}", expected="a count")


def layers(graph: Graph) -> list[Node]:
    """The convolutions and dense layers in order: what `index` counts."""
    return [n for n in graph.nodes if n.op.name in LAYERS]


def logits(graph: Graph) -> Value:
    """What the loss is taken of: the output, or the input of a softmax that ends the network."""
    if len(graph.outputs) != 1:
        raise SchemeError(
            f"the model has {len(graph.outputs)} outputs", expected="one output to train on"
        )
    value = graph.outputs[0]
    producer = graph.producer.get(value)
    while producer is not None and producer.op.name in ("softmax", "reshape"):
        if producer.op.name == "softmax":
            return producer.inputs[0]
        producer = graph.producer.get(producer.inputs[0])
    return value


def classifier(graph: Graph) -> Node:
    """The layer that makes the logits. Raises SchemeError when they come from something else."""
    producer = graph.producer.get(logits(graph))
    while producer is not None and producer.op.name == "reshape":
        producer = graph.producer.get(producer.inputs[0])
    if producer is None or producer.op.name not in LAYERS:
        found = producer.op.name if producer else "an input"
        raise SchemeError(
            f"the model's output comes from {found}, not from a classifier",
            expected="a convolution or dense layer, then reshapes and a softmax at most",
        )
    return producer


def resolve(scheme: Scheme, graph: Graph) -> dict[str, Selection]:
    """What of each layer learns, by node name. With cross entropy the classifier learns whole.

    Raises SchemeError for an entry that matches no layer.
    """
    found = layers(graph)
    chosen = {n.name: Selection() for n in found}
    body = found
    if scheme.loss == "cross_entropy":
        head = classifier(graph)
        chosen[head.name] = Selection(bias=True, weights=1.0)
        body = [n for n in found if n is not head]
    for i, update in enumerate(scheme.update, 1):
        for node in _matches(update, found, body, f"[[update]] number {i}"):
            chosen[node.name] = _merge(chosen[node.name], update)
    if not any(s.trains for s in chosen.values()):
        raise SchemeError("the scheme trains nothing", hint="add an [[update]] with bias = true")
    return chosen


def _merge(old: Selection, update: Update) -> Selection:
    new = replace(
        old,
        bias=old.bias if update.bias is None else update.bias,
        select=update.select or old.select,
    )
    if update.weights is not None:
        new = replace(new, weights=update.weights, channels=None)
    if update.channels is not None:
        new = replace(new, weights=0.0, channels=tuple(sorted(update.channels)))
    return new


def _matches(
    update: Update, found: Sequence[Node], body: Sequence[Node], where: str
) -> Sequence[Node]:
    """`last` counts the layers before the classifier."""
    if update.last is not None:
        if update.last > len(body):
            raise SchemeError(
                f"{where}: last = {update.last}, but there are {len(body)} layers",
                expected=f"1 … {len(body)}; the classifier is not counted",
            )
        return body[-update.last :]
    if update.index is not None:
        if update.index >= len(found):
            raise SchemeError(
                f"{where}: there is no layer {update.index}", expected=f"0 … {len(found) - 1}"
            )
        return [found[update.index]]
    pattern = update.node or ""
    matching = [n for n in found if any(fnmatchcase(name, pattern) for name in _names(n))]
    if not matching:
        names = [name for n in found for name in _names(n)]
        close = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
        raise SchemeError(
            f"{where}: no convolution or dense layer is called {pattern!r}",
            expected=", ".join(close) if close else "the ONNX name of a layer, or a pattern",
            hint="`tinsmith analyze MODEL --board BOARD` lists the names",
        )
    return matching


def _names(node: Node) -> tuple[str, ...]:
    """What a scheme may call a layer: its ONNX name, one of them where several were fused."""
    return (node.name, node.origin.onnx_name, *node.origin.onnx_name.split(";"))
