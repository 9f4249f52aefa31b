"""A merged model against its base plus the adapter it should hold: how that was added."""

from collections.abc import Mapping, Sequence
from math import isclose

from spectra.analyzers.row import Value
from spectra.deferred import Tensor, torch
from spectra.gate.conventions import (
    BEYOND,
    DAMAGED,
    OTHER,
    PLAIN,
    TURNED,
    UNSOUND,
    UNTOUCHED,
    Form,
    forms_of,
    scales_of,
)
from spectra.kernels.dora import Lengths, Way, dora_replayed
from spectra.kernels.merged import Store, added, moves
from spectra.kernels.replay import UNIT, WORDS, Merge, Steps, lies_at, replayed
from spectra.kernels.rounding import F32, STORED, grid_of, half_steps
from spectra.matrices import LowRank, Pair
from spectra.matrices.pair import Factors, widened
from spectra.words import VECTOR

NEAR = 0.01  # of a factor, to be taken for one that a mistake makes
ALIKE = 0.3  # the most that a change that is an update leaves over, as a share
MOVED = 16  # entries of a row, from which on an update that is in it shows


def merged(change: Pair, meant: Pair) -> dict[str, Value]:
    """Return how the change of a matrix compares with the one that an adapter means.

    `merge_as` tells in which arithmetic base and update give the stored values bit for bit, each
    way of several that give the same bytes; `merge_off` how many values the order of sums may have
    changed besides. Where it is another update that was added, `merge_fault` says what is wrong
    with it: bit for bit where `merge_as` is there, else by the factor. `merge_base_rows` are rows
    that are still the base's where others hold the update, `merge_base_columns` columns.

    `merge_scale` is the factor c for which storing the base plus c U gives the model, with U the
    adapter's update at its own scale: 1 for a right merge, null where U lies below the rounding of
    the stored values; `merge_scale_error` its standard error. `merge_rest` is what of the change
    is neither that nor rounding, as a share, `merge_rest_rounding` how large it is beside what
    rounding makes. Where the adapter leaves the matrix alone none is there, but for the fault
    that it changed; where its update is zero, `merge_zero` says so.

    Args:
        change: The base and the model, as stored.
        meant: The base and the adapter.
    """
    stored = change.tuned
    if stored is None or isinstance(stored, LowRank):
        return {}
    alone: dict[str, Value] = {} if _same(change, stored) else {"merge_fault": BEYOND}
    if meant.tuned is None:
        return alone
    rows = min(len(stored), len(meant.base))  # where a vocabulary was resized
    update = meant.delta()[:rows]
    if not bool(update.any()):
        whole = change.view.role.kind == VECTOR  # all biases are stored, also untrained ones
        return alone if whole else {"merge_zero": True} | alone
    if not bool(update.isfinite().all()):
        return {"merge_scale": None, "merge_fault": DAMAGED}
    return _held(change, meant, stored, update)


def _held(change: Pair, meant: Pair, stored: Tensor, update: Tensor) -> dict[str, Value]:
    """Return how stored values come of the base and an update that is finite, and not zero."""
    rows = len(update)
    tuned, base = widened(stored)[:rows], widened(meant.base)[:rows]
    if not all(bool(one.isfinite().all()) for one in (tuned, base)):
        return {"merge_scale": None, "merge_fault": UNSOUND}
    wide = torch.promote_types(torch.promote_types(tuned.dtype, base.dtype), update.dtype)
    tuned, base, update = tuned.to(wide), base.to(wide), update.to(wide)
    if change.tuned_codec is not None:
        store = Store(None, change.tuned_codec.steps[:rows].to(wide))
        return _measured(base, tuned, update, store)
    own = STORED[str(stored.dtype)]
    grid = grid_of(tuned, own)
    narrow = STORED.get(str(meant.factors.dtype), F32) if meant.factors else F32
    merge = Merge(base, tuned, grid, narrow)
    shows = moves(grid.rounded(base), grid.rounded(base + update))
    found = _replay(merge, meant, update) if shows else {}
    if "merge_scale" in found:
        return found
    store = Store(grid.rounded, half_steps(tuned, grid, own))
    told = _measured(base, tuned, update, store) | found
    if told["merge_scale"] is None or found:
        return told
    return told | _blamed(merge, meant, update, told)


