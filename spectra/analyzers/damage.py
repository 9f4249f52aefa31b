"""What a change is that no training makes: a matrix zeroed, scaled, turned, reordered, replaced."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.analyzers.difference import BLOCK, side_of
from spectra.analyzers.null_directions import own_rank
from spectra.analyzers.row import Row
from spectra.analyzers.spans import lines_of
from spectra.deferred import Tensor, torch
from spectra.kernels.entries import filled_lines, is_zero, largest_entry, power_of_two_near
from spectra.matrices import Pair
from spectra.numbers import number, percent
from spectra.text import counted

LARGE = 0.1  # change over base, up to which a matrix is taken for a trained one
APART = 0.5  # |cosine| of both as vectors, below which training is one guess among others
STRAIGHT = 1e-3  # that the cosine of a multiple may be off 1, before it is looked at
FAINT = 0.01  # of the mean square of all lines, up to which one that became zero is not told
SINGLE = 4  # bytes of an entry in float32
COPIED = 1 << 22  # entries of lines that are compared with others, at a time
RUN = 64  # entries that became zero one after the other, from which on it is no chance
TRAINED = ("full rank", "scaled rows")
FEW = ("few rows", "few columns")
STORED = ("rounding", "quantising")


@dataclass(frozen=True, slots=True)
class Damage:
    """What was recognised; a kind only where it is the whole change."""

    note: str  # what the matrix did, in the past tense
    kind: str | None = None


def damage_of(pair: Pair, found: Mapping[str, Any]) -> Damage | None:
    """Recognise what became of a matrix, where it was not trained.

    Args:
        pair: Both sides, finite.
        found: What is known of the change, with the keys of `diff`.
    """
    tuned = pair.tuned
    if not isinstance(tuned, Tensor) or pair.formed:
        return None
    if is_zero(tuned):
        return Damage("became 0 in every entry", "zero")
    kind, relative = str(found["delta_kind"]), found["delta_relative"] or 0.0
    if kind in STORED:
        return None
    pruned = kind == "pruning"
    lost = _lost(pair.base, tuned, found["delta_moved"] if pruned else None)
    if pruned:
        return lost
    order = None
    if kind in FEW or relative > LARGE:
        order = _reordered(pair.base, tuned)
    return order or (_replaced(pair, tuned, relative) if kind in TRAINED else None) or lost


def _replaced(pair: Pair, tuned: Tensor, relative: float) -> Damage | None:
    """Recognise a multiple of the base, its transpose, a loss of rank; or that little is left."""
    dot, before, after = _products(pair.base, tuned)
    cosine = dot / math.sqrt(before * after) if before and after else 0.0
    if 1.0 - abs(cosine) < STRAIGHT:
        return _multiple(pair, tuned, dot / before)
    if relative <= LARGE:
        return None
    if len(tuned) == tuned.shape[1] and torch.equal(pair.base.mT.to(tuned.dtype), tuned):
        return Damage("became the base's transposed", "transpose")
    fallen = _fallen(pair, tuned)
    if fallen is not None or abs(cosine) >= APART:
        return fallen
    return Damage(
        f"kept a cosine of {number(abs(cosine))} with the base: replaced, shifted or trained "
        "anew, which is not known",
        "unlike",
    )


def prints_of(pair: Pair, relative: object) -> dict[str, Tensor]:
    """Return what tells whether a matrix holds another one's values: of the base, and the tuned.

    Args:
        pair: Both sides; of what an adapter adds to, or computes, there is nothing to tell.
        relative: Its change over the base's norm: what is near its own is no other one's.
    """
    if not isinstance(pair.tuned, Tensor) or pair.formed:
        return {}
    large = not isinstance(relative, float) or relative > LARGE
    found = [print_of(pair.base), print_of(pair.tuned) if large else 0]
    return {"prints": torch.tensor(found)}


def displaced(rows: Sequence[Row]) -> list[Row]:
    """Return rows, with those marked whose matrix holds what another one held in the base."""
    homes: dict[int, str] = {}
    for row in rows:
        if "prints" in row.arrays:
            homes.setdefault(int(row.arrays["prints"][0]), row.matrix)
    found = []
    for row in rows:
        held = row.arrays.get("prints")
        home = homes.get(int(held[1])) if held is not None else None
        if home is None or home == row.matrix or row.values.get("delta_kind") == "zero":
            found.append(row)
            continue
        note = {"delta_kind": "another's", "delta_note": f"became the base's {home}"}
        found.append(replace(row, values={**row.values, **note}))
    return found


def print_of(matrix: Tensor) -> int:
    """Return 63 bits that two matrices share if they hold the same, as float32."""
    known = hashlib.blake2b(f"{tuple(matrix.shape)}".encode(), digest_size=8)
    for block in _blocks(matrix):
        known.update(block.float().cpu().numpy().data)
    return int.from_bytes(known.digest()) >> 1


def _blocks(matrix: Tensor) -> Iterator[Tensor]:
    for block in matrix.split(max(1, BLOCK // max(matrix.shape[1], 1))):
        yield block.contiguous()


def _lost(base: Tensor, tuned: Tensor, moved: int | None) -> Damage | None:
    """Say which whole rows, columns, or run of entries became zero.

    Args:
        base: Before.
        tuned: After.
        moved: Entries that became zero, where nothing else changed.
    """
    before, after = (_flagged(lambda one: one != 0, side) for side in (base, tuned))
    lines = [flags & ~others for flags, others in zip(before, after, strict=True)]
    if moved is None and any(bool(flags.any()) for flags in lines):
        # What is small beside the rest may be rounded to zero.
        lines = [flags & (size > FAINT * size.mean())
                 for flags, size in zip(lines, _mean_squares(base), strict=True)]  # fmt: skip
    told = [
        lines_of(flags.cpu(), noun)
        for noun, flags in zip(("row", "column"), lines, strict=True)
        if bool(flags.any())
    ]
    note = f"lost {' and '.join(told)}, which are 0 now"
    if moved is None:
        return Damage(note) if told else None
    inside = int((base[lines[0]] != 0).sum()) + int((base[:, lines[1]] != 0).sum())
    inside -= int((base[lines[0]][:, lines[1]] != 0).sum())
    if told and inside == moved:
        return Damage(f"{note}, and no other entry changed", "zero rows")
    if moved < RUN:
        return None
    rows, cols = _flagged(_gone, base, tuned)
    return _run(base, tuned, rows) or _run(base.mT, tuned.mT, cols)


def _gone(before: Tensor, after: Tensor) -> Tensor:
    return (before != 0) & (after == 0)


def _run(base: Tensor, tuned: Tensor, lines: Tensor) -> Damage | None:
    """Recognise entries that became zero one after the other, as they are stored.

    Args:
        base: Before.
        tuned: After.
        lines: Which rows hold one that did.
    """
    places = lines.nonzero().squeeze(1).tolist()
    if not places:
        return None
    top, bottom = places[0], places[-1]
    first = int(_gone(base[top], tuned[top]).nonzero()[0])
    last = int(_gone(base[bottom], tuned[bottom]).nonzero()[-1])
    ends = [tuned[top, first : last + 1 if top == bottom else None],
            tuned[bottom, first if top == bottom else 0 : last + 1]]  # fmt: skip
    if any(bool(part.any()) for part in (*ends, tuned[top + 1 : bottom])):
        return None
    cols, total = tuned.shape[1], tuned.numel()
    start, stop = top * cols + first, bottom * cols + last + 1
    end = "the last " if stop == total else "the first " if start == 0 else ""
    share = percent((stop - start) / total)
    note = f"lost {end}{share} of its entries in one run, which are 0 now, and no other changed"
    return Damage(note, "zero run")


def _reordered(base: Tensor, tuned: Tensor) -> Damage | None:
    """Recognise rows, or columns, of the base in another order."""
    rows, cols = _flagged(torch.ne, base, tuned)
    sides = ("rows", base, tuned, rows, cols), ("columns", base.mT, tuned.mT, cols, rows)
    for name, before, after, moved, across in sides:
        if int(moved.sum()) < 2:
            continue
        # What moved across has the same entries in another order: a trained matrix has others.
        first = int(across.nonzero()[0])
        few = [side[:, first][moved].double().sort().values for side in (before, after)]
        if not torch.equal(*few):
            continue
        one, other = (sorted(_lines(side, moved)) for side in (before, after))
        if one == other:
            told = f"{int(moved.sum()):,} of {counted(len(moved), name[:-1])}"
            return Damage(
                f"came out with the base's {name} in another order ({told} moved)", "reordered"
            )
    return None


def _lines(matrix: Tensor, chosen: Tensor) -> Iterator[bytes]:
    """Yield what tells chosen rows from each other, a few of them copied at a time."""
    step = max(1, COPIED // max(matrix.shape[1], 1))
    for some in chosen.nonzero().squeeze(1).split(step):
        for row in matrix[some].double().contiguous().cpu().numpy():
            yield hashlib.blake2b(row.data, digest_size=12).digest()


def _flagged(what: Callable[..., Tensor], *sides: Tensor) -> tuple[Tensor, Tensor]:
    """Say which rows and which columns hold an entry of which something is true."""
    rows, cols = (sides[0].new_zeros(size, dtype=torch.bool) for size in sides[0].shape)
    start = 0
    for blocks in zip(*map(_blocks, sides), strict=True):
        # Half precision is compared entry by entry, which takes ten times as long as widening it.
        wide = (one.float() if one.element_size() < SINGLE else one for one in blocks)
        along, across = filled_lines(what(*wide))
        rows[start : start + len(along)] = along
        cols.logical_or_(across)
        start += len(along)
    return rows, cols


def _mean_squares(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean square of each row, and of each column."""
    rows, cols = (matrix.new_zeros(size, dtype=torch.float64) for size in matrix.shape)
    start = 0
    for block in _blocks(matrix):
        square = block.double().square()
        rows[start : start + len(block)] = square.mean(dim=1)
        cols += square.sum(dim=0)
        start += len(block)
    return rows, cols / max(len(matrix), 1)


