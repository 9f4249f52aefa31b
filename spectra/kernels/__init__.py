"""Numerical kernels: torch tensors in, tensors and numbers out; no names, no I/O."""
