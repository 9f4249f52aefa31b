"""Whether neighbouring layers read one subspace of their inputs: one basis against several."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from spectra.analyzers.analyzer import Neighbours, Summary, Takes, require_count
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.shared_reading import proposed, reading_of
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.sharing import energies, gram_of, share_of, turned
from spectra.kernels.singular import singular_values
from spectra.kernels.work import DOUBLE, ENTRY, Work, singular_values_work
from spectra.matrices import Matrix, View
from spectra.text import listed, natural

KEYS = (
    "in_group", "single_rank", "shared_rank", "shared_energy", "single_energy", "shared_gain",
    "shared_null", "shared_ceiling", "sharing", "group_energy",
)  # fmt: skip
QUARTER = 4  # what of the shorter side a layer's own rank is, if none is given


@dataclass(frozen=True, slots=True)
class Shared:
    """One input basis of several layers, R directions, against one of r for each of them.

    W stands for the layers' matrices stacked on rows: its best R input directions hold what its R
    largest sigma^2 do. R is as large as the same number of parameters allows: r (rows + inputs)
    of each layer alone, R (rows of all + inputs) together.

    Source:
        Chang et al. 2025, arXiv:2503.18893 (xKV), who share a basis among the keys, and values,
        of layers; here among what makes them.
    """

    name: ClassVar[str] = "shared"
    version: ClassVar[int] = 2
    keys: ClassVar[tuple[str, ...]] = ("groups",)

    group: str = "4"  # layers at a time; several numbers with commas, which divide the largest
    rank: int | None = None  # r, of a layer alone, at least 1; None: a quarter of its shorter side
    seed: int = 0  # of the bases of layers that share nothing

    def __post_init__(self) -> None:
        sizes = self.sizes
        if self.rank is not None:
            require_count("--rank", self.rank)
        if any(sizes[-1] % size for size in sizes):
            raise UsageError(
                f"--group {self.group}: {sizes[-1]} is no multiple of all others. Expected sizes "
                "that lie in each other, such as 2,4,8."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many layers groups have, ascending.

        Raises:
            UsageError: They are no numbers from 2 on.
        """
        words = [word.strip() for word in self.group.split(",") if word.strip()]
        if not words or any(not word.isdecimal() or int(word) < 2 for word in words):
            raise UsageError(
                f"--group {self.group!r} is no size of groups. Expected layers at a time, 2 or "
                "more, or several sizes with commas: 2,4,8."
            )
        return tuple(sorted({int(word) for word in words}))

    @property
    def takes(self) -> Takes:
        """The largest groups, in which the others lie."""
        return Neighbours(self.sizes[-1])

    def cost(self, *views: View) -> Work:
        """Gram matrices, and eigenvalues of each layer and twice of each group."""
        cols = views[0].cols
        groups = sum(math.ceil(len(views) / size) for size in self.sizes)
        square = singular_values_work(cols, cols)
        own = sum(
            (singular_values_work(min(one.rows, cols), cols) for one in views),
            Work(products=1.2 * sum(one.rows for one in views) * cols**2 * DOUBLE),
        )
        turning = 60.0 * len(views) * cols**2 * ENTRY
        return own + Work(eigenvalues=2.0 * groups * square.eigenvalues, passes=turning)

    def memory(self, *views: View) -> int:
        """Gram matrices of one layer, in two bases, of every size of groups, and one at work."""
        cols = views[0].cols
        return 8 * cols**2 * (2 * len(self.sizes) + 4) + 8 * max(one.rows for one in views) * 1024

    def measure(self, subject: Mapping[str, Matrix]) -> Measurement:
        """Return what is told of every group among these layers."""
        layers = [int(name) for name in subject]
        views = [one.view for one in subject.values()]
        sizes = _largest_of([*subject.values()])
        scale = power_of_two_near(max(sizes)) or 1.0
        device = next(iter(subject.values())).values.device
        sums = {size: _Sums.empty(views[0].cols, str(device)) for size in self.sizes}
        alone: list[Tensor] = []
        told: list[Mapping[str, Value]] = []
        done: set[tuple[int, int]] = set()
        for at, one in enumerate(subject.values()):
            gram = gram_of(one.values, scale)
            tall = one.view.rows >= one.view.cols
            alone.append(energies(gram) if tall else (singular_values(one.values) / scale).square())
            other = turned(gram, self.seed + at)
            for size, total in sums.items():
                total.add(gram, other)
                start = at - at % size
                ends = at + 1 == start + size or at + 1 == len(layers)
                if ends and at > start and (start, at) not in done:
                    done.add((start, at))
                    here = slice(start, at + 1)
                    own = self._told(layers[here], views[here], alone[here], total, scale)
                    zero = [layers[i] for i in range(start, at + 1) if not sizes[i]]
                    told.append({**own, "zero": zero})
                if ends:
                    total.clear()
        return Measurement({"groups": told})

    def _told(
        self, layers: Sequence[int], views: Sequence[View], alone: Sequence[Tensor],
        total: "_Sums", scale: float,
    ) -> dict[str, Value]:  # fmt: skip
        """Return what one group has in common."""
        cols, rows = views[0].cols, sum(one.rows for one in views)
        most = min(*(one.rows for one in views), cols)
        single = min(self.rank or math.ceil(most / QUARTER), most)
        budget = single * sum(one.rows + cols for one in views)
        rank = min(budget // (rows + cols), rows, cols)
        whole = float(sum(one.sum() for one in alone))
        values: dict[str, Value] = dict.fromkeys(KEYS)
        values |= {
            "in_group": list(layers), "single_rank": single, "shared_rank": rank,
            "group_energy": whole * scale * scale, "rows": rows,
        }  # fmt: skip
        if not whole:
            return values
        shared = min(share_of(energies(total.gram), rank) / whole, 1.0)
        chance = min(share_of(energies(total.other), rank) / whole, 1.0)
        ceiling = sum(share_of(one, rank) for one in alone) / whole
        own = sum(share_of(one, single) for one in alone) / whole
        room = ceiling - chance
        return values | {
            "shared_energy": shared, "single_energy": own, "shared_gain": shared - own,
            "shared_null": chance, "shared_ceiling": ceiling,
            "sharing": (shared - chance) / room if room > LEAST else None,
        }  # fmt: skip

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Return a row for each group, and which of them are worth a basis in common."""
        groups = [one for row in rows for one in _each(row)]
        groups.sort(key=lambda row: natural(row.matrix))
        proposal = proposed(groups)
        return groups, {
            "reading": " ".join([reading_of(groups, proposal), *_zeros(rows)]),
            "groups": len(groups),
            "proposal": proposal,
            "non_finite": sum(row.status == "non-finite" for row in rows),
            **self._too_large(groups),
        }

    def _too_large(self, groups: Sequence[Row]) -> dict[str, list[str]]:
        """Say of which sizes there are no groups, as there are fewer layers."""
        told: list[Any] = [row.values["in_group"] for row in groups if row.values["in_group"]]
        most = max(map(len, told), default=0)
        lacking = [size for size in self.sizes if told and size > most]
        if not lacking:
            return {}
        asked = f"--group {self.group}: no stack has {lacking[0]:,} layers that go together"
        return {"notes": [f"{asked}; the largest groups have {most:,}."]}


LEAST = 1e-9  # of the energy, between chance and bases of their own, that can be a share's whole


@dataclass(slots=True)
class _Sums:
    """Gram matrices added up, as they are and each in a basis of its own."""

    gram: Tensor
    other: Tensor

    @staticmethod
    def empty(size: int, device: str) -> "_Sums":
        """Return nothing."""
        made = (torch.zeros(size, size, dtype=torch.float64, device=device) for _ in range(2))
        return _Sums(*made)

    def add(self, gram: Tensor, other: Tensor) -> None:
        """Add those of one layer."""
        self.gram += gram
        self.other += other

    def clear(self) -> None:
        """Begin anew."""
        self.gram.zero_()
        self.other.zero_()


def _largest_of(layers: Sequence[Matrix]) -> list[float]:
    """Return the largest |entry| of each layer.

    Raises:
        NonFiniteError: Some hold NaN or Inf; it is told which is the first.
    """
    found, wrong = [], []
    for one in layers:
        try:
            found.append(largest_entry(one.values))
        except NonFiniteError as error:
            wrong.append(f"{one.view.name} holds {error}")
    if wrong:
        are = "is" if len(wrong) == 2 else "are"
        more = f" ({len(wrong) - 1:,} more of them {are} no better)" if len(wrong) > 1 else ""
        raise NonFiniteError(f"{wrong[0]}{more}")
    return found


def _zeros(rows: Sequence[Row]) -> list[str]:
    """Say which layers are all 0 in groups that are not."""
    found: dict[str, set[int]] = {}
    for row in rows:
        told: Any = row.values["groups"] or []
        for one in told:
            if one["group_energy"] and one["zero"]:
                found.setdefault(row.place.role, set()).update(one["zero"])
    return [
        f"{role}: {'layer' if len(some) == 1 else 'layers'} {listed([*map(str, sorted(some))])} "
        f"{'is' if len(some) == 1 else 'are'} all 0, and {'shares' if len(some) == 1 else 'share'} "
        "nothing."
        for role, some in found.items()
    ]


def _each(row: Row) -> Iterator[Row]:
    """Yield the rows of the groups of one task; of one without numbers a single one."""
    told: Any = row.values["groups"]
    if told is None:
        yield replace(row, values=dict.fromkeys(KEYS))
        return
    span = next((word for word in row.place.matrix.split(".") if _is_span(word)), "")
    for one in told:
        layers = one["in_group"]
        name = row.place.matrix.replace(f".{span}.", f".{layers[0]}-{layers[-1]}.", 1)
        place = replace(row.place, tensor=name, matrix=name, rows=one["rows"], layer=layers[0])
        yield replace(row, place=place, values={key: one[key] for key in KEYS})


def _is_span(word: str) -> bool:
    first, dash, last = word.partition("-")
    return bool(dash) and first.isdecimal() and last.isdecimal()
