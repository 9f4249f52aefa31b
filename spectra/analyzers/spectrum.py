"""The singular spectrum of a matrix and what it says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

from spectra.analyzers import layer_types, weightwatcher
from spectra.analyzers.analyzer import (
    Analyzer,
    Anew,
    Ask,
    Each,
    Summary,
    Takes,
    require_count,
    require_share,
)
from spectra.analyzers.facts import Cosine, Facts, Shuffled
from spectra.analyzers.metrics import (
    BY_VECTORS,
    EVERY,
    SEEDED,
    TRANSFORMED,
    keys_of,
    told_of,
    words_of,
)
from spectra.analyzers.pooling import pooled
from spectra.analyzers.products import product_memory, product_work
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.spectrum_reading import MEAN, reading_of
from spectra.analyzers.waves import beyond
from spectra.deferred import torch
from spectra.errors import UsageError
from spectra.kernels.entries import shuffled, sizes
from spectra.kernels.singular import decompose, product_singular_values
from spectra.kernels.work import (
    CALL,
    ENTRY,
    NO_WORK,
    SINGLE,
    Work,
    singular_values_memory,
    singular_values_work,
)
from spectra.matrices import Matrix, View
from spectra.matrices.apart import FACTOR, is_piece
from spectra.matrices.pair import Product
from spectra.matrices.view import inner_of
from spectra.words import UNMEASURED, Experts, Preset, Status

MOST_SEED = 2**63  # a seed lies below
TRANSFORM = 15.0  # passes over the entries, of one quantity of a cosine basis


@dataclass(frozen=True, slots=True)
class Sigma:
    """All singular values of one matrix, or of its entries in another order: what takes long.

    Whatever is told of them is told of its row, however often and whatever is asked for.
    """

    name: ClassVar[str] = "sigma"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    products: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = ()

    shuffled: int | None = None  # the seed; None: as they are

    def answered_by(self) -> Sequence[Analyzer[Any]]:
        """Return what is asked for most, whose rows hold the same."""
        return [] if self.shuffled is not None else [Spectrum()]

    def cost(self, view: View) -> Work:
        """All singular values."""
        return singular_work(view)

    def memory(self, view: View) -> int:
        """The values and what their decomposition needs."""
        of_core = product_memory(view)
        if of_core is not None:
            return of_core
        own = 0 if self.shuffled is None else 4 * view.rows * view.cols
        return singular_values_memory(view.rows, view.cols, stored=True) + own

    def measure(self, matrix: Matrix | Product) -> Measurement:
        """Return `sigma`; of shuffled entries `filled`: rows and columns not of zeros alone.

        Of a product that is stored as factors the values that these leave room for. Beside them,
        where there is one, `gram` of `decompose`: for who asks now, no row keeps it.
        """
        if isinstance(matrix, Product):
            left, right = matrix.factors.left, matrix.factors.right
            return Measurement({}, arrays={"sigma": product_singular_values(left, right).cpu()})
        values = matrix.values
        if self.shuffled is not None:
            values = shuffled(values, self.shuffled)
        sigma, gram = decompose(values)
        arrays = {"sigma": sigma.cpu()}
        if self.shuffled is not None:
            arrays["filled"] = torch.tensor(sizes(values).filled)
        return Measurement({}, arrays=arrays, tensors={} if gram is None else {"gram": gram})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Nothing: `Spectrum` concludes."""
        return rows, {}


