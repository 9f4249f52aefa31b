"""How the spectra of one run move over its training steps."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from spectra.analyzers.analyzer import Each, Summary, Takes
from spectra.analyzers.row import Measurement, Row, Value
from spectra.kernels.edge import Settings
from spectra.kernels.entries import entry_norm
from spectra.kernels.extremes import extreme_singular_values
from spectra.kernels.work import Work, extremes_memory, extremes_work
from spectra.matrices import Matrix, View
from spectra.numbers import grown
from spectra.text import counted
from spectra.words import UNMEASURED

KEYS = ("sigma_max", "sigma_min", "frobenius", "stable_rank", "kappa")
TRACKED = ("sigma_max", "stable_rank", "kappa")
NAMES = {"sigma_max": "sigma_max", "stable_rank": "stable rank", "kappa": "kappa"}
STILL = 0.01  # a change below is called none


@dataclass(frozen=True, slots=True)
class Trend:
    """Both ends of every spectrum and its stable rank, at each of several steps.

    Rows carry the labels `model` and `step`. A role's value at one step is the median over
    its matrices.
    """

    name: ClassVar[str] = "trend"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = KEYS

    relative_error: float = 1e-3  # of sigma_max and sigma_min, proven

    def cost(self, view: View) -> Work:
        """Both ends of the spectrum."""
        return extremes_work(view.rows, view.cols)

    def memory(self, view: View) -> int:
        """The values and what their factors need."""
        return extremes_memory(view.rows, view.cols)

    def measure(self, matrix: Matrix) -> Measurement:
        """Return both ends, the norm, and what they give."""
        found = extreme_singular_values(matrix.values, Settings(tolerance=self.relative_error))
        norm, largest = entry_norm(matrix.values), found.sigma_max
        singular = found.sigma_min == 0.0
        return Measurement(
            {
                "sigma_max": largest,
                "sigma_min": found.sigma_min,
                "frobenius": norm,
                "stable_rank": (norm / largest) ** 2 if largest else 0.0,
                "kappa": None if singular else largest / found.sigma_min,
            },
            "singular" if singular else "ok",
        )

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Follow every role from the first step to the last."""
        steps = sorted({step_of(row) for row in rows})
        measured = [row for row in rows if row.status not in UNMEASURED]
        kinds = list(dict.fromkeys(row.place.role for row in rows))
        roles = [
            _followed(kind, [row for row in measured if row.place.role == kind], steps)
            for kind in kinds
        ]
        summary = {
            "reading": _reading(steps, roles, measured),
            "steps": steps,
            "roles": roles,
            "matrices": len({row.matrix for row in rows}),
            "non_finite": sum(row.status == "non-finite" for row in rows),
        }
        return rows, summary


def step_of(row: Row) -> int:
    """Return the training step that a row is from."""
    step = row.place.labels["step"]
    return step if isinstance(step, int) else 0


def _followed(kind: str, rows: Sequence[Row], steps: Sequence[int]) -> dict[str, object]:
    found: dict[str, object] = {"role": kind, "matrices": len({row.matrix for row in rows})}
    for key in TRACKED:
        values: list[Value] = []
        for step in steps:
            numbers = [row.number(key) for row in rows if step_of(row) == step]
            known = [number for number in numbers if number is not None]
            values.append(statistics.median(known) if known else None)
        found[key] = values
    return found


def _reading(
    steps: Sequence[int], roles: Sequence[dict[str, object]], measured: Sequence[Row]
) -> str:
    if not measured:
        return "No matrix could be measured."
    text = f"{counted(len(steps), 'checkpoint')} of one run, step {steps[0]:,} to {steps[-1]:,}."
    parts = []
    for key in TRACKED:
        changes = {str(role["role"]): change for role in roles if (change := _change(role[key]))}
        if not changes:
            continue
        middle = statistics.median(changes.values())
        most = max(changes, key=lambda kind: abs(math.log(changes[kind])))
        part = f"{NAMES[key]} {_word(middle)}"
        if len(changes) > 1 and abs(math.log(changes[most])) > math.log(1.0 + STILL):
            part += f" (most in {most}: {_percent(changes[most])})"
        parts.append(part)
    return f"{text} Median role: {', '.join(parts)}." if parts else text


def _change(values: object) -> float | None:
    """Return the last value over the first, where both are above zero."""
    known = [v for v in values if isinstance(v, float) and v > 0.0] if isinstance(values, list) \
        else []  # fmt: skip
    return known[-1] / known[0] if len(known) > 1 else None


def _word(ratio: float) -> str:
    if abs(math.log(ratio)) <= math.log(1.0 + STILL):
        return "does not change"
    return f"{'grows' if ratio > 1.0 else 'falls'} by {_percent(ratio).lstrip('+-')}"


def _percent(ratio: float) -> str:
    return grown(ratio)
