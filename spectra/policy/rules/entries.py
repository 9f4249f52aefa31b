"""What is wrong with the entries of a matrix: NaN and Inf, zeros, overflow, a stray dtype."""

from collections import Counter
from collections.abc import Iterator

from spectra.numbers import EXACT, apart, percent
from spectra.policy.facts import Facts, Subject, is_buffer
from spectra.policy.finding import Breach
from spectra.policy.rule import SettingsOf
from spectra.policy.rules.adapters import idle_factors
from spectra.policy.rules.experts import idle_names
from spectra.policy.rules.heads import dead_heads
from spectra.policy.rules.inventory import references
from spectra.policy.rules.places import is_adapter, is_zero, place
from spectra.text import counted
from spectra.text import non_finite as told_of

LARGEST = {"F16": "65,504", "BF16": "3.39e38"}
FEW = 4  # matrices of a role, from which on there is a majority
MAJORITY = 0.75
BOUNDS = ("_min", "_max")
"""How the names of what a module clips to end; none is an infinite one."""

WEIGHTS = ("weight", "bias")
"""How the names of what a module multiplies and adds end."""


def non_finite(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield tensors that hold NaN or Inf, vectors too; masks may."""
    for subject in facts.subjects.values():
        nan, inf = (int(subject.number(key) or 0) for key in ("nan", "inf"))
        if subject.tensor.endswith(BOUNDS):
            inf = 0
        if not nan + inf or _is_buffer(facts, subject) or settings_of(subject.name) is None:
            continue
        text = told_of(nan, inf, subject.values.get("first_non_finite"))
        if inf and subject.dtype == "F16" and subject.codec is None:
            text += f"; F16 holds at most {LARGEST['F16']}"
        yield Breach(text, subject.name, nan + inf, 0.0)


def all_zero(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices of zeros only; experts that are zero have a rule, and so have adapters."""
    told = idle_names(facts) | idle_factors(facts)
    for subject in facts.matrices():
        judged = subject.name not in told and settings_of(subject.name) is not None
        if judged and is_zero(subject) and not _is_unused(subject):
            yield Breach(f"all {subject.rows:,} x {subject.cols:,} entries are 0", subject.name,
                         0.0)  # fmt: skip


def empty(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield tensors of weights without elements, where they or a reference should have some."""
    for name in facts.empty:
        full = [word for word, other in references(facts) if 0 not in other.shapes.get(name, (0,))]
        if (name.endswith(WEIGHTS) or full or is_adapter(facts)) and settings_of(name) is not None:
            than = f", and {list(_shape(facts, name, full[0]))} in the {full[0]}" if full else ""
            yield Breach(f"has no elements: shape {list(facts.shapes[name])}{than}", name, 0.0)


def _shape(facts: Facts, name: str, word: str) -> tuple[int, ...]:
    return dict(references(facts))[word].shapes[name]


def saturated(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield tensors with entries at the largest number of their dtype."""
    for subject in facts.subjects.values():
        count = int(subject.number("saturated") or 0)
        limit = LARGEST.get(subject.dtype)
        if not count or limit is None or _is_buffer(facts, subject):
            continue
        if settings_of(subject.name) is not None:
            yield Breach(
                f"{counted(count, 'entry', 'entries')} at {limit}, the largest {subject.dtype}",
                subject.name,
                count,
                0.0,
            )


def dtype_mix(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices stored in another dtype than nearly all of their role and stack."""
    groups: dict[tuple[str, str], list[Subject]] = {}
    for subject in facts.matrices():
        if subject.codec is None and subject.role != "other":
            at = place(subject.tensor)
            groups.setdefault((subject.role, at[0] if at else ""), []).append(subject)
    for (role, _), subjects in groups.items():
        dtype, count = Counter(subject.dtype for subject in subjects).most_common(1)[0]
        if len(subjects) < FEW or count < MAJORITY * len(subjects):
            continue
        for subject in subjects:
            if subject.dtype != dtype and settings_of(subject.name) is not None:
                yield Breach(f"stored as {subject.dtype}, where {count:,} of {len(subjects):,} "
                             f"{role} are {dtype}", subject.name)  # fmt: skip


def dead_rows(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices too many rows or columns of which are zero; whole heads have a rule."""
    padded = _padded(facts)
    for subject in facts.matrices():
        settings = settings_of(subject.name)
        table = subject.role in {"embed", "lm_head"}
        if settings is None or table or is_zero(subject) or not is_map(subject):
            continue
        dead = dead_heads(facts, subject)
        found = []
        for axis, total, noun in (("rows", subject.rows, "row"), ("cols", subject.cols, "column")):
            count = int(subject.number(f"zero_{axis}") or 0)
            if (subject.name, axis) in padded:
                continue
            of_heads = dead.lines if dead is not None and dead.axis == axis else 0
            share = (count - of_heads) / total if total else 0.0
            if share > settings["max"]:
                told = f"{count:,} of {counted(total, noun)}"
                found.append((share, told, "is" if count == 1 else "are", of_heads))
        if not found:
            continue
        (share, told, verb, of_heads), *other = sorted(found, reverse=True)
        most = settings["max"]
        told += f" {verb} 0"
        told += f"; without {of_heads:,} of whole heads, " if of_heads else ": "
        told += f"{apart(share, most, percent)} > {percent(most, EXACT)} allowed"
        told += "".join(f"; so {also} {lines}" for _, lines, also, _ in other)
        yield Breach(told, subject.name, share, most)


def _padded(facts: Facts) -> set[tuple[str, str]]:
    """Return the factors, and which axis, whose directions are unused on both sides.

    A stack of experts has one rank for all: those of a lower one are filled up with zeros.
    """
    if facts.adapter is None or not facts.is_adapter:
        return set()
    by_tensor: dict[str, list[Subject]] = {}
    for subject in facts.matrices():
        by_tensor.setdefault(subject.tensor, []).append(subject)
    found: set[tuple[str, str]] = set()
    for names in facts.adapter.factors.values():
        sides = [(by_tensor.get(name, []), axis)
                 for name, axis in zip(names, ("rows", "cols"), strict=False)]  # fmt: skip
        unused = {sum(int(one.number(f"zero_{axis}") or 0) for one in some) for some, axis in sides}
        if len(sides) == 2 and len(unused) == 1 and unused != {0}:
            found |= {(one.name, axis) for some, axis in sides for one in some}
    return found


def is_map(subject: Subject) -> bool:
    """Say whether a matrix is a module's weight, not a table of settings such as Mamba's A_log."""
    return subject.role != "other" or subject.tensor.endswith("weight")


def _is_unused(subject: Subject) -> bool:
    """Say whether zeros are what a table holds that its model does without, as RoBERTa does."""
    return subject.role == "embed" and (subject.rows == 1 or "token_type" in subject.tensor)


def _is_buffer(facts: Facts, subject: Subject) -> bool:
    return is_buffer(subject.tensor, facts.shapes.get(subject.tensor, ()))
