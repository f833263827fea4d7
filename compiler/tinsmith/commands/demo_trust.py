"""The demonstration of protection: a model that works on the device it was made for, only there.

Two devices of one vendor. Then somebody copies the non-secure image of one to the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .. import paths
from ..errors import NotAuthentic
from ..ir.dtypes import Array
from ..pipeline import compile_model
from ..runner.bench import bench
from ..runner.compare import verify
from ..runner.run import run
from ..trust import keys
from ..trust.manifest import (
    NONSECURE_IMAGE,
    image_hash,
    read_manifest,
    write_manifest,
)
from ..trust.project import Protection, protect_project
from ..trust.seal import seal_image
from .console import out, print_json, progress, reported, table
from .options import AsJson, TrustMode

MODEL = "digits_dscnn"
MINE, OTHER = "device-1", "device-2"


@dataclass(frozen=True)
class Outcome:
    """accuracy: of device 1, bit-identical to the unprotected model. stolen: its non-secure image
    beside the secure image of device 2, which starts it (`refused`) only after it was tampered
    with. Instructions of one inference; the overhead is beside the unprotected model."""

    model: str
    board: str
    mode: str
    samples: int
    bit_exact: bool
    accuracy: float
    refused: bool
    stolen: float
    chance: float
    instructions_per_inference: int | None
    overhead_instructions: int | None
    gateway_calls: int | None
    folder: str


@reported
def demo_trust(
    board: Annotated[str, typer.Option(help="an emulated board with TrustZone")] = "mps2-an505",
    trust: TrustMode = "withhold",
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")] = Path("tinsmith-demo"),
    samples: Annotated[int, typer.Option(min=1, help="how many test samples to run")] = 100,
    json: AsJson = False,
) -> None:
    """Protect a model for two devices, steal the image of one, and run it on the other."""
    mode = trust or "withhold"
    with progress("demo") as step:
        outcome = demonstrate(board, mode, output / f"{MODEL}-{mode}-{board}", samples, step)
    if json:
        print_json(asdict(outcome))
        return
    refused = "refused at boot" if outcome.refused else "started"
    rows = [
        ("on the device it was made for", f"{outcome.accuracy:.1%}, bit-identical to the model"),
        (f"its non-secure image, copied to {OTHER}", refused),
        ("the same, with the check at boot removed", f"{outcome.stolen:.1%}"),
        ("chance", f"{outcome.chance:.1%}"),
    ]
    made = table(f"{MODEL}, {mode}, on {board}: {outcome.samples} test samples", ("", ""), rows, 2)
    made.show_header = False
    out().print(made)
    if outcome.overhead_instructions is not None and outcome.instructions_per_inference:
        share = outcome.overhead_instructions / outcome.instructions_per_inference
        cost = f"{outcome.overhead_instructions:,} of {outcome.instructions_per_inference:,}"
        out().print(f"it costs {cost} instructions, {share:.1%}; see docs/trust.md", markup=False)


def demonstrate(
    board: str, mode: str, folder: Path, count: int, step: Callable[[str], None]
) -> Outcome:
    """Make the pairs in `folder`, run them. Raises what these raise, VerificationFailed when a
    single bit of the protected model differs."""
    source, vendor = paths.GRAPHS / MODEL, folder / "vendor"
    step(f"compiling {MODEL} for {board}")
    compile_model(
        source / "model.onnx",
        board=board,
        out=vendor,
        calibrate=source / "calibration.npz",
        trust=Protection(mode),
        name=MODEL,
        pictures=False,
    )
    secret = folder / "root.key"
    if not secret.exists():
        keys.new_secret(secret)
    for device in (MINE, OTHER):
        step(f"protecting it for {device}")
        protect_project(vendor, folder / device, secret=secret, device=device, pictures=False)
    with np.load(source / "samples.npz", allow_pickle=False) as archive:
        inputs, labels = archive["x"][:count], archive["label"][:count]
    step("running the samples")
    result = verify(folder / MINE, {"x": inputs})
    result.check()
    step("running the stolen image")
    refused, stolen = _steal(folder, {"x": inputs})
    step("measuring")
    report = bench(folder / MINE)
    return Outcome(
        model=MODEL,
        board=board,
        mode=mode,
        samples=len(inputs),
        bit_exact=result.max_difference == 0,
        accuracy=_accuracy(result.run.device_outputs[0], labels),
        refused=refused,
        stolen=_accuracy(stolen, labels),
        chance=1 / report.outputs[0].shape[-1],
        instructions_per_inference=report.instructions_per_inference,
        overhead_instructions=report.overhead_instructions,
        gateway_calls=report.gateway_calls,
        folder=str(folder),
    )


def _steal(folder: Path, inputs: dict[str, Array]) -> tuple[bool, Array]:
    """(whether the other device refuses to start the image, what it computes when forced to).

    Forced: the thief owns the other device and binds its secure image to the stolen one.
    """
    thief, stolen = folder / "thief", folder / MINE / NONSECURE_IMAGE
    shutil.rmtree(thief, ignore_errors=True)
    shutil.copytree(folder / OTHER, thief)
    shutil.copy(stolen, thief / NONSECURE_IMAGE)
    own = read_manifest(thief)
    forged = msgspec.structs.replace(own, nonsecure_sha256=image_hash(stolen))
    write_manifest(thief, forged.signed(Ed25519PrivateKey.generate()))
    try:
        run(thief, {name: array[:1] for name, array in inputs.items()})
        refused = False
    except NotAuthentic:
        refused = True
    seal_image(thief, stolen)
    return refused, run(thief, inputs).device_outputs[0]


def _accuracy(scores: Array, labels: Array) -> float:
    return float(np.mean(scores.reshape(len(scores), -1).argmax(1) == labels))
