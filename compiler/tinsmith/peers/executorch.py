"""ExecuTorch with its XNNPACK backend, on the network rebuilt in torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph
from .contender import Contender, Feed, NotComparable, Peer, Subject, load
from .torch_network import edges, torch_network

_PARTITIONER = "executorch.backends.xnnpack.partition.xnnpack_partitioner"
_BINDINGS = "executorch.extension.pybindings.portable_lib"
_DELEGATE = "executorch_call_delegate"


@dataclass(frozen=True)
class Program:
    """types: of the inputs. outside: operators that XNNPACK leaves to the portable kernels."""

    code: bytes
    types: tuple[np.dtype[Any], ...]
    outside: int


class ExecuTorchModule:
    """A program in memory. Its pool of threads is one for the whole process."""

    def __init__(self, program: Program, threads: int) -> None:
        self._torch = load("torch")
        self.label = "executorch"
        self._types = program.types
        outside = program.outside
        self.settings = "XNNPACK" + (f", {outside} operators outside it" if outside else "")
        bindings = load(_BINDINGS)
        bindings._unsafe_reset_threadpool(threads)
        self._program = program.code  # the module reads its constants there
        self._module: Any = bindings._load_for_executorch_from_buffer(program.code)
        self._inputs: tuple[Any, ...] = ()
        self._outputs: Sequence[Any] = ()

    def give(self, feeds: Sequence[Feed]) -> None:
        """See Contender."""
        arrays = [f.of_type(t) for f, t in zip(feeds, self._types, strict=True)]
        self._inputs = tuple(self._torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)

    def run(self) -> object:
        """See Contender."""
        self._outputs = self._module.forward(self._inputs, clone_outputs=False)
        return self._outputs

    def outputs(self) -> Sequence[Array]:
        """See Contender."""
        return [o.numpy().copy() for o in self._outputs]


def program(graph: Graph) -> Program:
    """Export a FLOAT graph in ONNX layout. Raises NotComparable."""
    torch = load("torch")
    first, _ = edges(graph)
    int8 = np.dtype(np.int8)
    types = tuple(int8 if v in first else np.dtype(v.type.dtype.numpy) for v in graph.inputs)
    exir = load("executorch.exir")  # registers torch's quantize operators, too
    partitioner = load(_PARTITIONER).XnnpackPartitioner()
    module = torch_network(graph, torch)
    example = tuple(
        torch.from_numpy(np.zeros(v.type.shape, t))
        for v, t in zip(graph.inputs, types, strict=True)
    )
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = torch.export.export(module, example)
            edge = exir.to_edge_transform_and_lower(exported, partitioner=[partitioner])
            calls = [n for n in edge.exported_program().graph.nodes if n.op == "call_function"]
            outside = [
                n for n in calls
                if getattr(n.target, "__name__", "") not in (_DELEGATE, "getitem")
            ]  # fmt: skip
            return Program(edge.to_executorch().buffer, types, len(outside))
    except Exception as error:  # the exporter raises whatever a pass of torch's raises
        raise NotComparable(
            f"cannot export the network: {type(error).__name__}: {error}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def prepare(subject: Subject, threads: int) -> Sequence[Contender]:
    """One form."""
    return [ExecuTorchModule(_program(subject), threads)]


@lru_cache(maxsize=1)
def _program(subject: Subject) -> Program:
    """Exporting takes long, and is the same for any number of threads."""
    return program(subject.graph)


PEER = Peer("executorch", "executorch", prepare)