def _products(base: Tensor, tuned: Tensor) -> tuple[float, float, float]:
    """Return the inner product of both as vectors, and of each with itself, scaled alike."""
    scale = power_of_two_near(max(largest_entry(base), largest_entry(tuned))) or 1.0
    sums = torch.zeros(3, dtype=torch.float64, device=base.device)
    for before, after in zip(_blocks(base), _blocks(tuned), strict=True):
        one, other = before.double() / scale, after.double() / scale
        sums += torch.stack([(one * other).sum(), one.square().sum(), other.square().sum()])
    dot, before_square, after_square = sums.tolist()
    return dot, before_square, after_square


def _multiple(pair: Pair, tuned: Tensor, factor: float) -> Damage | None:
    """Recognise a base that was multiplied, entry by entry to within its rounding."""
    grids = [side_of(pair.base, pair.base_codec).grid, side_of(tuned, pair.tuned_codec).grid]
    if None in grids:
        return None
    rounding = max(torch.finfo(grid.dtype).eps for grid in grids if grid is not None)
    off = size = 0.0
    for before, after in zip(_blocks(pair.base), _blocks(tuned), strict=True):
        wide = after.double()
        off += float((wide - factor * before.double()).square().sum())
        size += float(wide.square().sum())
    if not size or math.sqrt(off / size) > rounding:
        return None
    flipped = " (every sign flipped)" if abs(factor + 1.0) <= rounding else ""
    return Damage(f"became the base's times {number(factor)}{flipped}", "multiple")


def _fallen(pair: Pair, tuned: Tensor) -> Damage | None:
    """Recognise a matrix of half its rank at most, where the base has more."""
    rank = own_rank(side_of(tuned, pair.tuned_codec)).rank
    if 2 * rank > min(tuned.shape):
        return None
    before = own_rank(side_of(pair.base, pair.base_codec))
    if before.rank <= rank:
        return None
    least = "" if before.exact else "at least "
    return Damage(f"fell to rank {rank:,}, from {least}{before.rank:,} in the base", "collapse")