def _same(change: Pair, stored: Tensor) -> bool:
    """Say whether values are the base's, rounded at most; of a codec's it is not known."""
    if change.base_codec is not None or change.tuned_codec is not None:
        return True
    base = change.base[: len(stored)]  # where a vocabulary was resized
    tuned = stored[: len(base)]
    if _alike(tuned, base.to(stored.dtype)):
        return True
    wide = widened(tuned)
    return _alike(wide, grid_of(wide, STORED[str(stored.dtype)]).rounded(widened(base)))


def _alike(one: Tensor, other: Tensor) -> bool:
    """Say whether values are equal; NaN is equal to NaN, but for those of a byte, as they are."""
    if torch.equal(one, other):
        return True
    broken = one.isnan() if one.element_size() > 1 else None
    if broken is None or not bool(broken.any()) or not torch.equal(broken, other.isnan()):
        return False
    return torch.equal(one.masked_fill(broken, 0.0), other.masked_fill(broken, 0.0))


def _blamed(
    merge: Merge, meant: Pair, update: Tensor, told: Mapping[str, Value]
) -> dict[str, Value]:
    """Return what may be wrong with a matrix that no merge gives bit for bit."""
    if torch.equal(merge.tuned, merge.base) or torch.equal(
        merge.tuned, merge.grid.rounded(merge.base)
    ):
        return {"merge_fault": UNTOUCHED}
    return _partly(merge, meant, update) or _near(merge, meant, told)


def _measured(base: Tensor, tuned: Tensor, update: Tensor, store: Store) -> dict[str, Value]:
    found = added(base, tuned, update, store)
    there = found.scale is not None
    return {
        "merge_scale": found.scale,
        "merge_scale_error": found.error if there else None,
        "merge_rest": found.rest if there else None,
        "merge_rest_rounding": found.beside_rounding if there else None,
    }


def _replay(merge: Merge, meant: Pair, update: Tensor) -> dict[str, Value]:
    """Return under which conventions the values come out bit for bit; empty: under none."""
    right = _as_meant(merge, meant, update)
    if right:
        return right
    found: dict[str, tuple[str, int]] = {}
    factors, scale = meant.factors, None
    for form in forms_of(factors, dora=meant.formed == "lengths") if factors else ():
        assert factors is not None  # noqa: S101 - or there are no forms
        steps, off = _ways(merge, form, factors)
        words = _words(steps)
        if steps and not form.fault:
            return _right(words, off)
        if steps:
            found[form.fault] = words, off
            scale = form.factor if len(found) == 1 else None
    if not found:
        return {}
    least = min(off for _, off in found.values())
    faults = [fault for fault, (_, off) in found.items() if off == least]
    told: dict[str, Value] = {
        "merge_fault": " or ".join(faults), "merge_as": found[faults[0]][0], "merge_off": least,
    }  # fmt: skip
    return told if scale is None else _exactly(scale) | told


def _ways(
    merge: Merge, form: Form, factors: Factors, some: tuple[Tensor, int] | None = None
) -> tuple[Sequence[Steps | Way], int]:
    """Return in which arithmetic what a merge may have added was stored.

    Args:
        merge: The matrix.
        form: What may have been added.
        factors: The adapter's.
        some: Rows (0) or columns (1) that are looked at alone.
    """
    left, right = _wide(form.product, merge)
    lengths = _lengths(merge, factors) if form.lengths else None
    if some is not None:
        chosen, axis = some
        merge = merge.some(chosen, axis)
        left, right = (left[chosen], right) if axis == 0 else (left, right[:, chosen])
        if lengths is not None:
            lengths = lengths.of(chosen) if axis == lengths.axis else None
    if not form.lengths:
        return replayed(merge, left, right, form.scale)
    if lengths is None:  # no norm is known of a part
        return (), 0
    return dora_replayed(merge, left, right, form.scale, lengths)


def _lengths(merge: Merge, factors: Factors) -> Lengths | None:
    """Return DoRA's lengths; None where they are not those of whole rows or columns."""
    if factors.lengths is None:
        return None
    of_rows, of_columns = _wide(factors.lengths, merge)
    axis = 0 if bool((of_columns == 1.0).all()) else 1
    fits = len(of_rows) == len(merge.base) and of_columns.shape[1] == merge.base.shape[1]
    return Lengths((of_columns if axis else of_rows).flatten(), axis) if fits else None


def _words(steps: Sequence[Steps | Way]) -> str:
    return " | ".join(dict.fromkeys(one.text for one in steps))


def _exactly(scale: float) -> dict[str, Value]:
    return {"merge_scale": scale, "merge_scale_error": 0.0, "merge_rest": 0.0,
            "merge_rest_rounding": 0.0}  # fmt: skip


