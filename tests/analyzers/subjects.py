"""Matrices, pairs and rows made by hand."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from examples import role_of
from spectra.analyzers import Analyzer, Row
from spectra.checkpoint.entry import BITS, FLOATING, STORED, TensorEntry
from spectra.errors import NonFiniteError
from spectra.matrices import LowRank, Matrix, Pair, View
from spectra.matrices.layout import Part

DTYPES = {getattr(torch, STORED[name]): name for name in FLOATING}
QUERY = "encoder.layer.0.attention.self.query.weight"


def view_of(name: str, rows: int, cols: int, dtype: str = "F32") -> View:
    """A plain 2-D tensor's view."""
    nbytes = prod((rows, cols)) * BITS[dtype] // 8
    entry = TensorEntry(name, dtype, (rows, cols), "model.safetensors", 0, nbytes)
    return View(name, role_of(name), entry, Part(), rows, cols)


def matrix_of(values: Tensor, name: str = QUERY) -> Matrix:
    """A matrix, as if read from a checkpoint."""
    rows, cols = values.shape
    return Matrix(view_of(name, rows, cols, DTYPES[values.dtype]), values)


def pair_of(base: Tensor, tuned: Tensor | LowRank | None, name: str = QUERY) -> Pair:
    """A pair, as if read from two checkpoints or a checkpoint and an adapter."""
    view = matrix_of(base, name).view
    dtype = DTYPES[tuned.dtype] if isinstance(tuned, Tensor) else view.entry.dtype
    return Pair(view, base, tuned, dtype)


def labelled(row: Row, labels: Mapping[str, str | int]) -> Row:
    """Return a row as of one of several models."""
    return replace(row, place=replace(row.place, labels=labels))


def row_of(analyzer: Analyzer[Any], subject: Matrix | Pair) -> Row:
    """Measure as the engine does."""
    try:
        found = analyzer.measure(subject)
    except NonFiniteError as error:
        values = dict.fromkeys(analyzer.keys)
        return Row(subject.view.place(), "non-finite", str(error), values)
    return Row(subject.view.place(), found.status, None, found.values, found.arrays)
