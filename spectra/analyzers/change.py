"""What a change looks like, in words."""

from collections.abc import Sequence

from spectra.analyzers.row import Row
from spectra.analyzers.tally import is_head, matrices_of, share_of, tallied
from spectra.numbers import percent
from spectra.text import counted, listed

STORED = {
    "rounding": "rounded and not changed otherwise",
    "quantising": "quantised and show no other change",
}
"""Kinds of change in which nothing but the storing changed."""

KNOWN = ("low rank", "full rank", "scaled rows")
"""Kinds of change of which the rank is known."""

DAMAGED = {
    "zero": "became 0 in every entry",
    "zero rows": "lost rows or columns, which are 0 now",
    "zero run": "lost entries in one run",
    "multiple": "became a multiple of the base's",
    "transpose": "became the base's transposed",
    "reordered": "came out with the base's rows or columns in another order",
    "collapse": "fell in rank",
    "another's": "became another matrix of the base",
    "unlike": "kept little of the base",
}
"""Kinds of change that are told matrix by matrix, and not as training; of many, what they did."""

SPARSE = 0.5  # share of entries that moved, below which it is told
NAMED = 2  # matrices of a kind that are told one by one
MORE = "more matrix", "more matrices"
FLOATS = ("F64", "F32", "F16", "BF16")  # whose rounding is nothing to be said


def reading_of(changed: Sequence[Row], every: Sequence[Row], method: str = "") -> str:
    """Say what the change of a model looks like, and of how much of it that is not known.

    Args:
        changed: Rows of what changed, at least one.
        every: All that were compared.
        method: What made the change, of an adapter that is no LoRA: nothing is guessed then.
    """
    damaged = [row for row in changed if row.values["delta_kind"] in DAMAGED]
    noted = [row for row in changed if row.values.get("delta_note")]
    found = f"Recognised ({share_of(noted, every)}): {_recognised(noted)}." if noted else ""
    if method:
        return f"{_made(changed, every, method)} {found}".strip()
    if len(damaged) == len(changed):
        return found
    changed = [row for row in changed if row not in damaged]
    return " ".join(part for part in (_trained(changed, every), found) if part)


def _made(rows: Sequence[Row], every: Sequence[Row], method: str) -> str:
    """Say what an adapter of a known method changed, and of which rank that is, where it shows."""
    several = "ranks" if len({_rank(row) for row in rows}) > 1 else "rank"
    known = all(row.values["delta_kind"] in KNOWN for row in rows)
    rank = f", of {several} {_span([_rank(row) for row in rows])}" if known else ""
    article = "an" if method[0] in "AEIO" or method.startswith("HRA") else "a"
    return (f"The change is that of {article} {method} adapter on {where(rows)} "
            f"({share_of(rows, every)}){rank}.")  # fmt: skip


def _recognised(rows: Sequence[Row]) -> str:
    """Say what became of matrices: of each, or of the first few of a kind and how many more."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(str(row.values["delta_kind"]), []).append(row)
    told = []
    for kind, some in kinds.items():
        told += [f"{row.matrix} {row.values['delta_note']}" for row in some[:NAMED]]
        if len(some) > NAMED:
            rest = DAMAGED.get(kind, DAMAGED["zero rows"])
            told.append(f"{len(some) - NAMED:,} more {rest}")
    return "; ".join(told)


def _trained(changed: Sequence[Row], every: Sequence[Row]) -> str:
    """Say what the rest of a change looks like.

    Args:
        changed: Rows, at least one.
        every: All that were compared.
    """
    kinds: dict[str, list[Row]] = {}
    for row in changed:
        kinds.setdefault(str(row.values["delta_kind"]), []).append(row)
    settled = [row for row in changed if row.values["delta_kind"] in KNOWN]
    told = [_settled(settled, every)] if settled else []
    clauses = (
        (_vague, [*kinds.get("at least", ()), *kinds.get("unresolved", ())]),
        (_few_rows, kinds.get("few rows", [])),
        (_few_columns, kinds.get("few columns", [])),
        (_pruned, kinds.get("pruning", [])),
    )
    for clause, rows in clauses:
        if rows:
            said = clause(rows, "" if told else f" ({share_of(rows, every)})")
            told.append(said[0].upper() + said[1:])
    stored = [kind for kind in STORED if kind in kinds]
    if not told:
        rows = [row for kind in stored for row in kinds[kind]]
        beside = ", or too small to show beside it" if "quantising" in kinds else ""
        return f"The change is {' and '.join(stored)} alone{beside} ({share_of(rows, every)})."
    for kind in stored:
        were = "was" if matrices_of(kinds[kind]) == 1 else "were"
        told.append(f"{tallied(kinds[kind], MORE)} {were} {STORED[kind]}.")
    return " ".join(told)


def _settled(rows: Sequence[Row], every: Sequence[Row]) -> str:
    """Say what matrices look like whose rank is known: those of low rank, and the others.

    A matrix with so few rows or columns that an update of the others' rank fills half of it is
    taken for one of them. So is a head; heads that no whole matrix tells of are told apart.
    """
    grids = sorted({str(row.values["delta_grid"]) for row in rows} - {*FLOATS, "None"})
    within = f", above the rounding of {listed(grids)}" if grids else ""
    most = max(_low_ranks(rows), default=0)
    low = [row for row in rows if _rank(row) <= most]
    rest = [row for row in rows if _rank(row) > most]
    hidden = all(map(_is_filled, rest)) and not _is_scaled(rest)
    full = _by_head(rest) if hidden else _full(rest)
    told = [(kind, some) for kind, some in ((_low(low, rest), low), (full, rest)) if some]
    told.sort(key=lambda one: -matrices_of(one[1]))
    kinds = [f"{kind} on {where(some)} ({share_of(some, every)})" for kind, some in told]
    return f"The change looks like {' and '.join(kinds)}{within}."


def _low(rows: Sequence[Row], others: Sequence[Row]) -> str:
    """Name a change of low rank; beside a full fine-tune of more matrices it is no adapter's."""
    ranks = _low_ranks(rows)
    if len(set(ranks)) == 1 and matrices_of(rows) >= matrices_of(others):
        return f"a rank-{ranks[0]} LoRA"
    several = "ranks" if len(set(ranks)) > 1 else "rank"
    return f"a low-rank update ({several} {_span(ranks)})" if ranks else ""


