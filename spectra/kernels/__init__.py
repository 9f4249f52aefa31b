"""Numerics: tensors in, tensors and numbers out.

A matrix is of any shape that is not empty and any floating dtype up to float64, unless a function
says otherwise. Where it holds NaN or Inf, every function that takes a matrix as it is stored raises
`NonFiniteError`: `entries.largest_entry` looks at all of it first. `sigma` stands for all
singular values of a matrix, descending, float64; `rows` and `cols` are its sides.
"""
