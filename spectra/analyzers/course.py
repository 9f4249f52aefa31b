"""What fine-tuning changed over the checkpoints of one run."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from spectra.analyzers.analyzer import Analyzer, Anew, Ask, Idling, Summary, Takes, Updates
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.updates import each_of, of_method, of_model
from spectra.deferred import Tensor
from spectra.errors import NonFiniteError
from spectra.kernels.work import NO_WORK, Work
from spectra.matrices import Pair, View
from spectra.numbers import number, percent, ranged
from spectra.text import counted

SIZES = ("delta_relative", "intruders")
DRIFT = ("sorsa_delta_sigma", "sorsa_delta_d", "matched_delta_d")
NOISE = ("noise_delta_d", "noise_matched_d")
FOLLOWED = (*SIZES, *DRIFT, *NOISE)
ALL = "all"


class Sharing(Analyzer[Pair], Protocol):
    """An analyzer of pairs that several of one base measure together at less."""

    @property
    def shared(self) -> Any:  # noqa: ANN401 - its own
        """What they have in common; None: each is measured for itself."""
        ...


@dataclass(frozen=True, slots=True)
class Course:
    """The change of every matrix, its intruders and how far its triplets moved, at every step.

    Rows carry the labels `model` and, where it is known, `step`.
    """

    name: ClassVar[str] = "diff_trend"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Updates()
    keys: ClassVar[tuple[str, ...]] = ("updates",)
    later: ClassVar[frozenset[str]] = frozenset({"methods"})
    concluding: ClassVar[frozenset[str]] = frozenset({"ask", "models", "steps", "methods"})

    diff: Analyzer[Pair]  # measures each change
    drift: Sharing  # measures all triplets
    sorsa: bool = True  # whether these are measured
    models: tuple[str, ...] = ()  # their names, in order
    steps: tuple[int, ...] = ()  # of each; none: they stand as they were given
    methods: tuple[str, ...] = ()  # of each, where some are adapters and no LoRA; "" for others
    ask: Ask = field(default_factory=Anew)

    def parts(self, views: Mapping[str, View]) -> Sequence[tuple[str, Analyzer[Any]]]:
        """Return what measures each change; the first decomposes the base for all."""
        found: list[tuple[str, Analyzer[Any]]] = [(role, self.diff) for role in views]
        if self.sorsa:
            others: Any = replace(self.drift, shared={})  # type: ignore[type-var]
            found += [(role, others if place else self.drift) for place, role in enumerate(views)]
        return found

    def asking(self, ask: Ask) -> "Course":
        """Return the same where what is known of a change is not measured again."""
        return replace(self, ask=ask)

    def beside(self, views: Mapping[str, View], *, factors: bool) -> Work:  # noqa: ARG002 - as others take
        """Nothing."""
        return NO_WORK

    def cost(self, *views: View) -> Work:
        """Return what all parts take."""
        named = {str(place): view for place, view in enumerate(views)}
        parts = self.parts(named)
        own = [one.cost(named[role]) for role, one in parts]
        return sum((one for one in own if isinstance(one, Work)), NO_WORK)

    def memory(self, *views: View) -> int:
        """The largest of the parts."""
        asked: Sequence[Analyzer[Pair]] = (self.diff, self.drift) if self.sorsa else (self.diff,)
        return max(int(one.memory(view)) for view in views for one in asked)

    def measure(self, subject: Mapping[str, Pair]) -> Measurement:
        """Return what each checkpoint changed; of one that is not finite why it has no numbers."""
        told: list[Mapping[str, Value]] = []
        arrays: dict[str, Tensor] = {}
        shared: Any = replace(self.drift, shared={})  # type: ignore[type-var]
        for role, pair in subject.items():
            try:
                (one,), more = each_of(self.ask, self.diff, {role: pair})
                drifted = self.ask(role, shared, pair).values if self.sorsa else {}
            except NonFiniteError as error:
                one, more, drifted = {"model": int(role)}, {}, {"error": str(error)}
            told.append({**one, **drifted})
            arrays |= more
        return Measurement({"updates": told}, arrays=arrays)

    def idle(self) -> list[str]:
        """Nothing more than the change's own."""
        return list(self.diff.idle()) if isinstance(self.diff, Idling) else []

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Return a row a matrix and checkpoint, and follow every role from step to step."""
        found: list[Row] = []
        told: list[dict[str, Any]] = []
        by_model: list[Sequence[Row]] = []
        for place, name in enumerate(self.models):
            labels: dict[str, str | int] = {"model": name}
            if self.steps:
                labels["step"] = self.steps[place]
            own = [one for row in rows if (one := self._row(row, place)) is not None]
            marked, summary = of_method(self.diff, self.methods, place).conclude(own)
            marked = [replace(row, place=replace(row.place, labels=labels)) for row in marked]
            by_model.append(marked)
            found += marked
            told.append({**labels, **_followed(marked), "reading": summary.get("reading")})
        kinds = list(dict.fromkeys(row.place.role for row in rows))
        roles = [_line(kind, by_model) for kind in kinds]
        return found, {
            "reading": self._reading(told, found),
            "steps": list(self.steps) or list(range(1, len(self.models) + 1)),
            "by_step": bool(self.steps),
            "checkpoints": told,
            "roles": [_line(None, by_model), *roles],
            "matrices": len(rows),
            "non_finite": sum(row.status == "non-finite" for row in found),
        }

    def _row(self, row: Row, number: int) -> Row | None:
        """Return a checkpoint's own row; where it has no numbers, one that says why."""
        nothing: dict[str, Value] = dict.fromkeys(self.diff.keys)
        if row.values["updates"] is None:
            return replace(row, values=nothing)
        own = of_model(row, number)
        if own is None or "error" not in own.values:
            return own
        return replace(own, values=nothing, status="non-finite", error=str(own.values["error"]))

    def _reading(self, told: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> str:
        if not any(row.values.get("delta_norm") is not None for row in rows):
            return "No pair could be measured."
        span = f", step {self.steps[0]:,} to {self.steps[-1]:,}" if self.steps else ", as given"
        parts = [f"{counted(len(told), 'checkpoint')} of one run{span}."]
        sizes = [one["delta_relative"] for one in told if one["delta_relative"] is not None]
        if sizes:
            parts.append(f"The change over the base's norm: {_way(sizes, percent)}.")
        settings: Any = self.diff
        if all(one["intruders"] is not None for one in told):
            counts = [one["intruders"] for one in told]
            parts.append(
                f"Intruder dimensions: {_way(counts)} (top {settings.k}, |cos| < "
                f"{number(settings.epsilon)})."
            )
        known = [one for one in told if one["sorsa_delta_d"] is not None]
        if known:
            parts.append(_drifted(known, rows))
        return " ".join(parts)


def _drifted(known: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> str:
    """Say how far triplets moved, and how much of it is none of training's."""
    d, matched = ([one[key] for one in known] for key in ("sorsa_delta_d", "matched_delta_d"))
    text = (
        f"All triplets: sigma moves by {_way([one['sorsa_delta_sigma'] for one in known])} in the "
        f"mean, directions by {_way(d)} by index and {_way(matched)} by the best pairing"
    )
    noise = [one["noise_delta_d"] for one in known if one["noise_delta_d"] is not None]
    if noise:
        grids = sorted({str(row.values["noise_grid"]) for row in rows
                        if row.values.get("noise_grid")})  # fmt: skip
        alone = ranged(min(noise), max(noise))
        text += f"; rounding the base to {' or '.join(grids)} alone gives {alone} by index"
        if d[-1] <= max(noise):
            text += ", no less than training did"
    tied = sum(int(row.number("sorsa_tied") or 0) for row in rows if "sorsa_tied" in row.values)
    if tied:
        text += (
            f". {counted(tied, 'singular value ties', 'singular values tie')} with a neighbour: "
            "such vectors are not determined, and neither pairing tells how far they moved"
        )
    return f"{text}."


def _way(values: Sequence[float], write: Any = number) -> str:  # noqa: ANN401 - of a number
    """Write how values go from the first to the last."""
    first, last = write(values[0]), write(values[-1])
    return f"{first} to {last}" if first != last else str(first)


def _followed(rows: Sequence[Row]) -> dict[str, Value]:
    """Return what matrices of one checkpoint sum up to.

    The change is that of all matrices together, intruders are counted, and SORSA's measures are
    means over the matrices that moved, as the paper has them.
    """
    found: dict[str, Value] = dict.fromkeys(FOLLOWED)
    measured = [row for row in rows if row.values.get("delta_norm") is not None]
    known = [row for row in measured if row.values.get("delta_relative") is not None]
    moved = math.fsum((row.number("delta_norm") or 0.0) ** 2 for row in known)
    base = math.fsum(
        ((row.number("delta_norm") or 0.0) / (row.number("delta_relative") or 1.0)) ** 2
        for row in known if row.number("delta_relative")
    )  # fmt: skip
    if known:
        found["delta_relative"] = math.sqrt(moved / base) if base else 0.0
    counts = [row.values["intruders"] for row in measured if "intruders" in row.values]
    if counts:
        found["intruders"] = sum(int(one) for one in counts if isinstance(one, int | float))
    for key in (*DRIFT, *NOISE):
        numbers = [row.number(key) for row in measured if key in row.values
                   and row.number("delta_norm")]  # fmt: skip
        given = [one for one in numbers if one is not None]
        if given:
            found[key] = statistics.fmean(given)
        elif key in DRIFT and any(key in row.values for row in measured):
            found[key] = 0.0
    return found


def _line(kind: str | None, models: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """Return how one role goes over the checkpoints; of None all."""
    own = [[row for row in rows if kind in (None, row.place.role)] for rows in models]
    told = [_followed(rows) for rows in own]
    line: dict[str, Any] = {"role": ALL if kind is None else kind,
                            "matrices": max(map(len, own), default=0)}  # fmt: skip
    return line | {key: [one[key] for one in told] for key in FOLLOWED}
