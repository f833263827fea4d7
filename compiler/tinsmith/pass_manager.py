"""Runs passes: verifies the graph before and after each, times it, prints it when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import CompileError, InternalError
from .ir.graph import Graph, Stage
from .ir.printer import print_graph
from .ir.verify import verify


@dataclass
class PassContext:
    """What passes may read and report. One per compile.

    Attributes:
        options: named settings of single passes, for example the scheme of a training graph.
        calibration: activation statistics by value name, when there are any.
        notes: things the user must hear of: a slow path, a clamped bias, weights quantised anew.
        facts: what passes found out, by pass name; for the report.
        timings: seconds per pass, in order.
    """

    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    calibration: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list[str])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    timings: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    print_after: Callable[[str, str], None] | None = None
    progress: Callable[[str], None] | None = None

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Tell and time a pass or another step; a user's error is told with its name."""
        if self.progress:
            self.progress(name)
        started = time.perf_counter()
        try:
            yield
        except CompileError as error:
            error.where = error.where or name
            raise
        self.timings.append((name, time.perf_counter() - started))


@dataclass(frozen=True)
class Pass:
    """A rewrite of the graph: one file in `passes/`, named with a verb.

    Attributes:
        name: the file's name; also what logs and origins show.
        run: the rewrite. It must not change the graph it is given.
        requires: stage of the graph it takes.
        produces: stage it leaves; by default the same.
    """

    name: str
    run: Callable[[Graph, PassContext], Graph]
    requires: Stage = Stage.FLOAT
    produces: Stage | None = None


def run_passes(graph: Graph, passes: Sequence[Pass], context: PassContext) -> Graph:
    """Run the passes in order. A user's error is told with the pass's name."""
    for step in passes:
        if graph.stage != step.requires:
            raise InternalError(
                f"pass {step.name} takes a graph of stage {step.requires.name}",
                expected=f"not {graph.stage.name}",
            )
        verify(graph, f"before {step.name}")
        with context.step(step.name):
            graph = step.run(graph, context)
        if step.produces is not None:
            graph = replace(graph, stage=step.produces)
        verify(graph, f"after {step.name}")
        if context.print_after:
            context.print_after(step.name, print_graph(graph, elide_constants=True))
    return graph
