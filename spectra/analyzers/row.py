"""One line of a result: which matrix, and what was measured."""

import base64
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from spectra.deferred import Tensor, torch
from spectra.errors import UsageError
from spectra.matrices import Place
from spectra.text import guess
from spectra.words import Status

Value: TypeAlias = (
    "float | int | str | bool | Sequence[Mapping[str, Value]] | Sequence[float] "
    "| Mapping[str, Value] | None"
)

CODES = {"torch.int64": "q", "torch.float32": "f", "torch.float64": "d"}
"""Those of `array` for dtypes."""

PLACE = tuple(one.name for one in fields(Place))


@dataclass(frozen=True, slots=True)
class Measurement:
    """What an analyzer found in one matrix, or made of it."""

    values: Mapping[str, Value]
    status: Status = "ok"
    arrays: Mapping[str, Tensor] = field(default_factory=dict)  # for plots, not tables
    tensors: Mapping[str, Tensor] = field(default_factory=dict)  # for a `Sink`; no row has them


@dataclass(frozen=True, slots=True)
class Row:
    """A matrix's identity and its measurement; keys as in docs/quantities.md."""

    place: Place
    status: Status
    error: str | None  # the sentence behind a status that has no numbers
    values: Mapping[str, Value]
    arrays: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def matrix(self) -> str:
        """Name, unique within one model."""
        return self.place.matrix

    def flat(self) -> dict[str, Value]:
        """Return identity, status and values as one mapping, in column order."""
        return {**self.place.flat(), "status": self.status, "error": self.error, **self.values}

    def number(self, key: str) -> float | None:
        """Return a measured number, or None where there is none or NaN.

        Raises:
            UsageError: The row has no such key, as where it is misspelt.
        """
        if key not in self.values:
            known = ", ".join(self.values) or "none"
            raise UsageError(
                f"{key!r} is no number of this row.{guess(key, self.values)} It has {known}."
            )
        value = self.values[key]
        if isinstance(value, int | float) and not math.isnan(value):
            return float(value)
        return None

    def integers(self, name: str) -> Sequence[int] | None:
        """Return a vector of int64, for which torch is not loaded; None where there is none."""
        if name not in self.arrays:
            return None
        return numbers(self.arrays, name)

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain data, which `from_plain` turns back without loss.

        JSON holds it where NaN and infinity may stand in it, as Python's own writes them.
        """
        return {
            "place": {one: getattr(self.place, one) for one in PLACE}
            | {"labels": dict(self.place.labels)},
            "status": self.status,
            "error": self.error,
            "values": dict(self.values),
            "arrays": dict(self.arrays.plain)
            if isinstance(self.arrays, Packed)
            else {name: _packed(one) for name, one in self.arrays.items()},
        }

    @staticmethod
    def from_plain(found: Mapping[str, Any]) -> "Row":
        """Return the row that `plain` was taken of."""
        place, arrays = Place(**found["place"]), Packed(found["arrays"])
        return Row(place, found["status"], found["error"], found["values"], arrays)


class Packed(Mapping[str, Tensor]):
    """Arrays as plain data, each a tensor once it is asked for."""

    def __init__(self, plain: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what `Row.plain` made of them."""
        self.plain = plain
        self._opened: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """Return one."""
        if name not in self._opened:
            self._opened[name] = _unpacked(self.plain[name])
        return self._opened[name]

    def __contains__(self, name: object) -> bool:
        """Say whether there is one."""
        return name in self.plain

    def __iter__(self) -> Iterator[str]:
        """Yield their names."""
        return iter(self.plain)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.plain)


def numbers(arrays: Mapping[str, Any], name: str) -> Sequence[Any]:
    """Return the numbers of a vector of int64, float32 or float64, without torch where packed."""
    if isinstance(arrays, Packed):
        found = arrays.plain[name]
        return array(CODES[found["dtype"]], base64.b64decode(found["data"]))
    told: list[float] = arrays[name].tolist()
    return told


def _packed(one: Tensor) -> dict[str, Any]:
    raw = one.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    text = base64.b64encode(raw).decode("ascii")
    return {"dtype": str(one.dtype), "shape": list(one.shape), "data": text}


def _unpacked(found: Mapping[str, Any]) -> Tensor:
    raw = torch.frombuffer(bytearray(base64.b64decode(found["data"])), dtype=torch.uint8) \
        if found["data"] else torch.empty(0, dtype=torch.uint8)  # fmt: skip
    return raw.view(getattr(torch, found["dtype"].removeprefix("torch."))).reshape(found["shape"])
