"""The paper's closed form of the memory that sparse training takes beyond the inference's.

Per updated convolution: a clip mask of one bit per output element and a 32-bit bias per output
channel; where weights learn, besides, 8 bits per saved element of the input channels that learn and
8 bits per weight. The classifier counts with its saved input. Source: "On-Device Training Under
256KB Memory", section 3 and the authors' evaluation script; its labels are floor(KiB).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.graph import Graph, Node
from ..ops.conv2d_trainable import trained_elements
from ..ops.weight_update import WeightUpdateAttrs, residual_start
from .scheme import classifier


@dataclass(frozen=True)
class PaperMemory:
    """Bits by what they hold. residual: our rule's state, which the paper does not have."""

    masks: int
    biases: int
    weights: int
    saved: int
    residual: int

    @property
    def bits(self) -> int:
        """By the paper's model, without the residual."""
        return self.masks + self.biases + self.weights + self.saved

    @property
    def kib(self) -> float:
        return self.bits / 8 / 1024


def paper_memory(graph: Graph, rule: str = "residual8") -> PaperMemory:
    """The closed form of a graph after select_updates (or build_backward)."""
    head = classifier(graph) if not graph.updates else _head(graph)
    masks = biases = weights = residual = 0
    saved = 8 * head.x.elements
    for node in graph.nodes:
        if node.op.name != "conv2d_trainable" or node is head:
            continue
        attrs, count = node.attrs, trained_elements(node)
        if not attrs.train_bias and not count:
            continue
        masks += node.y.elements
        biases += 32 * node.y.shape[3]
        if count:
            pixels = node.x.shape[1] * node.x.shape[2]
            channels = len(attrs.update_channels) or len(attrs.trained_channels)
            if attrs.groups > 1 and not attrs.update_channels:
                channels = node.x.shape[3]
            weights += 8 * count
            saved += 8 * pixels * channels
            residual += _residual_bits(node, rule)
    return PaperMemory(masks, biases, weights, saved, residual)


def _head(graph: Graph) -> Node:
    """The classifier of a graph that has its loss already: the last trainable layer."""
    return [n for n in graph.nodes if n.op.name == "conv2d_trainable"][-1]


def _residual_bits(node: Node, rule: str) -> int:
    attrs = WeightUpdateAttrs(rule=rule, update_channels=node.attrs.update_channels)
    start = residual_start(attrs, node.inputs[2].type.shape, "")
    return 0 if start is None else 8 * start.nbytes
