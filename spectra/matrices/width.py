"""The width of a model, told by its shapes, and whether two models are of one family."""

from collections import Counter
from collections.abc import Mapping, Sequence

from spectra.errors import PairingError, UsageError
from spectra.matrices.view import View
from spectra.text import numberless, quote, shown

READS = ("attn.q", "attn.k", "attn.v", "mlp.gate", "mlp.up")
"""Roles whose inputs are the residual stream, so that their columns are the width."""

OUTSIDE = ("embed", "lm_head", "router")
"""Roles that models of one family may have or lack: tied heads, dense siblings."""


def width_of(views: Sequence[View], spec: str) -> int:
    """Return a model's width: the inputs of the matrices that read the residual stream.

    Where those differ, of most of their parameters. Without such matrices, the columns of the
    embedding, which are the stream itself.

    Args:
        views: Every matrix of the model.
        spec: Its name, for the error.

    Raises:
        UsageError: Neither is there.
    """
    for kinds in (READS, ("embed",)):
        weights: Counter[int] = Counter()
        for view in views:
            if view.role.kind in kinds and (kinds != READS or view.role.layer is not None):
                weights[view.cols] += view.rows * view.cols
        if weights:  # of a text model with eyes, the larger part
            return max(weights, key=lambda cols: (weights[cols], cols))
    raise UsageError(
        f"the width of {shown(spec)} cannot be told: it has no attention, MLP or embedding that is "
        "known by name. Give it: --widths 256,512, one number a model."
    )


def require_family(models: Mapping[str, Sequence[View]]) -> None:
    """Refuse models whose hidden matrices do not go by the same names; depths may differ.

    Args:
        models: Every matrix of each, by the model's name.

    Raises:
        PairingError: One has a kind of matrix that another lacks.
    """
    kinds = {spec: _kinds(views) for spec, views in models.items()}
    every: dict[str, str] = {}
    for spec, own in kinds.items():
        for kind, example in own.items():
            every.setdefault(kind, f"{spec}\n{example}")
    for kind, found in every.items():
        lacking = next((spec for spec, own in kinds.items() if kind not in own), None)
        if lacking is not None:
            has, example = found.split("\n", 1)
            raise PairingError(
                f"{shown(has)} and {shown(lacking)} are not of one family: the first has "
                f"{quote(example)}, the second nothing of that kind. Give models that differ in "
                "width and depth alone, or leave the rest out with --include or --role."
            )


def require_same_shapes(models: Mapping[str, Sequence[View]]) -> None:
    """Refuse checkpoints that are not of one run: every matrix must keep its shape.

    Raises:
        PairingError: A matrix is missing in one, or has another shape there.
    """
    first, *others = models
    before = {view.name: (view.rows, view.cols) for view in models[first]}
    for spec in others:
        after = {view.name: (view.rows, view.cols) for view in models[spec]}
        for name in [*before, *after]:
            if before.get(name) != after.get(name):
                raise PairingError(
                    f"{shown(first)} and {shown(spec)} are not of one run: {quote(name)} is "
                    f"{_size(before.get(name))} in the first and {_size(after.get(name))} in the "
                    "second. Give checkpoints of one run; for models of several widths: "
                    "`spectra width`."
                )


def _kinds(views: Sequence[View]) -> dict[str, str]:
    """Return the kinds of a model's hidden matrices, each with the first one's name."""
    kinds: dict[str, str] = {}
    for view in views:
        if view.role.kind not in OUTSIDE:
            kinds.setdefault(f"{numberless(view.entry.name)}[{view.part.label}]", view.name)
    return kinds


def _size(shape: tuple[int, int] | None) -> str:
    return "missing" if shape is None else f"{shape[0]:,} x {shape[1]:,}"
