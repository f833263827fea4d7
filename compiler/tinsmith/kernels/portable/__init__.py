"""Kernels in plain C11: correct on every target. Each module defines `KERNELS`."""
