"""Where in the base's singular frame a change lies: on the diagonal, in the top, in the tail."""

from collections.abc import Sequence

from spectra.analyzers.row import Row, Value
from spectra.analyzers.tally import CHANGED, matrices_of, share_of, tallied
from spectra.deferred import Tensor
from spectra.kernels.frame import Shares, shares_in, singular_frame
from spectra.matrices import LowRank, Pair, Place, View
from spectra.numbers import percent

PARTS = ("diagonal", "top", "tail", "svfit", "salt")
"""What of a change is told, in the order in which it is: C's diagonal, its top block, its tail, and
what SVFit and SALT train. CLIP-SVD trains the diagonal."""

KEYS = (
    *(f"frame_{part}" for part in PARTS), *(f"frame_{part}_null" for part in PARTS),
    "frame_outside", "frame_rounding", "frame_status",
)  # fmt: skip
OTHER = ("other matrix", "other matrices")
HOLLOW = "the base is 0 in every entry"
UNCHANGED = "unchanged"
NEGLIGIBLE = 0.01  # of ||D||^2, that may lie between coinciding values without a word
ALONE = 0.9  # of what rounding leaves: on the diagonal, from which on nothing else was trained
LOUD = 0.5  # of ||D||^2: rounding of that much tells nothing of the rest


def frame_of(pair: Pair, k: int, energy: float, rounding: float) -> dict[str, Value]:
    """Return the frame keys of a matrix that changed.

    Args:
        pair: Both sides, finite.
        k: Leading directions that make the top.
        energy: Share of the base's sum of sigma^2 that SVFit's singular values hold.
        rounding: About what of ||D||^2 storing makes.
    """
    values = without_frame(HOLLOW)
    if not bool(pair.base.any()):
        return values
    if isinstance(pair.tuned, LowRank):
        change: Tensor | tuple[Tensor, Tensor] = (pair.tuned.left, pair.tuned.right)
    else:
        change = pair.delta()
    frame = singular_frame(pair.base)
    top = min(k, len(frame.sigma))
    found = shares_in(frame, change, top, energy)
    coincide = int((frame.cluster.bincount()[frame.cluster] > 1).sum())
    return values | _told(found, coincide) | nulls(pair.view, top, found.kept) | {
        "frame_outside": found.outside, "frame_rounding": rounding,
    }  # fmt: skip


def without_frame(why: str) -> dict[str, Value]:
    """Return the frame keys of a matrix that has none, or of which nothing changed."""
    return {**dict.fromkeys(KEYS), "frame_status": why}


def nulls(of: View | Place, k: int, kept: int) -> dict[str, Value]:
    """Return what a random change of this shape has on average, whatever its rank.

    Each entry of C holds 1 / (rows cols) of its energy then.
    """
    rank, size = min(of.rows, of.cols), of.rows * of.cols
    rest = (rank - k) ** 2
    entries = rank, k * k, rest, kept, k + rest
    return {f"frame_{part}_null": count / size for part, count in zip(PARTS, entries, strict=True)}


def summary_of_frames(changed: Sequence[Row]) -> dict[str, object]:
    """Return shares of the change of all matrices together, each beside its null."""
    known = [row for row in changed if row.number("frame_outside") is not None]
    parts: dict[str, object] = {}
    for part in PARTS:
        some = [row for row in known if row.number(f"frame_{part}") is not None]
        parts[part] = {
            "share": _together(some, f"frame_{part}"),
            "null": _together(some, f"frame_{part}_null"),
            "matrices": matrices_of(some),
        }
    alone = matrices_of([row for row in known if is_alone(row)])
    return {"frame": {
        "parts": parts, "outside": _together(known, "frame_outside"), "alone": alone,
        "undetermined": matrices_of(
            [row for row in changed if row.number("frame_diagonal") is None]
        ),
    }}  # fmt: skip


def is_alone(row: Row) -> bool:
    """Say whether nothing but singular values changed, as far as rounding lets that be seen."""
    share, rounding = row.number("frame_diagonal"), row.number("frame_rounding") or 0.0
    null = row.number("frame_diagonal_null") or 0.0
    if share is None or rounding > LOUD or null > LOUD:
        return False
    return share >= ALONE * (1.0 - rounding)


def reading_of_frames(changed: Sequence[Row]) -> str:
    """Say where the change lies, and where nothing but singular values changed.

    Args:
        changed: Rows of what changed, at least one.
    """
    known = [row for row in changed if row.number("frame_diagonal") is not None]
    told = []
    if known:
        alone = [row for row in known if is_alone(row)]
        if alone:
            told.append(
                f"Nothing but singular values changed in {share_of(alone, known, CHANGED)}: "
                f"{_share(alone, 'diagonal')} of the change lies on the diagonal of the base's "
                "singular frame, as CLIP-SVD and SVFit train it "
                f"(a random change: {_share(alone, 'diagonal', '_null')})."
            )
        rest = [row for row in known if row not in alone]
        if rest:
            pieces = [
                f"{_share(rest, part)} {where} ({'a random one: ' * (not index)}"
                f"{_share(rest, part, '_null')})"
                for index, (part, where) in enumerate((
                    ("diagonal", "on the diagonal"), ("top", "in the top block"),
                    ("tail", "in the tail"),
                ))
                if any(row.number(f"frame_{part}") is not None for row in rest)
            ]  # fmt: skip
            others = f"of {tallied(rest, OTHER)} " if alone else ""
            told.append(f"In the base's singular frame the change {others}has {', '.join(pieces)}.")
    open_ = [row for row in changed if row.number("frame_diagonal") is None]
    if open_:
        have = "has" if matrices_of(open_) == 1 else "have"
        told.append(
            f"{tallied(open_, CHANGED)} {have} no singular frame that is determined: "
            f"{open_[0].matrix}: {open_[0].values.get('frame_status')}."
        )
    return " ".join(told)


def _told(found: Shares, coincide: int) -> dict[str, Value]:
    """Return the shares; of what coinciding singular values leave open none."""
    apart = found.tied <= NEGLIGIBLE
    why = f"{coincide:,} singular values of the base coincide"
    status = "ok" if apart and not found.split else f"undetermined: {why}"
    return {
        "frame_diagonal": found.diagonal if apart else None,
        "frame_top": None if found.split else found.top,
        "frame_tail": None if found.split else found.tail,
        "frame_svfit": found.svfit if apart else None,
        "frame_salt": found.salt if apart and not found.split else None,
        "frame_status": status,
    }


def _together(rows: Sequence[Row], key: str) -> float | None:
    """Return a share of the change of several matrices together."""
    sizes = [(row.number("delta_norm") or 0.0) ** 2 for row in rows]
    total = sum(sizes)
    if not total:
        return None
    return sum(size * (row.number(key) or 0.0) for size, row in zip(sizes, rows, strict=True)) \
        / total  # fmt: skip


def _share(rows: Sequence[Row], part: str, what: str = "") -> str:
    some = [row for row in rows if row.number(f"frame_{part}") is not None]
    return percent(_together(some, f"frame_{part}{what}") or 0.0)
