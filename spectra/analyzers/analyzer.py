"""What every analyzer is: settings as fields, a costly measure, a cheap conclusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from spectra.analyzers.row import Measurement, Row
from spectra.errors import UsageError
from spectra.matrices import View

Summary: TypeAlias = Mapping[str, object]
Subject_contra = TypeVar("Subject_contra", contravariant=True)


class Analyzer(Protocol[Subject_contra]):
    """One question about a matrix or a pair; neither reads files nor draws.

    Implement it as a frozen dataclass whose fields are the settings, and add it to
    `ANALYZERS`.
    """

    name: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]  # of the values that `measure` returns, in order

    def cost(self, view: View) -> float:
        """Return about how many floating-point operations `measure` takes."""
        ...

    def memory(self, view: View) -> int:
        """Return the most bytes that `measure` holds at once, the values included."""
        ...

    def measure(self, subject: Subject_contra) -> Measurement:
        """Measure one matrix or pair.

        Raises:
            NonFiniteError: It holds NaN or Inf; the engine turns this into a status.
        """
        ...

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Return the rows, marked where the conclusion concerns them, and a summary."""
        ...


@runtime_checkable
class Together(Protocol[Subject_contra]):
    """An analyzer that can measure several matrices at once, of one shape each time."""

    def together(self, view: View) -> bool:
        """Say whether this matrix may be measured with others of its shape."""
        ...

    def measure_together(self, subjects: Sequence[Subject_contra]) -> list[Measurement]:
        """Measure several, as `measure` does each.

        Raises:
            NonFiniteError: One of them holds NaN or Inf.
        """
        ...


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over some of the matrices, of an analysis that takes several."""

    analyzer: Analyzer[Any]
    matrices: frozenset[str] | None = None  # names; None: all


def require_share(share: float) -> None:
    """Refuse an energy that is no share.

    Raises:
        UsageError: It is not in (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise UsageError(f"energy {share!r} is no share. Expected above 0 and at most 1.")
