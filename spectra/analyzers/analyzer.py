"""What every analyzer is: settings as fields, a costly measure, a cheap conclusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, SupportsFloat, TypeAlias, TypeVar, runtime_checkable

from spectra.analyzers.row import Measurement, Row
from spectra.errors import UsageError
from spectra.kernels.work import Work
from spectra.matrices import Place, View

Summary: TypeAlias = Mapping[str, object]
Subject_contra = TypeVar("Subject_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Each:
    """Every matrix for itself: `measure` gets a `Matrix`."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every matrix of a base and what became of it: `measure` gets a `Pair`."""

    by_head: bool = False  # those of attention head by head


@dataclass(frozen=True, slots=True)
class PerLayer:
    """Matrices of one layer, one of each role: `measure` gets them by role.

    Layers that lack one of them are skipped; attention beside attention, and each expert, is a
    layer of its own.
    """

    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The matrices of one role in layers that follow each other: `measure` gets them by layer.

    They come by their layers' numbers, in order. The last of a stack may be fewer, two at least.
    Experts are left out: those of one number in two layers have nothing to do with each other.
    """

    size: int  # at least 2


@dataclass(frozen=True, slots=True)
class WithMoments:
    """Every matrix with the second moments of its inputs: `weight` and `moments`.

    These are a vector of a number for each input, or the whole matrix of inputs x inputs, in a
    file whose tensors have the names of the weights or of their modules.
    """


@dataclass(frozen=True, slots=True)
class Across:
    """Every matrix in several models: `measure` gets them by model, the first model's first."""


@dataclass(frozen=True, slots=True)
class Updates:
    """Every matrix of a base and what several models made of it: `measure` gets pairs by number.

    That is the model's, "0" of the first after the base; those that lack the matrix are not there.
    """


@dataclass(frozen=True, slots=True)
class Factors:
    """The factors of one module of an adapter or several: `measure` gets them by role.

    What writes adapters plans them (`spectra.lowrank`).
    """


@dataclass(frozen=True, slots=True)
class Twins:
    """Modules of two models whose units may stand in another order, and all other matrices.

    `measure` gets them by `a.` or `b.` and their part: `q`, `k`, `v`, `o` with what is known of
    the attention, as `Attentions` has it; `gate`, `up`, `down`; or `whole`. What compares models
    plans them (`spectra.runs.matching`).
    """


@dataclass(frozen=True, slots=True)
class Attentions:
    """Every module of attention: `measure` gets what is known of it, and its matrices by role.

    Norms and biases are among them, as matrices of one column. `cost` and `memory` get the former
    alone, a `matrices.attention.Attention`.
    """


Takes: TypeAlias = (
    Each
    | Pairs
    | PerLayer
    | Neighbours
    | WithMoments
    | Across
    | Updates
    | Factors
    | Twins
    | Attentions
)


class Analyzer(Protocol[Subject_contra]):
    """One question about what it takes; neither reads files nor draws.

    Implement it as a frozen dataclass whose fields are the settings.
    """

    name: ClassVar[str]
    version: ClassVar[int]  # of its numerics: one more where `measure` gives other numbers
    # concluding: ClassVar[frozenset[str]]: settings that `measure` does not take, if it has any
    # products: ClassVar[bool]: whether it knows what to do with factors, see `knows_products`
    # later: ClassVar[frozenset[str]]: settings that results tell where they are not the default

    @property
    def keys(self) -> tuple[str, ...]:
        """Return those of the values that `measure` returns, in order; mostly a class variable."""
        ...

    @property
    def takes(self) -> Takes:
        """Tell what it is about; mostly a class variable."""
        ...

    def cost(self, *views: Any) -> SupportsFloat:  # noqa: ANN401 - as many as it takes matrices
        """Return what `measure` takes: floating-point operations, about, or `kernels.work.Work`."""
        ...

    def memory(self, *views: Any) -> int:  # noqa: ANN401 - likewise
        """Return the most bytes that `measure` holds at once, the values included."""
        ...

    def measure(self, subject: Subject_contra) -> Measurement:
        """Measure what it takes.

        Raises:
            NonFiniteError: It holds NaN or Inf; the executor turns this into a status.
        """
        ...

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Return the rows, marked where the conclusion concerns them, and a summary."""
        ...


@runtime_checkable
class OfFactors(Protocol):
    """An analyzer of pairs that needs less where an adapter's factors are the change."""

    def cost_of_factors(self, *views: Any) -> SupportsFloat:  # noqa: ANN401 - as many as it takes
        """Return what `measure` takes then, as `cost` does."""
        ...

    def memory_of_factors(self, *views: Any) -> int:  # noqa: ANN401 - likewise
        """Return the most bytes that `measure` holds at once then, the base's values included."""
        ...