@dataclass(frozen=True, slots=True)
class Spectrum:
    """All singular values of one matrix, summarised."""

    name: ClassVar[str] = "spectrum"
    version: ClassVar[int] = 5
    takes: ClassVar[Takes] = Each()
    products: ClassVar[bool] = True
    concluding: ClassVar[frozenset[str]] = frozenset(
        {"ask", "preset", "select", "factors", "experts"}
    )
    later: ClassVar[frozenset[str]] = frozenset(
        {"metrics", "seed", "preset", "select", "dct_rank", "factors", "experts"}
    )
    every: ClassVar[tuple[str, ...]] = tuple(EVERY)  # key that it may tell

    energy: float = 0.99  # share of sum sigma^2 that energy_rank keeps, in (0, 1]
    metrics: str | None = None  # what is told, as `metrics.words_of` returns it; None: the default
    seed: int = 0  # of the order of shuffled entries and of random bases, at least 0
    preset: Preset | None = None  # the tool in whose words it is concluded
    select: str | None = None  # of each type of layer, with `spectrum`: `50%`, or how many
    dct_rank: int | None = None  # columns of a cosine basis, at least 1; None: a quarter of all
    factors: bool = False  # stored factors have rows of their own too
    experts: Experts = "single"  # or `pooled`
    ask: Ask = field(default_factory=Anew)  # who decomposes

    def __post_init__(self) -> None:
        if self.experts not in get_args(Experts):
            raise UsageError(
                f"--experts {self.experts!r} is not known. Expected one of "
                f"{', '.join(get_args(Experts))}."
            )
        if self.experts == "pooled" and self.preset is not None:
            raise UsageError(
                f"--preset {self.preset} tells every matrix as that tool does, which pools no "
                "experts. Leave out one of the two."
            )
        require_share(self.energy)
        _ = self.keys  # which refuses what is not known
        if not 0 <= self.seed < MOST_SEED:
            raise UsageError(f"--seed {self.seed} is no seed. Expected from 0 to 2^63 - 1.")
        if self.seed and not (SEEDED | TRANSFORMED) & set(self.keys):
            raise UsageError(
                f"--seed {self.seed} is of shuffled entries and random bases, which nothing asks "
                "for. Add --metrics random or --metrics dct."
            )
        if self.dct_rank is not None:
            require_count("--dct-rank", self.dct_rank)
            if not TRANSFORMED & set(self.keys):
                raise UsageError(
                    f"--dct-rank {self.dct_rank} is about a basis of cosines, which nothing asks "
                    "for. Add --metrics dct."
                )
        if self.preset is not None and self.preset not in get_args(Preset):
            raise UsageError(
                f"--preset {self.preset!r} is not known. Expected one of "
                f"{', '.join(get_args(Preset))}."
            )
        if self.select is not None:
            if self.preset != "spectrum":
                raise UsageError(
                    f"--select {self.select} selects by Spectrum's SNR, which takes --preset "
                    "spectrum; by condition number `spectra kappa --select` does."
                )
            layer_types.count_of(self.select, 1)

    @property
    def keys(self) -> tuple[str, ...]:
        """What is told."""
        if self.preset is None:
            found = keys_of(self.metrics)
            lacking = self.experts == "pooled" and "resolved_rank" not in found
            return ("resolved_rank", *found) if lacking else found
        own = weightwatcher.METRICS if self.preset == "weightwatcher" else layer_types.METRICS
        return keys_of(words_of([own, self.metrics or own]))

    @property
    def _random(self) -> bool:
        return bool(SEEDED & set(self.keys))

    def cost(self, view: View) -> Work:
        """All singular values, a fit of their tail, and passes over the entries."""
        own = singular_work(view)
        return own + (own if self._random else NO_WORK) + self._passes(view)

    def _passes(self, view: View) -> Work:
        if inner_of(view.entry) is not None:
            return NO_WORK
        entries = view.rows * view.cols
        vectors = 0.5 * entries * min(view.rows, view.cols) * SINGLE  # of what stands out
        waves = TRANSFORM * len(TRANSFORMED & set(self.keys))
        return Work(passes=(8.0 + waves) * entries * ENTRY, products=vectors, calls=4.0 * CALL)

    def memory(self, view: View) -> int:
        """The values and what their decomposition needs."""
        return Sigma(self.seed if self._random else None).memory(view)

    def parts(self, views: Mapping[str, View]) -> Sequence[tuple[str, Sigma]]:
        """Return who decomposes."""
        seeds = (None, self.seed) if self._random else (None,)
        return [(role, Sigma(seed)) for role in views for seed in seeds]

    def beside(self, views: Mapping[str, View], *, factors: bool) -> Work:  # noqa: ARG002 - as others take
        """Return what passes and fits take."""
        return sum(map(self._passes, views.values()), NO_WORK)

    def asking(self, ask: Ask) -> "Spectrum":
        """Return the same where singular values that are known are not measured again."""
        return replace(self, ask=ask)

    def measure(self, matrix: Matrix | Product) -> Measurement:
        """Return the spectrum's keys; `sigma` among the arrays."""

        def sigma(seed: int | None) -> Measurement:
            return self.ask("", Sigma(seed), matrix)

        return self.told(matrix, sigma)

    def told(
        self, matrix: Matrix | Product, sigma: Callable[[int | None], Measurement]
    ) -> Measurement:
        """Return the spectrum's keys.

        Args:
            matrix: As it was decomposed.
            sigma: Returns what `Sigma` tells of it, from the seed of shuffled entries or None.
        """
        made, keys = sigma(None), self.keys
        found = made.arrays["sigma"]
        gram = made.tensors.get("gram") if BY_VECTORS & set(keys) else None
        del made

        def mixed() -> Shuffled:
            other = sigma(self.seed).arrays
            rows, cols = other["filled"].tolist()
            return Shuffled(other["sigma"], (rows, cols))

        cosine = Cosine(self.dct_rank, self.seed)
        facts = Facts(matrix, found, self.energy, mixed, cosine, gram)
        del gram
        arrays = {"sigma": found}
        values: dict[str, Value] = told_of(facts, keys)
        if isinstance(matrix, Product):
            values["rank_bound"] = matrix.rank
        status: Status = "singular" if float(found[-1]) == 0.0 else "ok"
        if values.get("traps"):
            arrays[MEAN] = torch.tensor([facts.mean_share], dtype=torch.float64)
        return Measurement(values, status, arrays)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count, and say in one sentence how the spectra look."""
        parameters = sum(row.place.numel for row in rows if not is_piece(row.place.part))
        count = len(rows)
        measured = [row for row in rows if row.status not in UNMEASURED]
        summary: dict[str, object] = {
            "reading": reading_of(measured, count, parameters),
            "matrices": count,
            "parameters": parameters,
            "non_finite": sum(row.status == "non-finite" for row in rows),
        }
        notes = beyond(self.dct_rank, measured)
        if self.experts == "pooled":
            rows, told = pooled(rows, self.keys, self.energy)
            again = reading_of([row for row in rows if row.status not in UNMEASURED], count,
                               parameters)  # fmt: skip
            summary["reading"] = f"{told} {again}"
        if self.factors and not any(row.place.part == FACTOR for row in rows):
            summary["reading"] = f"No matrix is stored as two factors. {summary['reading']}"
        if self.preset == "weightwatcher":
            details = {row.matrix: weightwatcher.details_of(row, at)
                       for at, row in enumerate(rows)}  # fmt: skip
            rows = [_with(row, "weightwatcher", details[row.matrix]) for row in rows]
            summary["weightwatcher"] = weightwatcher.averages([*details.values()])
            notes.append(weightwatcher.DIFFERENCES)
        if self.preset == "spectrum" and self.select is not None:
            found = layer_types.chosen(rows, self.select)
            names = [row.matrix for row in found]
            rows = [_with(row, "selected", row.matrix in names) for row in rows]
            told = layer_types.reading_of(found, rows, self.select)
            summary |= {"reading": told, "selected": names}
            notes.append(layer_types.DIFFERENCES)
        return rows, summary | ({"notes": notes} if notes else {})


def _with(row: Row, key: str, value: Value) -> Row:
    return replace(row, values={**row.values, key: value})


def singular_work(view: View) -> Work:
    """Return what all singular values take, of a product those of its core."""
    return product_work(view) or singular_values_work(view.rows, view.cols)
