"""The demonstration of protection, on fewer samples."""

from __future__ import annotations

from pathlib import Path

from tinsmith.commands.demo_trust import demonstrate


def test_a_stolen_image_is_worthless(tmp_path: Path) -> None:
    outcome = demonstrate("mps2-an505", "withhold", tmp_path, 60, lambda step: None)
    assert outcome.bit_exact
    assert outcome.accuracy > 0.9
    assert outcome.refused
    assert outcome.stolen < 0.35
    assert outcome.gateway_calls == 1
    assert outcome.overhead_instructions is not None
    assert 0 < outcome.overhead_instructions < 0.05 * (outcome.instructions_per_inference or 0)
