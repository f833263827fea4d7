"""int8 kernels for Helium (Armv8.1-M MVE integer), Cortex-M55 and M85.

Convolution and dense run on VMLADAVA.S8, 16 products into one core register, in naked functions:
the C compiler spills its accumulators. Rescaling is VQDMULH (truncating) then VRSHL (rounding),
which is exactly the single rounding of `quant.arithmetic` for a right shift of 32 or more.
"""
