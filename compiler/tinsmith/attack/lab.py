"""Where the attacks are tried: the stolen network, samples on both sides of the gateway, training.

What lies above the gateway is not locked: it runs once, and its values are kept as int8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Value
from .gaps import Gap
from .imitation import UNIT, Parameters, as_int8, centred, parameters_of, run_nodes
from .stolen import Stolen
from .torch_extra import Tensor, load_torch

BATCH = 64
ORDER_RATE = 0.1  # of the scores of an order
COLDEST = 0.1  # the temperature at the end; 1 at the start
_SINKHORN = 12
_PREFIX_BATCH = 128


@dataclass(frozen=True)
class Samples:
    """rows: one int8 array [samples, *shape] per graph input. labels: int32 [samples]."""

    rows: Sequence[Array]
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)


class Lab:
    """One stolen network with the attacker's samples and those it is judged by."""

    def __init__(self, stolen: Stolen, gap: Gap, train: Samples, test: Samples) -> None:
        self.torch = load_torch()
        self.stolen, self.gap, self.train, self.test = stolen, gap, train, test
        self.locked = parameters_of(stolen.graph, stolen.below)
        self.open = parameters_of(stolen.graph, stolen.above)
        self._crossing = {s: self._values_above(part) for s, part in self._parts().items()}

    def _parts(self) -> dict[str, Samples]:
        return {"train": self.train, "test": self.test}

    def _values_above(self, samples: Samples) -> dict[Value, Array]:
        """int8 [samples, …] of every value that crosses."""
        kept: dict[Value, list[Array]] = {v: [] for v in self.stolen.crossing}
        with self.torch.no_grad():
            for start in range(0, len(samples), _PREFIX_BATCH):
                values = self._inputs(samples, np.arange(len(samples))[start:][:_PREFIX_BATCH])
                run_nodes(self.stolen.graph, self.stolen.above, values, self.open)
                for value, rows in kept.items():
                    rows.append(as_int8(value, values[value]))
        return {v: np.concatenate(rows) for v, rows in kept.items()}

    def _inputs(self, samples: Samples, chosen: Array) -> dict[Value, Tensor]:
        pairs = zip(self.stolen.graph.inputs, samples.rows, strict=True)
        return {v: centred(v, row[chosen]) for v, row in pairs}

    def crossing(self, part: str, chosen: Array) -> dict[Value, Tensor]:
        """What crosses for these samples, as the imitation computes."""
        return {v: centred(v, a[chosen]) for v, a in self._crossing[part].items()}

    def crossing_int8(self, part: str, chosen: Array) -> list[Array]:
        """What the gateway is given, [samples, *shape] per input."""
        kept = self._crossing[part]
        return [kept[v][chosen].reshape(-1, *v.type.shape) for v in self.stolen.inputs]

    def logits(self, part: str, chosen: Array, parameters: Parameters) -> Tensor:
        """[samples, classes], real."""
        values = self.crossing(part, chosen)
        values[self.stolen.output] = self.gap.run(values, parameters)
        run_nodes(self.stolen.graph, self.stolen.below, values, parameters)
        return self._real(values)

    def whole_logits(self, part: str, chosen: Array, parameters: Parameters) -> Tensor:
        """The same with the layers above among the parameters."""
        values = self._inputs(self._parts()[part], chosen)
        run_nodes(self.stolen.graph, self.stolen.above, values, parameters)
        values[self.stolen.output] = self.gap.run(values, parameters)
        run_nodes(self.stolen.graph, self.stolen.below, values, parameters)
        return self._real(values)

    def _real(self, values: Mapping[Value, Tensor]) -> Tensor:
        value = self.stolen.logits
        out = values[value]
        return out.reshape(len(out), -1) * (value.type.scale / UNIT)

    def accuracy(
        self, parameters: Parameters, logits: Callable[..., Tensor] | None = None
    ) -> float:
        """On the samples that judge."""
        right = 0
        with self.torch.no_grad():
            for start in range(0, len(self.test), _PREFIX_BATCH):
                chosen = np.arange(len(self.test))[start:][:_PREFIX_BATCH]
                scores = (logits or self.logits)("test", chosen, parameters)
                right += int((scores.argmax(1).numpy() == self.test.labels[chosen]).sum())
        return right / len(self.test)

    def sample(self, count: int = BATCH) -> dict[Value, Tensor]:
        """A few samples of what crosses, for guesses that need its statistics."""
        return self.crossing("train", np.arange(min(count, len(self.train))))

    def fit(
        self,
        parameters: Parameters,
        trained: Sequence[str],
        labelled: Array,
        *,
        steps: int,
        rate: float,
        seed: int,
        orders: Sequence[str] = (),
        logits: Callable[..., Tensor] | None = None,
    ) -> Parameters:
        """Adam with a falling rate on the cross entropy of `labelled` training samples.

        orders: parameters that are searched among doubly stochastic matrices, which sharpen into a
        permutation while the temperature falls (Sinkhorn). Returns the parameters with those named
        in `trained` and `orders` changed.
        """
        torch = self.torch
        rng = np.random.default_rng(seed)
        tuned = {n: parameters[n].clone().requires_grad_() for n in trained}
        scores_of = {
            n: torch.tensor(rng.normal(0, 0.01, parameters[n].shape)).float().requires_grad_()
            for n in orders
        }
        groups = [(list(tuned.values()), rate), (list(scores_of.values()), ORDER_RATE)]
        optimizer = torch.optim.Adam([{"params": p, "lr": r, "start": r} for p, r in groups if p])
        whole = {**parameters, **tuned}
        for step in range(steps):
            for group in optimizer.param_groups:
                fall = 1.0 if orders else 0.5 * (1 + np.cos(np.pi * step / steps))
                group["lr"] = group["start"] * fall
            chosen = rng.choice(labelled, min(BATCH, len(labelled)), replace=False)
            temperature = COLDEST ** (step / steps)
            whole |= {n: doubly_stochastic(s / temperature) for n, s in scores_of.items()}
            scores = (logits or self.logits)("train", chosen, whole)
            labels = torch.tensor(self.train.labels[chosen]).long()
            loss = torch.nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {n: p.detach() for n, p in whole.items()}


def doubly_stochastic(scores: Tensor) -> Tensor:
    """exp(scores) scaled so that all rows and columns sum to one, nearly (Sinkhorn)."""
    for _ in range(_SINKHORN):
        scores = scores - scores.logsumexp(1, keepdim=True)
        scores = scores - scores.logsumexp(0, keepdim=True)
    return scores.exp()


def gateway_graph(joined: Graph, stolen: Stolen) -> Graph:
    """From an authorised network, what the gateway computes: its inputs → its output."""
    known = set(stolen.inputs)
    wanted = {stolen.output}
    nodes = []
    for node in reversed(joined.nodes):
        if wanted.intersection(node.outputs):
            nodes.append(node)
            wanted.update(v for v in node.inputs if v not in known)
    return Graph(
        f"{joined.name}_gateway", stolen.inputs, (stolen.output,), joined.initializers,
        tuple(reversed(nodes)), joined.stage,
    )  # fmt: skip
