"""A place in a policy file, and the line that refuses what stands there."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectra.errors import UsageError
from spectra.policy.lines import Keys, nearest
from spectra.text import guess, quote


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something stands in a file."""

    label: str  # of the file
    folder: Path  # that it is in
    lines: Mapping[Keys, int]
    root: Keys = ()  # the table that holds the policy: `tool`, `spectra`
    path: Keys = ()  # below it

    def at(self, *keys: str | int) -> "Spot":
        """Return a place below."""
        return replace(self, path=(*self.path, *keys))

    @property
    def line(self) -> int | None:
        """Its line, or that of the closest table around it."""
        return nearest(self.lines, (*self.root, *self.path))

    @property
    def name(self) -> str:
        """The keys that lead to it, with dots."""
        keys = [key for key in (*self.root, *self.path) if isinstance(key, str)]
        return ".".join(key if key.isprintable() and key else quote(key) for key in keys)

    def error(self, text: str) -> UsageError:
        """Return the refusal of what stands here.

        Args:
            text: What follows the name: got, expected, what to do next.
        """
        where = self.label if self.line is None else f"{self.label}:{self.line}"
        return UsageError(f"{where}: {self.name + ' ' if self.path else ''}{text}")

    def wrong(self, value: Any, expected: str) -> UsageError:  # noqa: ANN401 - any TOML value
        """Return the refusal of a value.

        Args:
            value: It.
            expected: What it should be, and perhaps an example, with the full stop.
        """
        return self.error(f"is {told(value)}, expected {expected}")

    def table(self, value: Any, keys: Iterable[str]) -> dict[str, Any]:  # noqa: ANN401 - as above
        """Return a table that has no other keys than these.

        Raises:
            UsageError: It is none, or has another.
        """
        if not isinstance(value, dict):
            raise self.wrong(value, "a table.")
        known = list(keys)
        for key in value:
            if key not in known:
                listed = ", ".join(known)
                raise self.at(key).error(
                    f"is unknown.{guess(key, known) or f' Expected {listed}.'}"
                )
        return value


def told(value: Any) -> str:  # noqa: ANN401 - any TOML value
    """Return how a message shows a value, as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, int) and abs(value) >= 10**30:
        return "an enormous number"
    return quote(value)