def _low_ranks(rows: Sequence[Row]) -> list[int]:
    return [
        _rank(row) for row in rows if row.values["delta_kind"] == "low rank" and not _is_filled(row)
    ]


def _is_filled(row: Row) -> bool:
    """Say whether a head changed in so many directions that more may be hidden in its matrix."""
    kind, size = row.values["delta_kind"], min(row.place.rows, row.place.cols)
    return is_head(row) and (kind != "low rank" or _rank(row) == size)


def _by_head(rows: Sequence[Row]) -> str:
    """Name a change of which heads show no more than a rank that it has at least."""
    least = f"a LoRA of rank {min(map(_rank, rows), default=0):,} or more"
    if all(row.values["delta_moved"] is None for row in rows):  # an adapter's factors
        return least
    return f"{least} or full fine-tuning, which heads are too small to tell apart,"


def _full(rows: Sequence[Row]) -> str:
    """Name a change of full rank."""
    plain = [row for row in rows if not row.values.get("delta_note")]
    counts = [(row.number("delta_moved"), row.place.numel) for row in plain]
    known = [(moved, numel) for moved, numel in counts if moved is not None]  # not of an adapter
    part = sum(one for one, _ in known) / (sum(numel for _, numel in known) or 1)
    sparse = f" of {percent(part)} of the entries" if 0.0 < part < SPARSE else ""
    return f"full fine-tuning{sparse}" + " or a LoRA that scales rows (DoRA)" * _is_scaled(rows)


def _is_scaled(rows: Sequence[Row]) -> bool:
    """Say whether rows were scaled: what does so scales those of nearly every matrix it trains.

    A matrix that lost a head holds rows of the base too: what is recognised tells nothing here.
    """
    plain = [row for row in rows if not row.values.get("delta_note")]
    return 2 * sum(row.values["delta_kind"] == "scaled rows" for row in plain) > len(plain)


def _rank(row: Row) -> int:
    return int(row.number("delta_rank") or 0)


def _vague(rows: Sequence[Row], share: str) -> str:
    grids = listed(sorted({str(row.values["delta_grid"]) for row in rows}))
    ranks = [_rank(row) for row in rows]
    moved = sum(int(row.number("delta_moved") or 0) for row in rows)
    entries = f"{moved:,} of {sum(row.place.numel for row in rows):,} entries moved"
    subject = _subject(rows, share)
    part = above = ""
    if any(ranks):
        least = f"at least rank {_span(ranks)}" if all(ranks) else f"up to rank {max(ranks):,}"
        part, above = " in part", f", {least} stands above it"
    return (
        f"{subject} changed{part} by less than the rounding of {grids} can resolve in rank: "
        f"{entries}{above}; whether by a LoRA or by full fine-tuning is not known."
    )


def _few_rows(rows: Sequence[Row], share: str) -> str:
    moved = sum(int(row.number("delta_rows") or 0) for row in rows)
    held = sum(row.place.rows for row in rows)
    return f"In {_subject(rows, share)} only {moved:,} of {held:,} rows{_of_heads(rows)} changed."


def _few_columns(rows: Sequence[Row], share: str) -> str:
    moved = sum(int(row.number("delta_cols") or 0) for row in rows)
    held = sum(row.place.cols for row in rows)
    return (
        f"In {_subject(rows, share)} only {moved:,} of {held:,} columns{_of_heads(rows)} changed."
    )


def _of_heads(rows: Sequence[Row]) -> str:
    """Say that lines are counted in every head: one row of an output projection is in all."""
    return " of heads" if all(map(is_head, rows)) else ""


def _pruned(rows: Sequence[Row], share: str) -> str:
    moved = sum(int(row.number("delta_moved") or 0) for row in rows)
    part = moved / sum(row.place.numel for row in rows)
    return (
        f"In {_subject(rows, share)} {percent(part)} of the entries became zero and no others "
        "changed: pruning."
    )


def _subject(rows: Sequence[Row], share: str) -> str:
    if share:
        return where(rows) + share
    return tallied(rows, MORE)


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def where(changed: Sequence[Row]) -> str:
    """Say on which kinds of matrices and layers."""
    names = {"attn": "attention", "mlp": "MLP", "embed": "embeddings", "lm_head": "head"}
    kinds = dict.fromkeys(
        names.get(row.place.role.split(".")[0], row.place.role) for row in changed
    )
    words = list(kinds)
    text = listed(words)
    layers = {row.place.layer for row in changed} - {None}
    return f"{text} of {counted(len(layers), 'layer')}" if layers else text