def _right(told: str, off: int) -> dict[str, Value]:
    return {**_exactly(1.0), "merge_as": told, "merge_off": off}


def _as_meant(merge: Merge, meant: Pair, update: Tensor) -> dict[str, Value]:
    """Return whether values that were formed of the adapter's are the stored ones."""
    if isinstance(meant.tuned, LowRank) or meant.tuned is None:
        return {}
    for own in meant.merges:
        count = len(merge.tuned)
        off = lies_at(merge, *(one[:count].to(merge.base.dtype) for one in (own.values, own.slack)))
        if off is not None:
            word = WORDS.get(STORED[str(own.dtype)].name)
            return _right(f"the method in {word}" if word else "the method in float32", off)
    values = merge.base + update
    slack = torch.zeros_like(values)
    computed = meant.formed in ("lengths", "method")
    if computed and not meant.merges:  # here as there, in another order
        slack = 16 * UNIT * values.abs()
        if meant.factors is not None:
            left, right = _wide(meant.factors.product, merge)
            made = abs(meant.factors.scale) * (left.abs() @ right.abs())
            slack += (2 * left.shape[1] + 4) * UNIT * made
    elif not computed:
        values = widened(meant.tuned)[: len(values)].to(values.dtype)
    off = lies_at(merge, values, slack)
    words = {
        "lengths": "DoRA in float32",
        "rows": "the new rows",
        "method": "the method in float32",
    }
    return {} if off is None else _right(words.get(meant.formed, "stored whole"), off)


def _partly(merge: Merge, meant: Pair, update: Tensor) -> dict[str, Value]:
    """Return which rows, or columns, are still the base's, where others hold the update."""
    base = merge.grid.rounded(merge.base)
    moved = merge.grid.rounded(merge.base + update) != base
    kept = (merge.tuned == base) | (merge.tuned == merge.base)
    for axis, key in enumerate(("merge_base_rows", "merge_base_columns")):
        moves = moved.sum(dim=1 - axis) >= MOVED
        still = moves & kept.all(dim=1 - axis)
        rest = moves & ~still
        if not bool(still.any()) or not bool(rest.any()):
            continue
        told: dict[str, Value] = {key: _ranges(still.nonzero().flatten().tolist())}
        if meant.factors is not None:
            form = next(forms_of(meant.factors, dora=meant.formed == "lengths"))
            steps, off = _ways(merge, form, meant.factors, (rest, axis))
            if steps and not form.fault:
                told |= {"merge_as": _words(steps), "merge_off": off}
        return told
    return {}


def _ranges(rows: list[int]) -> str:
    """Return row numbers as ranges, 0 to 383, the first few of many."""
    found: list[list[int]] = []
    for row in rows:
        if found and row == found[-1][1] + 1:
            found[-1][1] = row
        else:
            found.append([row, row])
    told = [str(a) if a == b else f"{a} to {b}" for a, b in found[:RANGES]]
    more = len(found) - RANGES
    return ", ".join(told) + (f" and {more} more ranges" if more > 0 else "")


RANGES = 4  # that a value names


def _near(merge: Merge, meant: Pair, told: Mapping[str, Value]) -> dict[str, Value]:
    """Return the mistake that a factor or another layout of the update comes close to."""
    factors, scale, rest = meant.factors, told["merge_scale"], told["merge_rest"]
    if factors is None or not isinstance(scale, float):
        return {}
    left_over = rest if isinstance(rest, float) else 1.0
    if left_over < ALIKE and abs(scale - 1.0) > NEAR and meant.formed != "lengths":
        for name, other in scales_of(factors):
            if isclose(scale * factors.scale, other, rel_tol=NEAR):
                return {"merge_fault": name}
    for form in forms_of(factors, dora=meant.formed == "lengths"):
        if form.fault in (PLAIN, OTHER, TURNED) and left_over >= ALIKE / 2:
            left, right = _wide(form.product, merge)
            delta = merge.tuned - merge.base
            off = float(torch.linalg.vector_norm(delta - form.scale * (left @ right)))
            whole = float(torch.linalg.vector_norm(delta))
            if off < min(ALIKE, left_over / 2) * whole:
                return {"merge_fault": form.fault}
    return {}


def _wide(product: LowRank, merge: Merge) -> tuple[Tensor, Tensor]:
    dtype, rows = merge.base.dtype, len(merge.base)
    return product.left[:rows].to(dtype), product.right.to(dtype)
