"""Accuracy of on-device training on the CIFAR subset, in the simulator that is the device's twin.

    python tests/benchmarks/training_accuracy.py RUNS.toml RESULTS.jsonl [--cache DIR]

Every `[[run]]` of RUNS.toml is one line of RESULTS.jsonl, with the correctness of every held-out
image so that runs can be compared in pairs; runs that are there already are skipped. The protocol:
2,000 training images (fixed), 128×128 by bilinear interpolation, batch 1, cosine; `val` is 660
unseen images for choosing rates, `hold` the official 846 test images and 2,000 unused ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.shared import shared_data, shared_models
from tinsmith import paths, pipeline
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import (
    build_backward,
    lower_requantize,
    replace_classifier,
    select_updates,
)
from tinsmith.train.scheme import Update, read_scheme
from tinsmith.train.simulate import Encoded, Trainer, fit
from tinsmith.train.variations import Variation

TRAIN, VAL = 2000, 660


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """scheme: a published label, or "" with `update` tables. The rest as in `fit`, `Variation`."""

    name: str
    rate: float
    net: str = "mcunet-5fps"
    scheme: str = "99kb"
    update: tuple[Update, ...] = ()
    bias_only: bool = False
    rule: str = "residual8"
    numbers: str = "int8"
    gradients: str = "int8"
    qas: bool = True
    body_rate: float = 1.0
    schedule: str = "cosine"
    epochs: int = 4
    seed: int = 0
    train: int = TRAIN


class Runs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    run: tuple[Run, ...]


def build(run: Run) -> Graph:
    """The training graph of a run."""
    name = f"{run.net}-{run.scheme or '99kb'}.toml"
    scheme = msgspec.structs.replace(read_scheme(paths.GRAPHS / "schemes" / name), rule=run.rule)
    if not run.scheme:
        scheme = msgspec.structs.replace(scheme, update=run.update)
    if run.bias_only:
        kept = tuple(u for u in scheme.update if not u.weights)
        scheme = msgspec.structs.replace(scheme, update=kept)
    context = PassContext(options={"scheme": scheme})
    graph = pipeline.canonical(shared_models() / "mcu_nets" / f"{run.net}_int8.onnx", context)
    int8 = [p for p in pipeline.TO_INT8 if p is not lower_requantize.PASS]
    passes = [
        *int8,
        replace_classifier.PASS,
        lower_requantize.PASS,
        select_updates.PASS,
        build_backward.PASS,
    ]
    return run_passes(graph, passes, context)


def images(split: str) -> tuple[Array, Array]:
    """int8[n,1,128,128,3] and labels of "train" or "test"."""
    with np.load(shared_data() / "cifar10_subset.npz") as data:
        x, y = data[f"x_{split}"], data[f"y_{split}"]
    return x, y.astype(np.int64)


def enlarged(image: Array, size: int = 128) -> Array:
    """uint8[32,32,3] → int8[1,size,size,3], bilinear with half-pixel centres, minus 128."""
    position = np.clip((np.arange(size) + 0.5) * image.shape[0] / size - 0.5, 0, None)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, image.shape[0] - 1)
    part = (position - low).astype(np.float32)
    rows = image[low] * (1 - part)[:, None, None] + image[high] * part[:, None, None]
    both = rows[:, low] * (1 - part)[None, :, None] + rows[:, high] * part[None, :, None]
    return (np.clip(np.rint(both), 0, 255) - 128).astype(np.int8)[None]


def encoded(trainer: Trainer, split: str, cache: Path | None) -> list[Encoded]:
    """Every image of a split up to the first layer that learns."""
    names = [v.name for v in trainer.between]
    key = f"{trainer.graph.name}.{split}.{trainer.variation.numbers == 'float32'}.{names}"
    path = cache and cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if path and path.exists():
        with np.load(path) as stored:
            columns = [stored[f"a{i}"] for i in range(len(stored.files))]
        return list(zip(*columns, strict=True))
    samples = [trainer.encode([enlarged(x)]) for x in images(split)[0]]
    if path:
        columns = {f"a{i}": np.stack(c) for i, c in enumerate(zip(*samples, strict=True))}
        np.savez(path, **columns)
    return samples


def run_one(run: Run, cache: Path | None) -> Mapping[str, Any]:
    """Trains and measures; times are of the process."""
    variation = Variation(run.numbers, run.gradients, run.qas, run.body_rate)  # type: ignore[arg-type]
    trainer = Trainer(build(run), variation)
    x, y = encoded(trainer, "train", cache), images("train")[1]
    tests, labels = encoded(trainer, "test", cache), images("test")[1]
    order = np.random.default_rng(7).permutation(len(y))
    mine, rest = order[: run.train], order[run.train :]
    started = time.process_time()
    history = fit(
        trainer,
        [x[i] for i in mine],
        y[mine],
        epochs=run.epochs,
        rate=run.rate,
        schedule=run.schedule,  # type: ignore[arg-type]
        seed=run.seed,
    )
    seconds = time.process_time() - started
    right_test = trainer.predict(tests) == labels
    right_rest = trainer.predict([x[i] for i in rest]) == y[rest]
    hold = np.concatenate([right_test, right_rest[VAL:]])
    return {
        **msgspec.to_builtins(run),
        "val": 100 * float(right_rest[:VAL].mean()) if len(rest) else None,
        "test": 100 * float(right_test.mean()),
        "hold": 100 * float(hold.mean()),
        "bits": np.packbits(hold).tobytes().hex(),
        "last_loss": float(np.mean(history.losses[-run.train :])),
        "rollbacks": history.rollbacks,
        "gave_up": history.gave_up,
        "step_ms": 1000 * seconds / max(1, len(history.losses)),
    }


def pending(runs: Runs, results: Path) -> Iterator[Run]:
    """Those that have no line yet."""
    lines = results.read_text().splitlines() if results.exists() else []
    fields = {f.name for f in msgspec.structs.fields(Run)}
    done = [{k: v for k, v in json.loads(line).items() if k in fields} for line in lines]
    return (r for r in runs.run if json.loads(msgspec.json.encode(r)) not in done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    runs = msgspec.toml.decode(args.runs.read_bytes(), type=Runs)
    for run in pending(runs, args.results):
        result = run_one(run, args.cache)
        with args.results.open("a") as out:
            out.write(json.dumps(result) + "\n")
        shown = {k: result[k] for k in ("val", "test", "hold", "rollbacks", "step_ms")}
        print(run.net, run.scheme, run.name, run.rate, run.seed, shown, flush=True)


if __name__ == "__main__":
    main()
