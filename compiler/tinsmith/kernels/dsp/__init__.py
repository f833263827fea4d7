"""int8 kernels for the Armv7E-M / Armv8-M DSP extension: convolution and dense through SMLAD.

The inner blocks are naked functions with fixed registers, because the C compiler spills and never
forms wide loads. Weights stay at int8 size in flash. Two packings of a pair of output channels:
  radix:  each int16 half is 256·wA + wB; the block accumulates 256·A + B and B, then subtracts.
          Needs |256·wA + wB| ≤ 32767 and |A| < 2^23, both proven from the actual weights.
  plain:  bytes wA0 wB0 wA1 wB1, taken apart by two SXTB16.
"""
