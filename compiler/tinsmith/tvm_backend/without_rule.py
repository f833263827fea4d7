"""The operators that have no rule, and why: their nodes run the portable C kernel, or none."""

from __future__ import annotations

from collections.abc import Mapping

_VIEW = "a view: its bytes are its input's, no kernel runs"
_FOLDED = "folded into the operators around it before kernels are selected"
_TRUSTED = "runs in the secure image, which is kept small and free of a generator of machine code"
_LEARNING = "a step of learning: portable C, whose loops the compiler of the board vectorises"
_LOSS = "over one row of logits: too little to do for a rule to pay"

WITHOUT_RULE: Mapping[str, str] = {
    "identity": _VIEW,
    "reshape": _VIEW,
    "quantize": _FOLDED,
    "dequantize": _FOLDED,
    "authorize": "a call of the secure image, not arithmetic",
    "authorize_gradient": "a call of the secure image, not arithmetic",
    "blind": _TRUSTED,
    "unblind": _TRUSTED,
    "softmax_cross_entropy": _LOSS,
    "mse_loss": _LOSS,
    "float_cross_entropy": _LOSS,
    "float_mse": _LOSS,
    **dict.fromkeys(
        (
            "accumulate_bias",
            "accumulate_weights",
            "apply_bias",
            "apply_weights",
            "average_pool_gradient",
            "conv2d_float",
            "count_sample",
            "gather_channels",
            "lookup_gradient",
            "max_pool_gradient",
            "mul_gradient",
            "ordered_average_pool",
            "ordered_reduce_mean",
            "reduce_gradient",
            "scale_gradient",
            "sgd_bias",
            "sgd_weights",
            "spread_gradient",
        ),
        _LEARNING,
    ),
}
