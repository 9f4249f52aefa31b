"""One line of a result: which matrix, and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from spectra.matrices import View
from spectra.words import Status

if TYPE_CHECKING:
    from torch import Tensor

Value: TypeAlias = (
    float | int | str | bool | Sequence[Mapping[str, "Value"]] | Sequence[float] | None
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What an analyzer found in one matrix."""

    values: Mapping[str, Value]
    status: Status = "ok"
    arrays: Mapping[str, "Tensor"] = field(default_factory=dict)  # for plots, not tables


@dataclass(frozen=True, slots=True)
class Row:
    """A matrix's identity and its measurement; keys as in docs/quantities.md."""

    view: View
    status: Status
    error: str | None  # the sentence behind a status that has no numbers
    values: Mapping[str, Value]
    arrays: Mapping[str, "Tensor"] = field(default_factory=dict, repr=False)
    labels: Mapping[str, Value] = field(default_factory=dict)
    """Which model of several the matrix is from: `model`, and its `width` or `step`."""

    @property
    def matrix(self) -> str:
        """Name, unique within one model."""
        return self.view.name

    def flat(self) -> dict[str, Value]:
        """Return identity, status and values as one mapping, in column order."""
        view = self.view
        return {
            **self.labels,
            "tensor": view.entry.name,
            "matrix": view.name,
            "role": view.role.kind,
            "layer": view.role.layer,
            "expert": view.role.expert,
            "rows": view.rows,
            "cols": view.cols,
            "dtype": view.entry.dtype,
            "codec": view.entry.codec.name if view.entry.codec else None,
            "status": self.status,
            "error": self.error,
            **self.values,
        }

    def number(self, key: str) -> float | None:
        """Return a measured number, or None where there is none."""
        value = self.values.get(key)
        return float(value) if isinstance(value, int | float) else None
