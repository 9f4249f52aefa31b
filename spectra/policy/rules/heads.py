"""Attention heads that are zero."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from spectra.matrices.heads import heads_of
from spectra.matrices.per_head import ATTENTION, LATENT
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Breach
from spectra.policy.rule import SettingsOf
from spectra.policy.rules.places import runs

ROLES = frozenset(ATTENTION)
NAMED = 8


@dataclass(frozen=True, slots=True)
class Dead:
    """Heads of one matrix that are zero."""

    heads: tuple[int, ...]
    total: int
    axis: Literal["rows", "cols"]
    size: int  # rows or columns of one

    @property
    def lines(self) -> int:
        """Rows or columns of all that are zero."""
        return self.size * len(self.heads)


def dead_heads(facts: Facts, subject: Subject) -> Dead | None:
    """Return the heads of a matrix that are zero; None: none is, or it has none that are known.

    Args:
        facts: The config.json tells how many heads there are.
        subject: Rows of q, k and v are those of heads, columns of the output projection.
    """
    axis: Literal["rows", "cols"] = "cols" if subject.role == "attn.o" else "rows"
    found = subject.values.get("zero_col_runs" if axis == "cols" else "zero_row_runs")
    if not found or subject.role not in ROLES or any(word in subject.tensor for word in LATENT):
        return None
    total, told = heads_of(subject.tensor, facts.config).of(subject.role)
    sides = subject.cols if axis == "cols" else subject.rows
    if total is None or sides % total or sides == total:
        return None
    size = sides // total
    if told is not None and told != size:
        return None  # another kind of attention
    lines = list(runs(found))
    dead = tuple(
        head
        for head in range(total)
        if any(run.start <= head * size and (head + 1) * size <= run.stop for run in lines)
    )
    return Dead(dead, total, axis, size) if dead else None


def dead_head(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices of attention some heads of which are zero, and not all."""
    for subject in facts.matrices():
        dead = dead_heads(facts, subject)
        if dead is None or len(dead.heads) == dead.total or settings_of(subject.name) is None:
            continue
        named = ", ".join(map(str, dead.heads[:NAMED]))
        more = f" and {len(dead.heads) - NAMED} more" if len(dead.heads) > NAMED else ""
        what = {"attn.k": "key ", "attn.v": "value "}.get(subject.role, "")
        one = len(dead.heads) == 1
        yield Breach(
            f"{what}{'head' if one else 'heads'} {named}{more} of {dead.total} (from 0) "
            f"{'is' if one else 'are'} 0: {dead.size} {_lines(dead)} each",
            subject.name,
            len(dead.heads),
            0.0,
        )


def _lines(dead: Dead) -> str:
    return "rows" if dead.axis == "rows" else "columns"
