"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from ..errors import BadInput, CompileError
from ..quant.ranges import Method

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="an ONNX model", show_default=False)]
Project = Annotated[
    Path, typer.Argument(metavar="DIR", help="what `tinsmith compile` made", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON on stdout and nothing else")]
Bind = Annotated[
    list[str] | None,
    typer.Option("--bind", metavar="NAME=SIZE", help="size of a dynamic dimension; repeatable"),
]
Samples = Annotated[
    Path | None,
    typer.Option(
        "--calibrate", metavar="F.npz", help="samples that a float model is quantised with"
    ),
]
MethodName = Annotated[
    str,
    typer.Option("--method", help="of calibration: auto, minmax, percentile, mse or entropy"),
]
Dtype = Annotated[str, typer.Option("--dtype", help="int8 or float32")]
Board = Annotated[str, typer.Option("--board", help="see `tinsmith boards`", show_default=False)]
TrustMode = Annotated[
    str | None,
    typer.Option("--trust", metavar="MODE", help="two images: withhold, permute or coreguard-otp"),
]
TrustCut = Annotated[
    str | None,
    typer.Option("--trust-cut", metavar="NODE", help="the node after which to cut"),
]
FoldChannels = Annotated[
    bool,
    typer.Option("--fold-channels/--no-fold-channels", help="leave out channels that never change"),
]
Optimize = Annotated[
    str, typer.Option("--optimize", metavar="GOAL", help="instructions, cycles, flash or ram")
]
Budget = Annotated[int | None, typer.Option(min=1, help="bytes, in place of the board's")]
KernelFile = Annotated[
    Path | None,
    typer.Option("--kernels", metavar="F.toml", help="nodes whose kernel is not to be chosen"),
]
TunedFile = Annotated[
    Path | None, typer.Option("--tuned", metavar="F.json", help="what `tinsmith tune` found")
]
Quota = Annotated[
    int | None,
    typer.Option("--quota", min=1, help="inferences that the secure world allows per boot"),
]
VerifyWith = Annotated[
    Path | None,
    typer.Option(
        "--verify-with", metavar="KEY.pub.pem", help="who must have signed a protected project"
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="NAMES", help="of onnxruntime, litert, executorch; or all, installed"
    ),
]
Cpu = Annotated[
    str | None,
    typer.Option(
        "--cpu", metavar="TARGET", help="of a board with several; default: this machine's"
    ),
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="samples that a run computes")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="of a board whose kernels come from TVM; 1"),
]
OptionalBoard = Annotated[str | None, typer.Option("--board", help="of --against")]
ThreadCounts = Annotated[
    str,
    typer.Option("--threads", metavar="1,all", help="of --against: how many, one after another"),
]
Rounds = Annotated[
    int, typer.Option("--rounds", min=1, help="of --against: how often each runtime has its turn")
]
TfLite = Annotated[
    Path | None,
    typer.Option(
        "--tflite", metavar="F", help="what litert runs; by default MODEL's own name with .tflite"
    ),
]
Timings = Annotated[bool, typer.Option("--timings", help="print the seconds of every pass")]


def sizes(bind: list[str] | None) -> dict[str, int]:
    """["height=96"] as {"height": 96}. Raises CompileError for anything else."""
    found: dict[str, int] = {}
    for text in bind or []:
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal() or int(size) == 0:
            raise CompileError(f"--bind {text!r} is not a size", expected="NAME=SIZE, SIZE above 0")
        found[name] = int(size)
    return found


def chosen_method(name: str) -> Method:
    """Raises BadInput for an unknown calibration method."""
    if name not in get_args(Method):
        expected = f"one of {', '.join(get_args(Method))}"
        raise BadInput(f"unknown calibration method {name!r}", expected=expected)
    return cast(Method, name)
