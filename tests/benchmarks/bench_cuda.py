"""Networks on this machine's GPU beside torch, eager and compiled, in the same run.

`python tests/benchmarks/bench_cuda.py --markdown docs/tvm.md`. Needs an NVIDIA GPU, nvcc, and for
torch's columns `pip install torch` with CUDA. Ours is int8; torch has no int8 convolutions on a
GPU, so its networks are the float ones, in float32 and in float16.

Calls alternate in random order, rounds are paired. "on the device": inputs and outputs stay in the
GPU's memory. "with copies": from the caller's memory and back.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.tables import markdown, write_between
from tests.shared import shared_models
from tinsmith.codegen.c_text import c_model_name
from tinsmith.errors import CompileError, MissingTool
from tinsmith.pass_manager import PassContext
from tinsmith.peers.interleave import interleave
from tinsmith.peers.torch_network import torch_network
from tinsmith.pipeline import canonical, compile_model
from tinsmith.quant.batch import with_batch
from tinsmith.runner.project import Project, open_project
from tinsmith.runner.protocol import GPU_TEXTS
from tinsmith.toolchain.compile_c import compile_sources, link_elf, source_files

MODELS = (
    *(f"mlperf_tiny/{name}" for name in ("ad", "kws", "ic", "vww")),
    *(f"mcu_nets/{name}" for name in ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3")),
)
BATCHES = (1, 256)
PLACES = ("on the device", "with copies")
TORCH = ("eager float32", "eager float16", "compiled float32", "compiled float16")
_OURS = """#include "{name}.h"
static {name}_context context;
static _Alignas({macro}_ARENA_ALIGNMENT) uint8_t arena[{macro}_ARENA_BYTES];
int bench_init(void);
int bench_run(void);
int bench_run_resident(void);
int bench_selftest(void);
const char *bench_message(void);
int bench_init(void) {{ return (int){name}_init(&context, arena, sizeof arena); }}
int bench_run(void) {{ return (int){name}_run(&context); }}
int bench_run_resident(void) {{ return (int){name}_run_resident(&context); }}
int bench_selftest(void) {{ return (int){name}_selftest(&context); }}
const char *bench_message(void) {{ return {name}_message(&context); }}
"""


@dataclass(frozen=True)
class Row:
    """Median microseconds of a call, by contender; a call computes `batch` samples."""

    model: str
    batch: int
    place: str
    microseconds: dict[str, float]


class Ours:
    """A compiled project, in this process. Raises MissingTool without the GPU it is for."""

    def __init__(self, project: Project) -> None:
        self._library = ctypes.CDLL(str(build_library(project)))
        self._library.bench_message.restype = ctypes.c_char_p
        status = self._library.bench_init()
        if status in GPU_TEXTS:
            raise MissingTool(
                f"nothing to measure here: {self._library.bench_message().decode()}",
                hint="run it where an NVIDIA GPU is; --board names its compute capability",
            )
        if status != 0 or self._library.bench_selftest() != 0:
            raise CompileError(f"{project.folder}: the model does not compute what it should")
        self.calls: dict[str, Callable[[], object]] = dict(
            zip(PLACES, (self._library.bench_run_resident, self._library.bench_run), strict=True)
        )


def build_library(project: Project) -> Path:
    """The project as a shared library with functions to call from here."""
    folder, board = project.folder, project.board
    name = c_model_name(project.graph.name)
    output = Path("build/gpu")
    (folder / output).mkdir(parents=True, exist_ok=True)
    text = _OURS.format(name=name, macro=name.upper())
    (folder / output / "bench.c").write_text(text)
    own = [p for p in source_files(folder) if p.parts[0] != "harness"]
    includes = [".", "runtime/include", "runtime"]
    sources = [*own, output / "bench.c"]
    objects = compile_sources(folder, board, sources, output / "obj", includes, ["-fPIC"])
    library = folder / output / "model.so"
    link_elf(folder, board, objects, library, flags=["-shared", "-fPIC"])
    return library


def torch_calls(model: str, batch: int, torch: Any) -> dict[str, dict[str, Callable[[], object]]]:
    """By contender and place: a call that is done when it returns."""
    graph = with_batch(canonical(shared_models() / f"{model}_f32.onnx", PassContext()), batch)
    shape = graph.inputs[0].type.shape
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    calls: dict[str, dict[str, Callable[[], object]]] = {}
    for label in TORCH:
        dtype = torch.float16 if label.endswith("16") else torch.float32
        network = torch_network(graph, torch).to("cuda", dtype)
        if label.startswith("compiled"):
            network = torch.compile(network, mode="max-autotune")  # records CUDA graphs too
        host = torch.from_numpy(data).to(dtype).pin_memory()
        calls[label] = dict(zip(PLACES, _both(network, host, torch), strict=True))
    return calls


def _both(network: Any, host: Any, torch: Any) -> tuple[Callable[[], object], ...]:
    device = host.to("cuda")

    def resident() -> None:
        with torch.inference_mode():
            network(device)
        torch.cuda.synchronize()

    def copied() -> None:
        with torch.inference_mode():
            for output in network(host.to("cuda", non_blocking=True)):
                output.cpu()

    for call in (resident, copied):
        for _ in range(5):  # compiles, and records graphs
            call()
    return resident, copied


def _require_driver() -> None:
    """Raises MissingTool before anything is compiled for nothing."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise MissingTool(
            f"there is no NVIDIA driver: {error}",
            hint="run it where an NVIDIA GPU is; --board names its compute capability",
        ) from error


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Raises MissingTool without a GPU, without nvcc, or without torch unless it is left out."""
    _require_driver()
    torch = None if options.no_torch else _torch()
    for model in MODELS:
        if options.only and not any(part in model for part in options.only):
            continue
        for batch in options.batches:
            source = shared_models() / f"{model}_int8.onnx"
            out = folder / f"{Path(model).name}_{batch}"
            compile_model(source, board=options.board, out=out, batch=batch, pictures=False)
            contenders = {"tinsmith int8": Ours(open_project(out)).calls}
            if torch is not None:
                contenders |= torch_calls(model, batch, torch)
            for place in PLACES:
                calls = [c[place] for c in contenders.values()]
                seconds = np.median(interleave(calls, rounds=options.rounds), axis=1)
                times = dict(zip(contenders, (float(s) * 1e6 for s in seconds), strict=True))
                yield Row(Path(model).name, batch, place, times)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingTool("torch is not installed", hint="pip install torch") from error
    if not torch.cuda.is_available():
        raise MissingTool("torch finds no GPU", hint="--no-torch measures ours alone")
    return torch


def page_of(rows: Sequence[Row], board: str) -> str:
    """A table: microseconds of ours, and how many times as long torch takes."""
    head = ("model", "batch", "", "tinsmith int8, µs", *(f"torch {t}, ratio" for t in TORCH))
    lines: list[tuple[object, ...]] = []
    for row in rows:
        ours, *theirs = row.microseconds.values()
        ratios = [f"{t / ours:.2f}" for t in theirs] or ["—"] * len(TORCH)
        lines.append((row.model, row.batch, row.place, f"{ours:.1f}", *ratios))
    return f"Board {board}.\n\n{markdown(head, lines)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="cuda-sm90")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--only", nargs="*", help="parts of names of models")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--markdown", type=Path, help="write the table into this file")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        try:
            for row in measure(options, Path(temporary)):
                rows.append(row)
                print(row.model, row.batch, row.place, row.microseconds, flush=True)
        except CompileError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    text = page_of(rows, options.board)
    print(f"\n{text}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cuda.json").write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    if options.markdown:
        write_between(options.markdown, "gpu benchmarks", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
