"""What `bench` says of a project, by name."""

from __future__ import annotations

from ..codegen.report import Report


def bench_figures(report: Report) -> dict[str, int | float | None]:
    """The figures of `bench`, and of `bench --json`; None for what was not measured."""
    figures: dict[str, int | float | None] = {
        "latency_us": report.latency_us,
        "latency_threads": report.latency_threads,
        "kernels_bytes": report.kernels_bytes,
        "instructions_per_inference": report.instructions_per_inference,
        "cycles_per_inference": report.cycles_per_inference,
        "flash_bytes": report.flash_bytes,
        "model_flash_bytes": report.model_flash_bytes,
        "ram_bytes": report.ram_bytes,
        "arena_bytes": report.arena_bytes,
        "stack_bytes": report.stack_bytes,
        "macs": report.macs,
    }
    if report.train_nodes:
        figures |= {
            "train_step_instructions": report.train_step_instructions,
            "train_ram_bytes": report.train_ram_bytes,
            "train_arena_bytes": report.train_arena_bytes,
            "state_bytes": report.state_bytes,
        }
    if report.trust is not None:
        figures |= {
            "secure_flash_bytes": report.secure_flash_bytes,
            "secure_ram_bytes": report.secure_ram_bytes,
            "gateway_calls": report.gateway_calls,
            "secure_instructions": report.secure_instructions,
            "bridge_instructions": report.bridge_instructions,
            "plain_instructions": report.plain_instructions,
            "overhead_instructions": report.overhead_instructions,
        }
    return figures
