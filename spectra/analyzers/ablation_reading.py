"""What is said of a direction that the change of many matrices has in common."""

import math
import statistics
from collections.abc import Collection, Sequence

from spectra.analyzers.ablation import Edit, Reach, mean
from spectra.analyzers.change import where
from spectra.analyzers.direction import Flow
from spectra.analyzers.spans import runs_of
from spectra.analyzers.tally import CHANGED, matrices_of, share_of, tallied
from spectra.deferred import torch
from spectra.numbers import number, percent, ranged
from spectra.text import counted, listed

SHARP = 0.99  # |cos| likewise, from which on a scale is known
WIDE = 16  # rows and columns, below which any two vectors are alike
NAMED = 2  # groups of experts that are told one by one
SEEN = 5e-4  # of a change, that rounding is worth a word
READS = {
    "writes": "writes to the residual stream", "reads": "reads from the residual stream",
}  # fmt: skip
WRITE = {
    "writes": "write to the residual stream", "reads": "read from the residual stream",
}  # fmt: skip


def summary_of_edits(edits: Sequence[Edit]) -> dict[str, object]:
    """Return what is known of them as plain data; nothing where there are none."""
    return {"directions": [_plain(edit) for edit in edits]} if edits else {}


def reading_of_edits(edits: Sequence[Edit]) -> str:
    """Name ablations, and say of other directions where they clearly beat chance."""
    return " ".join(_told(edit) for edit in edits if edit.kind)


def _told(edit: Edit) -> str:
    changed = [reach.row for reach in edit.reaches]
    null = ranged(*edit.null, percent)
    if edit.kind == "common":
        return (
            f"One direction explains {percent(edit.share_low)} of the change of "
            f"{tallied(changed, CHANGED)} that {_verb(edit.reaches, edit.flow)} "
            f"(independent changes: {null})."
        )
    touched = {row.matrix for row in edit.rows}
    ablated = [reach for reach in edit.reaches if reach.row.matrix in touched]
    of = f"{share_of(edit.rows, changed, CHANGED)} that {_verb(edit.reaches, edit.flow)}"
    scales = _scales(ablated)
    error = _error(ablated)
    out = statistics.median(scales) > 0.0
    whole = "1 takes all of it out" if out else "-1 doubles it"
    scale = f"scale {ranged(scales[0], scales[-1], _scale)} ({whole})"
    known = f"rounding leaves both known to within {percent(error)}" if error >= SEEN else ""
    if edit.kind == "ablation":
        done = "An ablation: one direction was taken out of" if out else \
            "One direction was strengthened in"  # fmt: skip
        told = (
            f"{done} {of}, {where(edit.rows)}, and explains "
            f"{percent(mean(ablated, lambda reach: reach.low))} of their change "
            f"(independent changes: {null}), {scale}"
        )
    else:
        done = "An ablation: a direction of its own was taken out of each of" if out else \
            "A direction of its own was strengthened in each of"  # fmt: skip
        told = f"{done} {counted(len(edit.own), 'layer')}, in {of}, {scale}"
    untouched = _untouched(edit)
    return f"{told}{'; ' * bool(known)}{known}.{' ' * bool(untouched)}{untouched}"


def _verb(reaches: Sequence[Reach], flow: Flow) -> str:
    return (READS if matrices_of([reach.row for reach in reaches]) == 1 else WRITE)[flow]


def _scale(value: float) -> str:
    return number(value, 3)


def _scales(reaches: Sequence[Reach]) -> list[float]:
    """Return how much was taken out of each, ascending, where that is known well if anywhere.

    Where the base has little along its direction, the scale is that of what rounding turned.
    """
    known = [(reach.row.place, reach.along) for reach in reaches if reach.along is not None]
    sharp = [
        along.scale for of, along in known if along.alike >= SHARP and min(of.rows, of.cols) >= WIDE
    ]
    return sorted(sharp or [along.scale for _, along in known])


def _error(reaches: Sequence[Reach]) -> float:
    """Return what rounding is of a change, which direction and scale may be off by."""
    return statistics.median(
        math.sqrt(reach.along.rounding) for reach in reaches if reach.along is not None
    )


def _untouched(edit: Edit) -> str:
    """Say which layers and which experts the ablation left as they were."""
    layers, experts = _left(edit)
    told: list[str] = [_of("layer", layers)] if layers else []
    alike: dict[tuple[int, ...], list[int]] = {}
    for layer, own in experts.items():
        alike.setdefault(tuple(sorted(own)), []).append(layer)
    groups = list(alike.items())
    told += [f"{_of('expert', left)} of {_of('layer', some)}" for left, some in groups[:NAMED]]
    rest = sum(len(left) * len(some) for left, some in groups[NAMED:])
    if rest:
        told.append(counted(rest, "more expert"))
    return f"Not touched: {listed(told)}." if told else ""


def _of(noun: str, numbers: Collection[int]) -> str:
    """Write `layer 3` or `layers 0, 2-5`."""
    return f"{noun}{'s' * (len(numbers) > 1)} {_spans(numbers)}"


def _spans(numbers: Collection[int]) -> str:
    flags = torch.zeros(max(numbers) + 1, dtype=torch.bool)
    flags[sorted(numbers)] = True
    return runs_of(flags) or ""


def _left(edit: Edit) -> tuple[set[int], dict[int, set[int]]]:
    """Return the layers in which nothing was ablated, and by other layers the experts left."""
    touched = {row.matrix for row in edit.rows}
    layers = {row.place.layer for row in edit.every if row.place.layer is not None}
    with_some = {row.place.layer for row in edit.rows}
    experts: dict[int, set[int]] = {}
    for row in edit.every:
        layer, expert = row.place.layer, row.place.expert
        known = layer is not None and expert is not None and layer in with_some
        if known and row.matrix not in touched:
            experts.setdefault(layer or 0, set()).add(expert or 0)
    return layers - with_some, experts


def _plain(edit: Edit) -> dict[str, object]:
    layers, experts = _left(edit) if edit.rows else (set(), {})
    strength: dict[int | None, list[Reach]] = {}
    for reach in edit.reaches:
        strength.setdefault(reach.row.place.layer, []).append(reach)
    counts = {
        layer: matrices_of([row for row in edit.rows if row.place.layer == layer])
        for layer in strength
    }
    touched = {row.matrix for row in edit.rows}
    known = [reach for reach in edit.reaches if reach.row.matrix in touched]
    return {
        "flow": edit.flow, "width": edit.width, "matrices": matrices_of(edit.every),
        "changed": matrices_of([reach.row for reach in edit.reaches]),
        "ablated": matrices_of(edit.rows), "kind": edit.kind,
        "share": edit.share, "share_low": edit.share_low, "share_high": edit.share_high,
        "null_low": edit.null[0], "null_high": edit.null[1],
        "error": _error(known) if known else None,
        "layers": [
            {
                "layer": layer, "changed": matrices_of([one.row for one in some]),
                "ablated": counts[layer],
                "strength": mean(some, lambda reach: reach.kept), "scale": _typical(some),
            }
            for layer, some in sorted(strength.items(), key=lambda one: (one[0] is None, one[0]))
        ],
        "untouched_layers": _spans(layers) if layers else "",
        "untouched_experts": sum(len(left) for left in experts.values()),
    }  # fmt: skip


def _typical(reaches: Sequence[Reach]) -> float | None:
    scales = _scales(reaches)
    return statistics.median(scales) if scales else None
