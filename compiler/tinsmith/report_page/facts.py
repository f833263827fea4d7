"""What the page of a compiled project shows: its report, and what its layers cost when measured."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..codegen.report import read_report
from ..codegen.report_model import Report
from ..errors import CompileError, DoesNotFit, MissingTool
from ..numerics.difference import difference
from ..numerics.sides import ORACLE, open_side
from ..plan.model import short_name
from ..runner.bench import bench
from ..runner.profile import LayerProfile, profile_layers, unit


class LayerCost(msgspec.Struct, frozen=True):
    """What a node cost on the embedded sample; None: not measured on this board."""

    instructions: int | None = None
    cycles: float | None = None
    microseconds: float | None = None

    @property
    def cost(self) -> float | None:
        """The best of what there is: cycles, instructions, microseconds."""
        return next(
            (c for c in (self.cycles, self.instructions, self.microseconds) if c is not None), None
        )


class LayerError(msgspec.Struct, frozen=True):
    """How far a node's output is from the float model's, over all samples.

    sqnr_db: signal to error in dB, None where there is no error. max_error, mean_error: in reals.
    """

    sqnr_db: float | None
    max_error: float
    mean_error: float


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page of one project shows.

    layers: per node of `report.nodes`; empty when not measured, then `unmeasured` says why.
    cost_unit: what `LayerCost.cost` counts. errors: by the name of the node.
    """

    folder: str
    report: Report
    layers: tuple[LayerCost, ...] = ()
    cost_unit: str = ""
    unmeasured: str = ""
    errors: dict[str, LayerError] = {}


def collect(folder: Path, *, measure: bool) -> Facts:
    """The facts of a compiled project.

    measure: run it where its board runs here, for instructions, time and stack; they go into its
    report.json too. A board that cannot run here is no error, the facts then say so.
    Raises CompileError when the folder is not a compiled project.
    """
    report = read_report(folder)
    if not measure:
        return Facts(
            folder=folder.resolve().name, report=report, unmeasured="measuring was not asked for"
        )
    try:
        report = bench(folder)
        layers = profile_layers(folder)
    except (MissingTool, DoesNotFit) as error:
        return Facts(folder=folder.resolve().name, report=report, unmeasured=error.message)
    except CompileError as error:
        if error.exit_code == 1:  # a wrong result is not a missing measurement
            raise
        return Facts(folder=folder.resolve().name, report=report, unmeasured=error.message)
    return Facts(
        folder=folder.resolve().name,
        report=report,
        layers=tuple(_cost(layer) for layer in layers),
        cost_unit=unit(layers),
    )


def add_errors(facts: Facts, folder: Path, model: Path, inputs: Path, samples: int) -> Facts:
    """With what quantisation costs at every layer, against the model that the project comes from.

    samples: of `inputs`, at most. Raises as `numerics.sides.open_side` and `difference`.
    """
    exact = open_side(str(model), inputs, samples, {})
    quantised = open_side(f"{folder}:{ORACLE}", inputs, samples, {})
    errors = {
        layer.node: LayerError(
            layer.sqnr_db if layer.differing else None, layer.max_error, layer.mean_error
        )
        for layer in difference(exact, quantised).layers
    }
    return msgspec.structs.replace(facts, errors=errors)


def facts_data(facts: Facts) -> dict[str, object]:
    """`report --json`, of one project."""
    return msgspec.to_builtins(facts)


def layer_lines(facts: Facts) -> list[str]:
    """The measured layers as text, a row each; empty when nothing was measured."""
    if not facts.layers:
        return []
    total = sum(layer.cost or 0.0 for layer in facts.layers) or 1.0
    lines = [f"{facts.cost_unit} of every node"]
    for node, layer in zip(facts.report.nodes, facts.layers, strict=True):
        cost = layer.cost or 0.0
        name = short_name(node.name, 40)
        lines.append(f"  {node.index:>3}  {name:<40}  {cost:>14,.0f}  {cost / total:>6.1%}")
    return lines


def _cost(layer: LayerProfile) -> LayerCost:
    return LayerCost(layer.instructions, layer.cycles, layer.microseconds)
