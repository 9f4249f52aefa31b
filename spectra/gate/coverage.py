"""How much of what should be there was judged, and of the rest what and why not."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spectra.checkpoint import Adapter, Skipped
from spectra.checkpoint.unread import ANOTHER, OF_THE_MODEL
from spectra.gate.reading import Reading
from spectra.policy.facts import Facts, is_buffer
from spectra.policy.rules.inventory import absent
from spectra.text import counted, shown

NAMED = 3  # reasons and files that the sentence names
FORMAT = re.compile(rf"^({ANOTHER}) \([^)]*\)")
"""Which format a file has, that the sentence leaves out: many repositories have four."""

NO_WEIGHTS = frozenset({"BOOL", "I64"})
"""Dtypes of positions and masks, in which nothing is packed."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of a model was judged."""

    judged: int  # tensors
    matrices: int  # tensors of two axes or more among them
    left: tuple[Skipped, ...]  # tensors that are there and were not judged
    missing: tuple[str, ...]  # that are not there and should be
    files: tuple[Skipped, ...]  # of weights, not opened: parts of the model
    others: tuple[Skipped, ...] = ()  # likewise: the same in another form
    unlooked: int = 0  # tensors that were read and that no rule looked at

    @property
    def total(self) -> int:
        """Tensors that should have been judged, files that were not opened among them."""
        apart = (self.left, self.missing, self.files)
        return self.judged + self.unlooked + sum(map(len, apart))

    @property
    def share(self) -> float:
        """Judged ones of all."""
        return self.judged / self.total if self.total else 0.0

    @property
    def is_nothing(self) -> bool:
        """Say whether no matrix was judged, where there are some."""
        return not self.judged or (not self.matrices and self.judged < self.total)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data."""
        found = [
            *({"what": name, "reason": "missing"} for name in self.missing),
            *({"what": one.tensor, "reason": one.reason} for one in self.left),
            *({"what": one.tensor, "reason": one.reason} for one in (*self.files, *self.others)),
        ]
        return {"tensors": self.total, "judged": self.judged, "share": self.share,
                "missing": len(self.missing), "not_judged": found}  # fmt: skip

    def told(self) -> str:
        """Return what was not judged and why, as the end of a sentence; empty: nothing."""
        kinds = Counter(one.reason for one in self.left).most_common()
        pieces = [f"{counted(count, 'tensor')} ({reason})" for reason, count in kinds[:NAMED]]
        more = sum(count for _, count in kinds[NAMED:])
        if more:
            pieces.append(f"{counted(more, 'tensor')} for other reasons")
        if self.missing:
            pieces.insert(0, f"{counted(len(self.missing), 'tensor')} missing")
        files: dict[str, list[str]] = {}
        for one in (*self.files, *self.others):
            files.setdefault(FORMAT.sub(r"\1", one.reason), []).append(shown(one.tensor))
        for reason, names in files.items():
            more_files = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
            pieces.append(f"{', '.join(names[:NAMED])}{more_files} ({reason})")
        if self.unlooked:
            pieces.append(f"{counted(self.unlooked, 'tensor')} (by no rule)")
        return ", ".join(pieces)


def coverage_of(model: Reading, facts: Facts, *, ruled: bool) -> Coverage:
    """Return how much of a model was judged.

    Args:
        model: As it was read.
        facts: What was measured, beside its references.
        ruled: Some rule judged.
    """
    judged = {one.tensor for one in facts.subjects.values()} & set(facts.shapes)
    failed = [
        Skipped(view.entry.name, f"not measured: {facts.failed[view.name]}")
        for view in model.views
        if view.name in facts.failed
    ]
    left = {one.tensor: one for one in (*_left(model), *failed) if one.tensor not in judged}
    unread = model.weights.unread
    files = tuple(one for one in unread if one.reason.startswith(OF_THE_MODEL))
    known = judged | left.keys()
    return Coverage(
        judged=len(judged) if ruled else 0,
        unlooked=0 if ruled else len(judged),
        matrices=sum(len(facts.shapes[name]) > 1 for name in judged),
        left=tuple(left.values()),
        missing=tuple(sorted(absent(facts) - known)),
        files=files,
        others=tuple(one for one in unread if one not in files),
    )


def _left(model: Reading) -> Iterator[Skipped]:
    """Yield the tensors that should be weights and were not read, each with its reason."""
    weights, opened = model.weights, model.survey.checkpoint
    updates = opened.updates.values() if isinstance(opened, Adapter) else ()
    indices = {entry.name for own in updates for _, entry in own.parts if not entry.is_weights}
    for item in model.left:
        entry = weights.entries.get(item.tensor)
        if item.tensor in indices:  # say where an adapter's entries belong
            continue
        if entry is None:
            if not is_buffer(item.tensor) and not _is_count(item.reason):
                yield item
        elif not entry.numel and entry.is_weights:
            yield Skipped(item.tensor, "no elements")
        elif entry.is_weights or (
            entry.dtype not in NO_WEIGHTS and len(entry.shape) > 1
            and not is_buffer(entry.name, entry.shape)
        ):  # fmt: skip
            yield item


def _is_count(reason: str) -> bool:
    """Say whether a tensor was left out on opening since it holds positions or flags."""
    return reason.startswith("not floating point") and any(
        word in reason for word in ("int64", "bool", *NO_WEIGHTS)
    )
