"""How the result of a fine-tune looks on a terminal and as JSON."""

from __future__ import annotations

from ..recover_accuracy import FineTuned, Judged
from .console import out


def fine_tuned_data(tuned: FineTuned | None) -> dict[str, object] | None:
    """Of `quantize --json`; None where nothing was fine-tuned."""
    if tuned is None:
        return None
    return {
        "learnt_from": "labels" if tuned.labelled else "the float model",
        "samples": tuned.trained_on,
        "held_out": tuned.held,
        "accuracy_of_float": tuned.float_accuracy,
        "accuracy_before": tuned.before.accuracy,
        "accuracy_after": tuned.after.accuracy,
        "loss_before": tuned.before.loss,
        "loss_after": tuned.after.loss,
        "kept_epoch": tuned.epoch,
        "rollbacks": tuned.history.rollbacks,
    }


def show_fine_tuned(tuned: FineTuned) -> None:
    """Before and after on the samples that did not train, and what was kept."""
    before, after = _judged(tuned.before, tuned), _judged(tuned.after, tuned)
    text = f"fine-tuned on {tuned.trained_on:,} samples; on {tuned.held:,} others: "
    float_ = "" if tuned.float_accuracy is None else f"float {tuned.float_accuracy:.1%}, "
    out().print(f"{text}{float_}{before} before, {after} after", markup=False)
    if not tuned.epoch:
        hint = "it was no better: the weights are as they were; try another --rate or more samples"
        out().print(hint, markup=False)
    else:
        out().print(f"the weights of epoch {tuned.epoch} are kept", markup=False)


def _judged(judged: Judged, tuned: FineTuned) -> str:
    if judged.accuracy is None:
        return f"mean loss {judged.loss:.4g}"
    what = "" if tuned.labelled else " agree with float"
    return f"{judged.accuracy:.1%}{what} (loss {judged.loss:.4g})"
