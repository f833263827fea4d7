"""The sample that a project embeds for its self-test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir.graph import Graph
from ..ir.interpret import run
from ..quant.samples import Samples, read_samples
from .emit import random_sample
from .program import Program


def with_sample(program: Program, samples: Samples | None, single: Graph, batch: int) -> Program:
    """The program with the first calibration sample as the device takes it.

    single: the network over one sample. A batch holds the same one over and over, and so does
    what is expected of it. Raises BadInput for samples that do not match.
    """
    graph = program.graph if batch == 1 else single  # a graph that learns has labels too
    first = None if samples is None else [a[0] for a in read_samples(samples, graph, 1)]
    if batch == 1:
        return replace(program, sample=first)
    first = first or random_sample(single)
    answer = run(single, first)
    given, expected = ([np.concatenate([a] * batch) for a in arrays] for arrays in (first, answer))
    return replace(program, sample=given, expected=expected)
