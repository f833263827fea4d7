"""PrimFuncs → one relocatable object of plain C functions.

TVM's own entry takes packed arguments and checks them, some kilobytes of code per function. Here a
function takes its buffers' addresses, `int32_t f(void *x0, …)`, and nothing of TVM is called but
`__TVMBackendParallelLaunch`, a pointer that `runtime_c/tvm/ts_parallel.c` defines.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm import s_tir
from tvm.ir import PointerType, PrimType

from ..errors import InternalError
from ..machine.target import Isa
from .import_tvm import PrimFunc, tirx, tvm

_NOT_PROVIDED = (b"__TVMBackendAllocWorkspace", b"__TVMBackendParallelBarrier")


def compile_object(functions: Mapping[str, PrimFunc], isa: Isa) -> bytes:
    """An ELF object that defines every function under its name; the same input, the same bytes.

    Raises InternalError for a function that would allocate memory or wait at a barrier.
    """
    target = llvm_target(isa)
    named = {n: f.with_attr("global_symbol", n) for n, f in functions.items()}
    module = tirx.transform.BindTarget(target.with_host(target))(tvm.IRModule(named))
    lowered = tvm.ir.transform.Sequential([*_passes(), _plain_entries()])(module)
    built = tvm.get_global_func("target.build.llvm")(lowered, target)
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        path = Path(folder) / "kernels.o"
        built.write_to_file(str(path), "o")
        code = path.read_bytes()
    for name in _NOT_PROVIDED:
        if name in code:
            raise InternalError(f"a compiled kernel calls {name.decode()}, which no runtime has")
    return code


def llvm_target(isa: Isa) -> Any:
    """TVM's target of an instruction set."""
    names: dict[str, Any] = {"kind": "llvm", "mtriple": isa.triple, "mcpu": isa.mcpu}
    return tvm.target.Target(names | ({"mattr": list(isa.mattr)} if isa.mattr else {}))


def _passes() -> list[Any]:
    """`tvm.s_tir.pipeline.default_s_tir_pipeline` as far as it concerns a CPU, up to the entry."""
    return [
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.AnnotateIrregularLoop(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.NarrowDataType(32),
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(),
        tirx.transform.StorageRewrite(),
        s_tir.transform.HoistIfThenElse(),
        tirx.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.CommonSubexprElim(),
        tirx.transform.VerifyMemory(),
    ]


def _plain_entries() -> Any:
    @tvm.transform.module_pass(opt_level=0)
    def entries(module: Any, context: Any) -> Any:
        del context
        made = {gv: _with_plain_entry(f) for gv, f in module.functions.items()}
        return tvm.IRModule(made, attrs=module.attrs)

    # Without LowerTVMBuiltin a buffer in the function stays on the stack, whatever its scope.
    return tvm.ir.transform.Sequential([entries, tirx.transform.LowerIntrin()])


def _with_plain_entry(function: PrimFunc) -> PrimFunc:
    """Buffers as parameters → their addresses; returns 0, or what the launch of threads returns."""
    pointers: list[Any] = []
    statements: list[Any] = []
    for buffer in function.params:
        element = PointerType(PrimType(str(buffer.dtype)), "global")
        pointers.append(tirx.Var(f"{buffer.name}_address", element))
        statements.append(tirx.DeclBuffer(buffer, data=pointers[-1]))
    done = tirx.stmt.Return(tirx.const(0, "int32"))
    body = tirx.SeqStmt([*statements, function.body, done])
    plain = PrimFunc(pointers, body, ret_type=PrimType("int32"), attrs=function.attrs)
    return plain.with_attr("calling_conv", 1)  # lowered already: TVM leaves the signature alone
