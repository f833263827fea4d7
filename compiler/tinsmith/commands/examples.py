"""What to type: the examples at the end of every `--help`. A test parses each of them."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "check": ("check model.onnx", "check model.onnx --bind height=96 --bind width=96"),
    "boards": ("boards", "boards --json"),
    "targets": ("targets",),
    "ops": ("ops --json",),
    "doctor": ("doctor",),
    "analyze": ("analyze model.onnx --board mps2-an500 --calibrate samples.npz",),
    "quantize": (
        "quantize model.onnx --calibrate samples.npz -o model_int8.onnx",
        "quantize model.onnx --calibrate samples.npz --finetune train.npz -o model_int8.onnx",
    ),
    "compile": (
        "compile model_int8.onnx --board mps2-an500 -o out",
        "compile model.onnx --board mps2-an386 --calibrate samples.npz --optimize flash -o out",
        "compile model.onnx --board mps2-an500 --calibrate samples.npz --train update.toml -o out",
    ),
    "build": ("build", "build m4 m55 --file firmware/tinsmith.toml"),
    "package": (
        "package out --kind cmake",
        "package out --kind zephyr --kind arduino --package-version 2.1.0 -o dist",
    ),
    "protect": (
        "protect --new-secret root.key",
        "protect out --secret root.key --device sensor-17 --trust withhold -o sensor-17",
    ),
    "seal": ("seal sensor-17 --image app.elf",),
    "authorize": (
        "authorize sensor-17 --delta trained.delta --secret root.key --device sensor-17 "
        "--sequence 4 -o signed.delta",
    ),
    "images": ("images sensor-17 --verify-with maker.pub.pem",),
    "attack": ("attack sensor-17 --data labelled.npz",),
    "flash": (
        "flash out",
        "flash out --probe 066CFF575251717867 --dry-run",
        "flash out --labgrid nucleo-l4 --coordinator lab:20408",
    ),
    "lab": ("lab nightly.toml", "lab nightly.toml --jobs 4 --fresh -o out/nightly"),
    "run": ("run out --input samples.npz --output answers.npz --float",),
    "bench": (
        "bench out --layers",
        "bench model_int8.onnx --board linux-x86_64 --against all",
    ),
    "profile": ("profile out",),
    "verify": (
        "verify out",
        "verify out --input samples.npz",
        "verify out --labgrid nucleo-l4",
    ),
    "diff": (
        "diff model.onnx out --input samples.npz",
        "diff out:oracle out",
    ),
    "report": ("report out", "report before after -o change.html"),
    "train": ("train out --data train.npz --epochs 5",),
    "train-plan": (
        "train-plan model.onnx --board mps2-an500 --ram 262144 --data train.npz -o plan",
    ),
    "tune": ("tune model.onnx --board linux-x86_64 -o tuned.json",),
    "demo": ("demo --model digits_dscnn --board mps2-an500",),
    "demo-training": ("demo-training -o out/demo",),
    "demo-trust": ("demo-trust -o out/demo",),
}


def epilog(command: str) -> str | None:
    """The examples of a command as click shows them, unwrapped; None without any."""
    lines = EXAMPLES.get(command)
    if lines is None:
        return None
    head = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", head, *(f"  tinsmith {line}" for line in lines)])
