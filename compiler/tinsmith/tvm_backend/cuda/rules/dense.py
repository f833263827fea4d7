"""Int8 dense layers: a matrix product, or a dot product per warp where there are few rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....ir.graph import Graph, Node
from ....kernels import Constant
from ...import_tvm import PrimFunc
from ..gemm import Gemm, gemm
from ..gemv import FEW_ROWS, LANES, gemv
from ..rule import CudaRule
from .conv2d import product_constants, scale_of, sums_fit


def _product(node: Node) -> Gemm:
    depth, columns = node.x.shape[-1], node.y.shape[-1]
    rows = node.x.elements // depth
    run = next(r for r in (16, 4, 1) if depth % r == 0)

    def element(x: Any, m: Any, k: Any) -> Any:
        return x[m * depth + k]

    return Gemm(rows, columns, depth, node.x.elements, element, run)


def _few_rows(node: Node, graph: Graph) -> bool:
    product = _product(node)
    return product.rows <= FEW_ROWS and product.depth % LANES == 0 and sums_fit(node, graph)


def _build_gemv(node: Node, graph: Graph) -> PrimFunc:
    product = _product(node)
    return gemv(product.rows, product.columns, product.depth, scale_of(node, graph))


def _rows(node: Node, graph: Graph) -> dict[str, Constant]:
    w = graph.constant(node.inputs[1])
    return {"w": Constant(np.ravel(w), 16)} | scale_of(node, graph).constants


RULES = (
    CudaRule("dense", build=_build_gemv, constants=_rows, applies=_few_rows),
    CudaRule(
        "dense",
        build=lambda node, graph: gemm(_product(node), scale_of(node, graph)),
        constants=lambda node, graph: product_constants(_product(node), node, graph),
        applies=sums_fit,
    ),
)
