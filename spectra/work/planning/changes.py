"""What becomes of a matrix of the base: nothing, new values, an update, or some new rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from spectra.checkpoint import Checkpoint, Skipped
from spectra.matrices import Selection, View, match_names, views_of
from spectra.matrices.pairing import Named, by_ending, module_of
from spectra.matrices.part import Part
from spectra.matrices.view import unread_weights
from spectra.text import quote, shown
from spectra.words import VOCABULARY
from spectra.work.planning.placing import NO_BASE
from spectra.work.task import Change, Replaced

NO_TUNED = "no counterpart in the tuned model"
MISSHAPEN = "not compared"  # and both shapes


@dataclass(frozen=True, slots=True)
class Unpaired:
    """How many matrices of two models found no partner, whatever the reason.

    What the user left out is not among them. A weight that was not read counts as the matrices
    that its counterpart holds, or as one where there is none.
    """

    base: int = 0
    base_of: int = 0  # matrices of the base, those with a partner among them
    tuned: int = 0
    tuned_of: int = 0
    first: Skipped | None = None  # one of them
    whose: str = "of the tuned model"  # the tuned ones are
    ours: str = "of the base"  # the others
    modules: int = 0  # of an adapter, that match no tensor of the base
    modules_of: int = 0

    def plain(self) -> dict[str, dict[str, int]]:
        """Return the counts as plain data."""
        sides = {
            "base": {"matrices": self.base_of, "unpaired": self.base},
            "tuned": {"matrices": self.tuned_of, "unpaired": self.tuned},
        }
        if self.modules_of:
            sides["adapter"] = {"modules": self.modules_of, "unpaired": self.modules}
        return sides

    def without(self, misshapen: Sequence[Skipped]) -> "Unpaired":
        """Count matrices of another shape on the other side among those without a partner."""
        if not misshapen:
            return self
        more = len(misshapen)
        first = self.first or misshapen[0]
        return replace(self, base=self.base + more, tuned=self.tuned + more, first=first)

    def text(self) -> str:
        """Say it in a sentence; empty where all have one."""
        sides = (
            (self.base, self.base_of, self.ours),
            (self.tuned, self.tuned_of, self.whose),
        )
        told = [(f"{count:,} of {whole:,}", side) for count, whole, side in sides if count]
        if not told or self.first is None:
            return ""
        (count, side), *others = told
        noun = "matrix" if (self.base_of if self.base else self.tuned_of) == 1 else "matrices"
        counts = " and ".join([f"{count} {noun} {side}", *map(" ".join, others)])
        name, reason = quote(self.first.tensor), self.first.reason
        if self.base + self.tuned == 1:
            return f"{counts} found no partner: {name} ({reason})."
        return f"{counts} found no partner, such as {name}: {reason}."


@dataclass(slots=True)
class Changes:
    """Every matrix that can be compared, and what cannot, with its reason."""

    pairs: list[tuple[View, Change]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # shapes that differ, a sentence each
    misshapen: list[Skipped] = field(default_factory=list)  # the same matrices
    warning: str = ""
    unpaired: Unpaired = field(default_factory=Unpaired)

    def misfit(self, name: str, there: Sequence[int], here: Sequence[int], what: str = "") -> None:
        """Note a matrix whose shape is another one.

        Args:
            name: In the base.
            there: Its shape.
            here: The other one; 0 is not known.
            what: Of what that is, with a space after it.
        """
        base, own = (" x ".join(f"{n:,}" if n else "?" for n in one) for one in (there, here))
        self.wrong.append(f"tensor {quote(name)} is {base} there and {'the ' * bool(what)}{what}"
                          f"{own} here")  # fmt: skip
        shapes = f"{base} in the base, {what}{own} here"
        self.misshapen.append(Skipped(name, f"{MISSHAPEN}: {shapes}"))

    def add(self, view: View, change: Change, rows: int, cols: int) -> None:
        """Note a pair; where only the vocabulary's size differs, that of the shared rows.

        Args:
            view: Of the base.
            change: What becomes of it.
            rows: Of the tuned matrix, in canonical orientation.
            cols: Likewise.
        """
        if (view.rows, view.cols) == (rows, cols):
            self.pairs.append((view, change))
            return
        shared = min(view.rows, rows)
        cut = first_rows(view.part, shared)
        if view.role.kind not in VOCABULARY or view.cols != cols or cut is None:
            self.misfit(view.name, (view.rows, view.cols), (rows, cols))
            return
        if isinstance(change, Replaced) and rows > shared:
            part = first_rows(change.part, shared)
            if part is None:
                self.skipped.append(Skipped(view.name, "its rows cannot be told apart there"))
                return
            change = replace(change, slab=part.slab, part=part)
        where = "base" if rows > shared else "tuned model"
        rest = f"{view.name}[{shared}:{max(view.rows, rows)}]"
        self.skipped.append(Skipped(rest, f"rows that the {where} lacks; the others are compared"))
        if view.rows > shared or not isinstance(change, Replaced):  # an update is cut by it too
            view = replace(view, part=cut, rows=shared)
        self.pairs.append((view, change))


def first_rows(part: Part, count: int) -> Part | None:
    """Return a part's first rows, or None where they do not lie together at its start."""
    plain = part.rows is None and part.expert is None and part.group is None
    if not plain or part.transposed or part.alone or part.block is not None:
        return None
    return replace(part, block=(0, count))


