"""Scheduled PrimFuncs → one CUDA source, and how each of its kernels is launched.

TVM's own runtime is not used: the source is taken from its code generator and compiled by nvcc in
`nvcc.py`; grid, block and the order of parameters are read from the host side of the lowered module
and launched by `runtime_c/cuda/ts_cuda.c`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import InternalError
from ..import_tvm import PrimFunc, tirx, tvm, tvm_ffi
from .launch import DeviceCode, Launch

MAX_SHARED_BYTES = 48 * 1024  # what a block has without asking for more
_AXES = ("blockIdx.x", "blockIdx.y", "blockIdx.z", "threadIdx.x", "threadIdx.y", "threadIdx.z")


def device_code(functions: Mapping[str, PrimFunc], arch: str) -> DeviceCode:
    """Lower PrimFuncs for an architecture such as "sm_90".

    Raises InternalError when a schedule leaves something on the host.
    """
    target = cuda_target(arch)
    named = {name: f.with_attr("global_symbol", name) for name, f in functions.items()}
    module = tirx.transform.BindTarget(target)(tvm.IRModule(named))
    pipeline, _, finalize = tirx.get_default_tir_pipeline(target)
    build: Any = importlib.import_module("tvm.tirx.build")  # `tvm.tirx.build` is its function
    # Storage rewriting gives int8 and int32 tiles of shared memory one buffer, which the access
    # pointers of the intrinsics then refuse; registers are nvcc's affair anyway.
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        host, devices = build.split_host_device_mods(pipeline(module))
    if len(devices) != 1:
        raise InternalError("a schedule for the GPU bound no loop to its threads")
    (device,) = devices.values()
    device = finalize()(device)
    source = build.codegen_build(device, target).inspect_source()
    kernels = {f.attrs["global_symbol"]: f for f in device.functions.values()}
    launches = {name: tuple(_launches(name, host[name], kernels)) for name in functions}
    return DeviceCode(_tidy(source), launches)


def cuda_target(arch: str) -> Any:
    """TVM's target of an architecture."""
    facts = {
        "kind": "cuda",
        "arch": arch,
        "max_threads_per_block": 1024,
        "max_shared_memory_per_block": MAX_SHARED_BYTES,
        "thread_warp_size": 32,
    }
    return tvm.target.Target(facts, host={"kind": "llvm"})


def _launches(name: str, host: PrimFunc, kernels: Mapping[str, PrimFunc]) -> Iterator[Launch]:
    calls: list[Any] = []

    def visit(call: Any) -> None:
        if getattr(call.op, "name", "") == _KERNEL_CALL:
            calls.append(call)

    tvm_ffi.structural_walk(host.body, (tvm.ir.Call, visit), order="post")
    if not calls:
        raise InternalError(f"{name} became no kernel")
    for call in calls:
        kernel = str(call.args[0].value)
        function = kernels[kernel]
        parameters = tuple(p.name.removesuffix("_ptr") for p in function.params)
        axes = [str(axis) for axis in function.attrs["tirx.kernel_launch_params"]]
        extents = [int(a) for a in call.args[1 + len(parameters) :]]
        sizes = dict.fromkeys(_AXES, 1) | dict(zip(axes, extents, strict=True))
        x, y, z, tx, ty, tz = (sizes[axis] for axis in _AXES)
        yield Launch(kernel, parameters, (x, y, z), (tx, ty, tz))


_KERNEL_CALL = "tirx.call_ffi_kernel"


# TVM writes uint8 like this, and a broadcast of 16 int8 as a call of that; CUDA has neither.
_PRELUDE = """
using uchar = unsigned char;

static __device__ __forceinline__ int4 make_int4(
    signed char a0, signed char a1, signed char a2, signed char a3, signed char a4, signed char a5,
    signed char a6, signed char a7, signed char a8, signed char a9, signed char a10,
    signed char a11, signed char a12, signed char a13, signed char a14, signed char a15) {
  const auto word = [](signed char a, signed char b, signed char c, signed char d) {
    return (int)((unsigned char)a | (unsigned)(unsigned char)b << 8 |
                 (unsigned)(unsigned char)c << 16 | (unsigned)(unsigned char)d << 24);
  };
  return make_int4(word(a0, a1, a2, a3), word(a4, a5, a6, a7), word(a8, a9, a10, a11),
                   word(a12, a13, a14, a15));
}

"""


def _tidy(source: str) -> str:
    """The kernels alone, after what they need: TVM's header serves other kernels and compilers."""
    start = source.find('extern "C" __global__')
    kernels = re.sub(r'^extern "C" __global__ [^{}]*;\n', "", source[start:], flags=re.MULTILINE)
    return "#include <cstdint>\n#include <mma.h>\n" + _PRELUDE + kernels
