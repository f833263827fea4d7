"""Int8 matrix products with the integer epilogue fused: tensor cores, or DP4A for narrow ones."""

from __future__ import annotations

from ...ir.dtypes import Array
from ...kernels import Constant
from ..import_tvm import PrimFunc
from .narrow import dp4a_product, pack_rows
from .product import Gemm
from .requantize import Requantize
from .tensor_cores import pack_fragments, tensor_core_product

__all__ = ["Gemm", "gemm", "packed_weights"]


def gemm(product: Gemm, scale: Requantize) -> PrimFunc:
    """Parameters: x, w, multiplier, bias, shift, y; w as `packed_weights` has it."""
    if product.on_tensor_cores:
        return tensor_core_product(product, scale)
    return dp4a_product(product, scale)


def packed_weights(product: Gemm, weights: Array) -> Constant:
    """int8 [columns, depth] → the order in which the kernel of `gemm` reads them."""
    if product.on_tensor_cores:
        return pack_fragments(product, weights)
    return pack_rows(product, weights)