@dataclass(frozen=True, slots=True)
class Asked:
    """The matrices of the base that are compared, and which of any model would be."""

    views: Sequence[View]  # of the base, those that pass
    every: Sequence[View]  # of the base
    selection: Selection


def checkpoint_changes(base: Checkpoint, asked: Asked, tuned: Checkpoint) -> Changes:
    """Find each base matrix's counterpart in a tuned checkpoint, which may lie otherwise there.

    Args:
        base: The model before.
        asked: Its matrices that are asked for.
        tuned: The model after.

    Raises:
        PairingError: A name matches several others equally well.
    """
    found, unmatched = match_names(base.entries, tuned.entries, f"tensor of {shown(tuned.spec)}")
    theirs, reasons = views_of(tuned)
    by_tensor: dict[str, dict[str, View]] = {}
    for view in theirs:
        by_tensor.setdefault(view.entry.name, {})[view.part.suffix] = view
    why = {item.tensor: item.reason for item in reasons}
    unread = by_ending((module_of(item.tensor), item.reason) for item in tuned.skipped)
    lost = by_ending((module_of(item.tensor), item.reason) for item in base.skipped)
    changes = Changes()
    for name in unmatched:
        reason = lost.of(module_of(name))
        told = NO_BASE if reason is None else f"not read in the base: {reason}"
        changes.skipped.append(Skipped(name, told))
    for view in asked.views:
        other = found.get(view.entry.name, "")
        matrices = by_tensor.get(other, {})
        match = matrices.get(view.part.suffix)
        if match is None:
            changes.skipped.append(Skipped(view.name, _reason(view, other, matrices, why, unread)))
            continue
        change = Replaced(tuned, match.entry, match.part.slab, match.part)
        changes.add(view, change, match.rows, match.cols)
    changes.unpaired = _unpaired(asked, found, (base, tuned), theirs, changes.skipped)
    return changes


def _reason(
    view: View, other: str, matrices: Mapping[str, View], why: Mapping[str, str], unread: Named[str]
) -> str:
    if other in why:
        return f"no matrix in the tuned model: {why[other]}"
    if matrices:
        return f"{NO_TUNED}, whose tensor holds {', '.join(sorted(matrices)) or 'one'}"
    reason = unread.of(module_of(view.entry.name))
    return NO_TUNED if reason is None else f"not read in the tuned model: {reason}"


def _unpaired(
    asked: Asked,
    found: Mapping[str, str],
    models: tuple[Checkpoint, Checkpoint],
    theirs: Sequence[View],
    skipped: Sequence[Skipped],
) -> Unpaired:
    """Count the matrices of either model that the other lacks."""
    names = {other: name for name, other in found.items()}
    every = {(view.entry.name, view.part.suffix) for view in asked.every}
    wanted = asked.selection.apply(theirs)
    have = {(view.entry.name, view.part.suffix) for view in theirs}
    lone_base = [
        view.name
        for view in asked.views
        if (found.get(view.entry.name), view.part.suffix) not in have
    ]
    lone_tuned = [
        view.name for view in wanted if (names.get(view.entry.name), view.part.suffix) not in every
    ]
    unread = [0, 0]
    if asked.selection == Selection():  # what was not read has no role to be selected by
        base, tuned = models
        unread = [_unread(base, tuned, theirs), _unread(tuned, base, asked.every)]
    reasons = {item.tensor: item for item in skipped}
    lone = [*lone_base, *(name.partition("[")[0] for name in lone_tuned)]
    first = next((reasons[name] for name in lone if name in reasons), None)
    if first is None:
        told = [item for model in models for item in unread_weights(model)]
        first = next(iter(told if any(unread) else []), None)
    if first is None and lone:
        first = Skipped(lone[0], NO_BASE if lone_tuned else NO_TUNED)
    return Unpaired(
        len(lone_base) + unread[0],
        len(asked.views) + unread[0],
        len(lone_tuned) + unread[1],
        len(wanted) + unread[1],
        first,
    )


def _unread(model: Checkpoint, other: Checkpoint, views: Sequence[View]) -> int:
    """Count matrices among what was left out on opening a model.

    Args:
        model: What was not read of it has no shape.
        other: What it is compared with, where the same may be there and have one.
        views: All matrices of the other.
    """
    held = Counter(view.entry.name for view in views)
    tensors = by_ending((name, held[name]) for name in other.entries)
    of_modules = Counter(module_of(name) for name in held.elements())
    modules = by_ending((module, of_modules[module]) for module in map(module_of, other.entries))
    lone = {module_of(item.tensor) for item in unread_weights(model)}
    parts: dict[str, list[str]] = {}
    for item in model.skipped:
        parts.setdefault(module_of(item.tensor), []).append(item.tensor)
    count = 0
    for module, names in parts.items():
        known = [found for found in map(tensors.of, names) if found is not None]
        told = sum(known) if known else modules.of(module) if module in lone else 0
        count += 1 if told is None else told
    return count
