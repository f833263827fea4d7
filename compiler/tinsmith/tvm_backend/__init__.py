"""Kernels from TVM: x86-64, aarch64, CUDA. See docs/tvm.md.

Nothing here imports TVM: `import_tvm` does, and every module that needs it goes through that one.
"""
