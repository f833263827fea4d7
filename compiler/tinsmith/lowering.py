"""From a model file to the graph that kernels are selected for: which passes run, and when."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import CompileError
from .frontend.model_file import ModelSource
from .frontend.onnx_import import import_model
from .ir.dtypes import DType
from .ir.graph import Graph
from .pass_manager import PassContext, run_passes
from .passes import (
    build_backward,
    eliminate_dead_nodes,
    fold_batch_norm,
    fold_constant_channels,
    fold_constants,
    fold_qdq,
    fuse_activation,
    fuse_bias,
    insert_qdq,
    legalize_layout,
    lower_requantize,
    replace_classifier,
    select_float_updates,
    select_updates,
)
from .quant.calibrate import calibrate
from .quant.ranges import Method
from .quant.samples import Samples, read_samples
from .train.scheme import Scheme

CANONICALIZE = (
    fold_constants.PASS,
    eliminate_dead_nodes.PASS,
    fold_batch_norm.PASS,
    fuse_bias.PASS,
    fuse_activation.PASS,
    eliminate_dead_nodes.PASS,
)
QUANTIZE = (insert_qdq.PASS,)  # with calibration only; `tinsmith quantize` stops after it
TO_INT8 = (
    legalize_layout.PASS,
    eliminate_dead_nodes.PASS,  # before nodes become integer: it joins the reshapes of new layouts
    fold_qdq.PASS,
    lower_requantize.PASS,
)
SHRINK = (fold_constant_channels.PASS,)  # after it, layers are not those of the model file
TO_FLOAT32 = (legalize_layout.PASS, eliminate_dead_nodes.PASS)
TO_LEARNABLE = (
    legalize_layout.PASS,
    eliminate_dead_nodes.PASS,
    fold_qdq.PASS,
    replace_classifier.PASS,
    lower_requantize.PASS,
)
TO_TRAINING = (*TO_LEARNABLE, select_updates.PASS, build_backward.PASS)
TO_FLOAT_TRAINING = (
    legalize_layout.PASS,
    eliminate_dead_nodes.PASS,
    replace_classifier.FLOAT_PASS,
    select_float_updates.PASS,
    build_backward.PASS,
)


def canonical(
    source: ModelSource,
    context: PassContext,
    *,
    name: str | None = None,
    bind: Mapping[str, int] | None = None,
) -> Graph:
    """Import a model and run the passes that every use of it starts with."""
    with context.step("import_model"):
        graph = import_model(source, name=name, bind=bind)
    return run_passes(graph, CANONICALIZE, context)


def lower(
    graph: Graph,
    dtype: str,
    samples: Samples | None,
    method: Method,
    context: PassContext,
    scheme: Scheme | None = None,
) -> Graph:
    """Canonical FLOAT graph → the graph that kernels are selected for, int8 or float32.

    With an update scheme: the training graph, from which `inference_graph` takes the other.
    """
    if dtype not in ("int8", "float32"):
        raise CompileError(f"unknown dtype {dtype!r}", expected="int8 or float32")
    if dtype == "float32":
        if samples is not None:
            context.note("the calibration samples are not used: --dtype float32 quantises nothing")
        if is_quantized(graph):
            raise CompileError(
                "the model is quantised and cannot run in float32", hint="leave out --dtype float32"
            )
        if scheme is None:
            return run_passes(graph, TO_FLOAT32, context)
        context.options = {**context.options, "scheme": scheme}
        return run_passes(graph, TO_FLOAT_TRAINING, context)
    graph = with_scales(graph, samples, method, context)
    if scheme is None:
        return run_passes(graph, (*TO_INT8, *SHRINK), context)
    context.options = {**context.options, "scheme": scheme}
    return run_passes(graph, TO_TRAINING, context)


def with_scales(
    graph: Graph, samples: Samples | None, method: Method, context: PassContext
) -> Graph:
    """A canonical FLOAT graph whose values have int8 scales: its own, or what the samples give.

    Raises CompileError for a float model without samples.
    """
    if samples is None and not is_quantized(graph):
        raise CompileError(
            "the model is float32, and int8 needs to know the range of its values",
            hint="give samples with --calibrate F.npz, or compile with --dtype float32",
        )
    if samples is not None:
        missing = insert_qdq.gaps(graph)
        if missing:
            with context.step("calibrate"):
                context.calibration = calibrate(graph, read_samples(samples, graph), method)
            graph = run_passes(graph, QUANTIZE, context)
        else:
            context.note("the calibration samples are not used: the model is quantised already")
    return graph


def is_quantized(graph: Graph) -> bool:
    """Whether the model brought its own int8 scales."""
    quantizers = ("quantize", "dequantize")
    return any(n.op.name in quantizers for n in graph.nodes) or any(
        v.type.dtype is DType.INT8 for v in graph.inputs
    )
