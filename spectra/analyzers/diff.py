"""What fine-tuning changed: the update's spectrum, and intruder dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args

from spectra.analyzers.ablation import Edit, edits_of
from spectra.analyzers.ablation_reading import reading_of_edits, summary_of_edits
from spectra.analyzers.analyzer import Pairs, Summary, Takes, require_count, require_share
from spectra.analyzers.change import reading_of
from spectra.analyzers.damage import displaced, prints_of
from spectra.analyzers.delta import (
    DELTA_KEYS,
    EVIDENCE_KEYS,
    UNCHANGED,
    update_memory,
    update_of,
)
from spectra.analyzers.frame import UNCHANGED as SAME
from spectra.analyzers.frame import (
    frame_of,
    reading_of_frames,
    summary_of_frames,
    without_frame,
)
from spectra.analyzers.head import head_of, heads_of_rows, reading_of_heads
from spectra.analyzers.intruders import KEYS as INTRUDER_KEYS
from spectra.analyzers.intruders import Look
from spectra.analyzers.row import Measurement, Row
from spectra.analyzers.tally import matrices_of
from spectra.analyzers.waves import UNCHANGED as WITHOUT_WAVES
from spectra.analyzers.waves import beyond, reading_of_waves, waves_of
from spectra.errors import UsageError
from spectra.kernels.work import (
    ENTRY,
    NO_WORK,
    Work,
    change_work,
    factors_work,
    frame_memory,
    frame_work,
    is_long,
    singular_values_memory,
    singular_values_work,
)
from spectra.matrices import Pair, View
from spectra.text import counted, listed
from spectra.words import MATRIX, Frame, Sides


@dataclass(frozen=True, slots=True)
class Diff:
    """The update D = W1 - W0, and which leading directions of W1 the base lacks.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228 (intruder dimensions).
    """

    name: ClassVar[str] = "diff"
    version: ClassVar[int] = 5
    later: ClassVar[frozenset[str]] = frozenset({"dct_rank", "method"})
    concluding: ClassVar[frozenset[str]] = frozenset({"method"})
    DELTA_KEYS: ClassVar[tuple[str, ...]] = DELTA_KEYS
    EVIDENCE_KEYS: ClassVar[tuple[str, ...]] = EVIDENCE_KEYS
    INTRUDER_KEYS: ClassVar[tuple[str, ...]] = INTRUDER_KEYS
    keys: ClassVar[tuple[str, ...]] = DELTA_KEYS + EVIDENCE_KEYS + INTRUDER_KEYS

    intruders: bool = False  # look for them in every changed matrix
    k: int = 10  # leading singular vectors of W1 to examine, at least 1
    epsilon: float = 0.5  # an intruder's largest |cos| lies below, in (0, 1)
    side: Sides = "left"  # left (output-side) or right (input-side) singular vectors, or both
    exact: bool = False  # decide every verdict by two full decompositions
    energy: float = 0.99  # share of sum sigma^2 that delta_energy_rank keeps, in (0, 1]
    full_spectrum: bool = False  # all singular values of every update, for what needs them
    frame: Frame | None = None  # whose singular vectors the update is seen in as well
    per_head: bool = False  # the matrices of attention are taken head by head
    dct_rank: int | None = None  # columns of a cosine basis that the update is seen in as well
    method: str = ""  # of an adapter that is no LoRA, which tells what the change is

    def __post_init__(self) -> None:
        _ = self.look  # which refuses what cannot be meant
        if self.frame is not None and self.frame not in get_args(Frame):
            raise UsageError(f"--frame {self.frame!r} is not known. Expected base.")
        require_share(self.energy)
        if self.dct_rank is not None:
            require_count("--dct-rank", self.dct_rank)

    @property
    def takes(self) -> Takes:
        """Pairs, those of attention head by head where that is asked for."""
        return Pairs(by_head=self.per_head)

    @property
    def look(self) -> Look:
        """How it looks for intruders."""
        return Look(self.k, self.epsilon, self.side, self.exact)

    def cost(self, view: View) -> Work:
        """The update's directions above rounding, or all, and verdicts where asked for."""
        rows, cols = view.rows, view.cols
        waves = singular_values_work(rows, cols) if self.dct_rank else NO_WORK
        own = change_work(rows, cols, full=self.full_spectrum)
        return own + waves + self._more_work(rows, cols)

    def cost_of_factors(self, view: View) -> Work:
        """A pass over the base, and verdicts where asked for."""
        rows, cols = view.rows, view.cols
        return factors_work(rows, cols) + self._more_work(rows, cols)

    def _more_work(self, rows: int, cols: int) -> Work:
        found = self.look.work(rows, cols) if self.intruders else NO_WORK
        if self.dct_rank:
            found += Work(passes=30.0 * rows * cols * ENTRY)
        return found + frame_work(rows, cols) if self.frame else found

    def memory(self, view: View) -> int:
        """Both matrices, and what telling the update or its verdicts takes beside them."""
        sides, update = update_memory(view, full=self.full_spectrum)
        waves = 4 * view.rows * view.cols + singular_values_memory(view.rows, view.cols)
        return sides + max(update, self._more_memory(view), waves if self.dct_rank else 0)

    def memory_of_factors(self, view: View) -> int:
        """The base, which a vocabulary's is as it was read, and what verdicts take beside it."""
        held = 0 if is_long(view.rows, view.cols) else 4 * view.rows * view.cols
        return held + self._more_memory(view)

    def _more_memory(self, view: View) -> int:
        shape = view.rows, view.cols
        frame = frame_memory(*shape) if self.frame else 0
        return max(frame, self.look.memory(view) if self.intruders else 0)

    def measure(self, pair: Pair) -> Measurement:
        """Return the delta keys and, where asked for, the intruders."""
        update = update_of(pair, self.energy, full=self.full_spectrum)
        if update is None or not update.values["delta_norm"]:
            unchanged = self.look.unchanged(pair.view) if self.intruders else {}
            frame = without_frame(SAME) if self.frame else {}
            heads = head_of(pair, changed=False) if self.per_head else {}
            waves = WITHOUT_WAVES if self.dct_rank else {}
            told = UNCHANGED if update is None else update.values
            same = {**told, **unchanged, **frame, **waves, **heads}
            return Measurement(same, arrays=prints_of(pair, 0.0))
        values = update.values
        arrays = {**prints_of(pair, values["delta_relative"]), **update.arrays}
        if self.intruders:
            found = self.look.measure(pair)
            values |= found.values
            arrays = {**found.arrays, **arrays}
        if self.frame:
            values |= frame_of(pair, self.k, self.energy, update.rounding)
        if self.dct_rank:
            values |= waves_of(pair, self.dct_rank)
        if self.per_head:
            values |= head_of(pair, changed=True)
        return Measurement(values, arrays=arrays)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count changes and intruders, and say what the change looks like."""
        rows = displaced(rows)
        measured = [row for row in rows if row.number("delta_norm") is not None]
        changed = [row for row in measured if row.number("delta_norm")]
        edits = edits_of(measured)
        heads = heads_of_rows(measured) if self.per_head else []
        summary: dict[str, object] = {
            "reading": self._reading(measured, changed, edits, rows),
            "matrices": matrices_of(rows),
            "changed": matrices_of(changed),
            "non_finite": matrices_of([row for row in rows if row.status == "non-finite"]),
        }
        summary |= summary_of_edits(edits)
        if self.per_head:
            summary |= {"heads": heads}
            summary["reading"] = f"{summary['reading']} {reading_of_heads(heads)}".strip()
        if self.intruders:
            summary |= self.look.summary(rows, measured, changed)
        if self.frame:
            summary |= summary_of_frames(changed)
        if notes := [*self.idle(), *beyond(self.dct_rank, changed)]:
            found: Any = summary.get("notes", ())
            summary["notes"] = [*found, *notes]
        return rows, summary

    def idle(self) -> list[str]:
        """Say which options are set that only tell how to look for intruders, where none are."""
        if self.intruders:
            return []
        told = {one.name: one.default for one in fields(self)}
        found = [
            f"--{name} {value}"
            for name in (*(() if self.frame else ("k",)), "epsilon", "side")
            if (value := getattr(self, name)) != told[name]
        ]
        found += ["--exact"] * self.exact
        have = "has" if len(found) == 1 else "have"
        return [f"{listed(found)} {have} no effect without --intruders."] if found else []

    def _reading(
        self,
        measured: Sequence[Row],
        changed: Sequence[Row],
        edits: Sequence[Edit],
        every: Sequence[Row],
    ) -> str:
        if not measured:
            return "No pair could be measured."
        if not changed:
            return f"Nothing changed in {counted(matrices_of(measured), *MATRIX)}."
        ablated = {row.matrix for edit in edits for row in edit.rows}
        rest = [row for row in changed if row.matrix not in ablated]
        told = [reading_of_edits(edits), reading_of(rest, every, self.method) if rest else ""]
        if self.intruders:
            told.append(self.look.reading(measured, changed))
        if self.frame:
            told.append(reading_of_frames(changed))
        if self.dct_rank:
            told.append(reading_of_waves(changed, self.dct_rank))
        return " ".join(text for text in told if text)