def knows_products(analyzer: object) -> bool:
    """Say whether a matrix that is stored as two factors comes to an analyzer as `Product`.

    For all others it is formed.
    """
    return bool(getattr(analyzer, "products", False))


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over some of the matrices, of an analysis that takes several."""

    analyzer: Analyzer[Any]
    matrices: frozenset[str] | None = None  # names; None: all


@runtime_checkable
class InRounds(Protocol):
    """An analyzer whose next measurement depends on those before."""

    def following(self, rows: Sequence[Row], places: Sequence[Place]) -> Round | None:
        """Return what to measure next; None: all is measured that is needed.

        Args:
            rows: Of all matrices, as measured so far; none at first.
            places: All that are to be measured.
        """
        ...


@runtime_checkable
class Idling(Protocol):
    """An analyzer of which some settings do nothing where others are not set."""

    def idle(self) -> Sequence[str]:
        """Return a sentence on those that were given and do nothing."""
        ...


@runtime_checkable
class Contained(Protocol):
    """An analyzer whose question others answer too, with more."""

    def answered_by(self) -> Sequence[Analyzer[Any]]:
        """Return those whose rows, where they were measured before, serve in place of its own."""
        ...


class Ask(Protocol):
    """Measures one of several matrices or pairs for itself, if that was never done before."""

    @property
    def known(self) -> int:
        """How many were known from before."""
        ...

    def __call__(self, role: str, analyzer: Analyzer[Any], subject: Any) -> Measurement:  # noqa: ANN401 - as analyzers take
        """Return what an analyzer finds in the matrix or pair of this role.

        Raises:
            NonFiniteError: It holds NaN or Inf.
        """
        ...


@dataclass(frozen=True, slots=True)
class Anew:
    """Knows nothing from before."""

    known: int = 0

    def __call__(self, role: str, analyzer: Analyzer[Any], subject: Any) -> Measurement:  # noqa: ANN401, ARG002 - as above
        """Measure."""
        return analyzer.measure(subject)


@runtime_checkable
class Composed(Protocol):
    """An analyzer of several matrices that has others measure each for itself.

    `ask` is a field that is no setting, and so one of its `concluding`.
    """

    @property
    def ask(self) -> Ask:
        """Who measures the parts."""
        ...

    def parts(self, views: Mapping[str, View]) -> Sequence[tuple[str, Analyzer[Any]]]:
        """Return the role of each part and who measures it.

        Args:
            views: The matrices by role; of pairs those that changed.
        """
        ...

    def beside(self, views: Mapping[str, View], *, factors: bool) -> Work:
        """Return what it takes beside its parts, of the same matrices.

        Args:
            views: As for `parts`.
            factors: All changes are known by an adapter's factors.
        """
        ...

    def asking(self, ask: Ask) -> Analyzer[Any]:
        """Return the same with somebody else to ask."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """An analyzer in rounds that can tell which matrices it likely measures after the first."""

    def likely(self, part: Round, places: Sequence[Place]) -> Mapping[str, float]:
        """Return how likely it measures each matrix itself after a round; none: no more comes."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """An analyzer of which what it makes stays in memory until all is measured."""

    def kept(self, about: Sequence[Any]) -> int:
        """Return the bytes that stay of all tasks, by what their matrices are together."""
        ...


@runtime_checkable
class Particular(Protocol):
    """An analyzer that is not about every matrix."""

    def why_not(self, view: View, roles: Sequence[str]) -> str | None:
        """Return why a matrix is left out; None where it is not.

        Args:
            view: The matrix.
            roles: Those that the user named.
        """
        ...


@runtime_checkable
class OfPieces(Protocol):
    """An analyzer that is also about what a matrix is made of, and about an adapter's matrices."""

    @property
    def factors(self) -> bool:
        """Whether stored factors are matrices too, beside what matrices are sums of."""
        ...


def require_share(share: float) -> None:
    """Refuse an energy that is no share.

    Raises:
        UsageError: It is not in (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise UsageError(f"--energy {share!r} is no share. Expected above 0 and at most 1.")


def require_count(option: str, count: int) -> None:
    """Refuse a number below 1.

    Raises:
        UsageError: It is.
    """
    if count < 1:
        raise UsageError(f"{option} {count} is too few. Expected at least 1.")
