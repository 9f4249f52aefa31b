"""What a reader should look at first, matrix by matrix, over all results of a page."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from spectra.report.kind import Document, Worst, kind_of, noun_of
from spectra.text import counted, listed, printable
from spectra.words import MATRIX, SEVERITIES, UNMEASURED, VECTOR, Severity

MOST = 12  # matrices of the page's list

VECTORS, TENSOR = ("vector", "vectors"), ("tensor", "tensors")
NOUNS = (MATRIX, VECTORS, TENSOR)
"""What a trouble is in, one and several; a tensor is one that the model has no row of."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One matrix, or another subject, and every fact about it, the worst first."""

    facts: Sequence[Worst]

    @property
    def first(self) -> Worst:
        """The worst fact."""
        return self.facts[0]

    @property
    def mark(self) -> Severity:
        """How bad the worst of it is."""
        return self.first.mark

    @property
    def rank(self) -> tuple[bool, int, bool, int]:
        """Worst first: what is new, severe, without numbers, and of many facts."""
        return (*_order(self.first), -len(self.facts))


def worst_of(
    documents: Sequence[tuple[str, Document]], others: Mapping[str, str] | None = None
) -> list[Trouble]:
    """Return what is worst matrix by matrix; a fact is told once, by a finding where there is one.

    Args:
        documents: The section and the document of each result.
        others: Sections of another model than the page is about, and its name: what is merely
            highest there is not told.
    """
    others = others or {}
    # Findings first: they also say what the policy makes of it.
    judges = sorted(documents, key=lambda one: not kind_of(one[1]["command"]).judges)
    # What a policy judged of this model and let pass is no warning, whoever else tells it.
    settled = set[str]().union(
        *(kind_of(document["command"]).settles(document) for _, document in documents)
    )
    found: dict[tuple[object, ...], dict[tuple[str, str], Worst]] = {}
    for section, document in judges:
        kind = kind_of(document["command"])
        judged = kind.judges
        for one in (*_broken(document), *kind.worst(document)):
            line = replace(one, noun=noun_of(document))
            subject = (line.matrix,) if line.opens and line.matrix else (line.matrix, section)
            whose = others.get(section, "")
            if not (judged or whose) and line.mark == "warning" and line.about in settled:
                # Nothing is allowed of a matrix in which the policy finds something else.
                faults = (one.mark != "note" for one in found.get((line.matrix,), {}).values())
                allowed = "" if any(faults) else " (the policy allows it)"
                line = replace(line, mark="note", text=line.text + allowed)
            if whose and line.mark == "note":
                continue
            facts = found.setdefault(subject, {})
            if not (judged or whose) and any(line.about in one.covers for one in facts.values()):
                continue
            # One check may have several findings of one kind on a matrix: each is counted there.
            key = ((line.about or line.text) + whose, line.text if judged else "")
            if judged or all(about != key[0] for about, _ in facts):
                text = f"{line.text} (in {whose})" if whose else line.text
                facts.setdefault(key, replace(line, text=text, section=section))
    troubles = [Trouble(sorted(facts.values(), key=_order)) for facts in found.values() if facts]
    return sorted(troubles, key=lambda one: one.rank)


def severity_of(document: Document) -> tuple[bool, int, bool, int]:
    """Return how bad the worst is that a result tells, and of how much; notes count not."""
    lines = [*_broken(document), *kind_of(document["command"]).worst(document)]
    bad = [_order(line) for line in lines if line.mark != "note"]
    return (*min(bad), -len(bad)) if bad else (True, len(SEVERITIES), True, 0)


def told(troubles: Sequence[Trouble]) -> str:
    """Say how many matrices have errors, and how many only warnings; vectors by themselves."""
    pieces = []
    for mark, word in (("error", "errors"), ("warning", "warnings")):
        firsts = [one.first for one in troubles if one.mark == mark]
        named = {one.matrix: _noun(one) for one in firsts if one.matrix is not None}
        numbers = Counter(named.values())
        places = [counted(numbers[noun], *noun) for noun in dict.fromkeys((*NOUNS, *numbers))
                  if numbers[noun]]  # fmt: skip
        places += ["the model as a whole"] if any(one.matrix is None for one in firsts) else []
        if places:
            pieces.append(f"{word} in {listed(places)}")
    return ", ".join(pieces) or "no errors or warnings"


def _noun(line: Worst) -> tuple[str, str]:
    if not line.opens:
        return TENSOR
    return VECTORS if line.vector else line.noun


def _order(line: Worst) -> tuple[bool, int, bool]:
    known = line.mark in SEVERITIES
    place = SEVERITIES.index(line.mark) if known else len(SEVERITIES)
    return line.known, place, line.about not in UNMEASURED


def _broken(document: Document) -> Iterator[Worst]:
    """Yield matrices without numbers: they hold NaN or Inf, or could not be measured."""
    judges = kind_of(document["command"]).judges
    told = {item.get("matrix") for item in document["summary"]["findings"]} if judges else set()
    for row in document["rows"]:
        if row["status"] in UNMEASURED and row["matrix"] not in told:
            text = f"no numbers: {printable(row['error'] or 'it holds NaN or Inf')}"
            is_vector = row.get("role") == VECTOR
            yield Worst("error", row["matrix"], text, about=row["status"], vector=is_vector)
