// Tensor cores are in cuda_shim.h.
