"""The GPU artefact: CUDA source from TVM, our own host code, plan and launches. See docs/tvm.md."""
