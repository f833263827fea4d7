"""The report of a compiled project for people: `report.txt`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..plan.model import bound_line, short_name
from .report_model import FlashReport, NodeReport, Report, TrustReport

SIMULATED = "the secure world is a process of this machine: simulated, not protection"


def report_text(report: Report) -> str:
    """The report for people: figures, then one row per node."""
    figures: list[tuple[str, int | None]] = [
        ("MACs", report.macs),
        ("channels removed", report.removed_channels or None),
        ("MACs removed", report.removed_macs or None),
        ("arena bytes", report.arena_bytes),
        ("arena lower bound", report.arena_lower_bound_bytes),
        ("flash bytes", report.flash_bytes),
        ("model flash bytes", report.model_flash_bytes),
        ("RAM bytes", report.ram_bytes),
        ("stack bytes", report.stack_bytes),
        ("kernels of TVM", report.kernels_bytes),
        ("instructions", report.instructions_per_inference),
        ("cycles", report.cycles_per_inference),
        ("state bytes", report.state_bytes),
        ("training arena", report.train_arena_bytes),
        ("training RAM", report.train_ram_bytes),
        ("training MACs", report.train_macs),
        ("training step", report.train_step_instructions),
        ("secure flash", report.secure_flash_bytes),
        ("secure RAM", report.secure_ram_bytes),
        ("gateway calls", report.gateway_calls),
        ("in the gateway", report.secure_instructions),
        ("calls of a training step", report.train_gateway_calls),
        ("in the gateway then", report.train_secure_instructions),
        ("of it the bridge", report.bridge_instructions),
        ("unprotected", report.plain_instructions),
        ("overhead", report.overhead_instructions),
    ]
    lines = [f"{report.model} on {report.board} ({report.target}, {report.dtype})", ""]
    if report.trust is not None:
        lines += [*trust_lines(report.trust), ""]
    lines += [f"{label:<18} {value:>14,}" for label, value in figures if value is not None]
    if report.latency_us is not None:
        threads = f"{report.latency_threads} thread{'s' if report.latency_threads != 1 else ''}"
        lines += [f"{'latency µs':<18} {report.latency_us:>14,.2f}, {threads}"]
    if report.flash is not None:
        lines += ["", *_flash_lines(report.flash)]
    lines += ["", *_plans(report), *_table(report.nodes)]
    if report.train_nodes:
        lines += ["", "training step", "", *_table(report.train_nodes)]
    if report.notes:
        lines += ["", *(f"note: {note}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def flash_rows(flash: FlashReport) -> list[tuple[str, int]]:
    """Where the flash goes: part, bytes; without parts that are empty."""
    weights = f" (weights in the model: {flash.weights_bytes:,})" if flash.weights_bytes else ""
    rows = [
        (f"constants{weights}", flash.constants_bytes),
        *((f"{c.kernel} (layers: {c.layers})", c.bytes) for c in flash.code),
        ("kernels of TVM", flash.compiled_bytes),
        ("run, API and inlined kernels", flash.run_bytes),
        ("runtime", flash.runtime_bytes),
        ("libraries", flash.library_bytes),
        ("harness, not part of a product", flash.harness_bytes),
        ("padding", flash.padding_bytes),
    ]
    return [row for row in rows if row[1]]


def _flash_lines(flash: FlashReport) -> Iterator[str]:
    rows = flash_rows(flash)
    width = max(len(label) for label, _ in rows)
    yield "flash"
    yield from (f"  {label:<{width}} {size:>10,}" for label, size in rows)


def _plans(report: Report) -> Iterator[str]:
    arena, bound = report.arena_bytes, report.arena_lower_bound_bytes
    if report.arena_bound_counts:
        gap = arena / bound - 1 if bound else 0.0
        yield f"arena: {bound_line(report.arena_strategy, report.arena_bound_counts, gap)}"
    train, bound = report.train_arena_bytes, report.train_arena_lower_bound_bytes
    if train and bound and report.train_arena_bound_counts:
        line = bound_line(
            report.train_arena_strategy, report.train_arena_bound_counts, train / bound - 1
        )
        yield f"training arena: {line}"
    yield ""


def trust_lines(trust: TrustReport) -> Iterator[str]:
    """How a protected project is divided, in words."""
    quota = "" if trust.quota is None else f", {trust.quota:,} queries per boot"
    yield f"protected: {trust.mode}, for device {trust.device}{quota}"
    if trust.simulated:
        yield SIMULATED
    yield (
        f"cut at {short_name(trust.cut, 40)}: {trust.channels:,} channels, "
        f"{trust.classes:,} secret orders; {trust.parameters_above:,} parameters above, "
        f"{trust.parameters_locked:,} of {trust.parameters_below:,} below are locked"
    )
    if trust.bridge:
        names = ", ".join(short_name(name, 40) for name in trust.bridge)
        blind = trust.mode == "coreguard-otp"
        where = "on blinded integers" if blind else "only in the secure world"
        yield f"{where}: {names}, {trust.parameters_withheld:,} parameters"
    if not (trust.release or trust.simulated):
        yield "a secure image for an emulator: `protect --release` makes that of a product"
    for text in trust.requires:
        yield f"the board needs {text}"


def _table(nodes: Sequence[NodeReport]) -> Iterator[str]:
    head = ("#", "node", "operator", "kernel", "MACs", "constants", "arena")
    rows = [head, *(_row(node) for node in nodes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    right = (0, 4, 5)
    for row in rows:
        cells = (
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        )
        yield "  ".join(cells).rstrip()


def _row(node: NodeReport) -> tuple[str, ...]:
    reads = " ".join(f"[{p.offset}, {p.offset + p.bytes})" for p in node.inputs)
    writes = " ".join(f"[{p.offset}, {p.offset + p.bytes})" for p in node.outputs)
    kernel = node.kernel or "in place"
    return (
        str(node.index),
        short_name(node.name, 40),
        node.op,
        kernel,
        f"{node.macs:,}",
        f"{node.bytes:,}",
        f"{reads} -> {writes}",
    )
