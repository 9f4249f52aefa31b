"""What a saved result must look like before anything is drawn of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from spectra.errors import SpectraError
from spectra.report.html.keys import KEYS
from spectra.report.saved_summary import SETTINGS, SUMMARIES
from spectra.text import quote, shown
from spectra.words import Status
from spectra.work.result import SCHEMA

STATUSES: tuple[Status, ...] = ("ok", "singular", "outside", "non-finite")
ROW: Mapping[str, str] = {
    "tensor": "text", "matrix": "text", "role": "text", "layer": "whole?", "expert": "whole?",
    "rows": "whole", "cols": "whole", "dtype": "text", "codec": "text?", "status": "text",
    "error": "text?",
}  # fmt: skip
IDENTITY = frozenset(ROW)


class SavedError(SpectraError):
    """A file that holds no result as spectra writes it."""


DETAIL: Mapping[str, str] = {
    "index": "whole", "sigma": "number~", "max_cos": "number?", "max_cos_error": "number~",
    "best_match": "whole~", "energy": "number?", "intruder": "flag", "decided_by": "text~",
}  # fmt: skip
"""What each verdict on a vector has."""

KINDS: Mapping[str, Any] = {
    "model": "text", "intruder_detail": [DETAIL], "sigma_profile": "numbers",
    **{
        key: {"flag": "flag", "word": "text", "text": "text"}.get(about.kind, "number")
        for key, about in KEYS.items()
        if key not in IDENTITY
    },
}  # fmt: skip
"""Of every key that is shown, what its values must be."""


@dataclass(frozen=True, slots=True)
class Check:
    """Refuses what has another type than expected, by its place in the file."""

    name: str

    def refuse(
        self, place: str, got: object, expected: str, onward: str = "Write it again"
    ) -> NoReturn:
        """Say what is wrong and where.

        Raises:
            SavedError: Always.
        """
        told = got if place == "it" else f"{place} is {_told(got)}"
        raise SavedError(
            f"{shown(self.name)} is no result of spectra that can be shown: {told}, expected "
            f"{expected}. {onward} with -o FILE.json."
        )

    def mapping(self, value: object, place: str) -> Mapping[str, Any]:
        """Require an object."""
        if not isinstance(value, dict):
            self.refuse(place, value, "an object")
        return value

    def items(self, value: object, place: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Require a list of objects; each with its place."""
        if not isinstance(value, list):
            self.refuse(place, value, "a list")
        return [
            (f"{place}[{i}]", self.mapping(item, f"{place}[{i}]")) for i, item in enumerate(value)
        ]

    def text(self, value: object, place: str) -> None:
        """Require a text."""
        if not isinstance(value, str):
            self.refuse(place, value, "a text")

    def flag(self, value: object, place: str) -> None:
        """Require true or false."""
        if not isinstance(value, bool):
            self.refuse(place, value, "true or false")

    def number(self, value: object, place: str) -> None:
        """Require a number that a double holds."""
        if isinstance(value, bool):
            return  # flags of rows that this version does not know
        if not isinstance(value, int | float) or abs(value) > 1.7e308:
            self.refuse(place, value, "a number")

    def whole(self, value: object, place: str) -> None:
        """Require a whole number, not below 0."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            self.refuse(place, value, "a whole number")

    def numbers(self, value: object, place: str) -> None:
        """Require a list of numbers."""
        if not isinstance(value, list):
            self.refuse(place, value, "a list of numbers")
        for i, item in enumerate(value):
            if isinstance(item, bool):
                self.refuse(f"{place}[{i}]", item, "a number")
            self.number(item, f"{place}[{i}]")

    def severity(self, value: object, place: str) -> None:
        """Require a word for how bad it is."""
        if value not in ("error", "warning", "note"):
            self.refuse(place, value, "error, warning or note")

    def shape(self, value: Mapping[str, Any], shape: Mapping[str, Any], place: str) -> None:
        """Require keys: of a kind by name, or lists of objects.

        After a kind, `?` means that null will do, `~` that the key may be missing too.
        """
        for key, kind in shape.items():
            where, found = f"{place}.{key}", value.get(key)
            if not isinstance(kind, str):
                self._inner(found, kind, where)
                continue
            if found is None and (kind.endswith("~") or (kind.endswith("?") and key in value)):
                continue
            kinds: Mapping[str, Callable[[object, str], object]] = {
                "text": self.text, "whole": self.whole, "number": self.number, "flag": self.flag,
                "numbers": self.numbers, "mapping": self.mapping, "names": self._names,
                "gaps": self._gaps, "by model": self._by_model, "severity": self.severity,
            }  # fmt: skip
            kinds[kind.rstrip("?~")](found, where)

    def _inner(self, found: object, kind: object, place: str) -> None:
        """Require one of some words, an object that may be missing, or a list of objects."""
        if isinstance(kind, frozenset):
            if not isinstance(found, str) or found not in kind:
                self.refuse(place, found, f"one of {', '.join(sorted(kind))}")
        elif isinstance(kind, Mapping):
            if found:
                self.shape(self.mapping(found, place), kind, place)
        elif isinstance(kind, list):
            for inner, item in self.items(found, place):
                self.shape(item, kind[0], inner)

    def _names(self, value: object, place: str) -> None:
        """Require a list of texts."""
        if not isinstance(value, list):
            self.refuse(place, value, "a list of texts")
        for i, item in enumerate(value):
            self.text(item, f"{place}[{i}]")

    def _gaps(self, value: object, place: str) -> None:
        """Require a list of numbers, null where there is none."""
        if not isinstance(value, list):
            self.refuse(place, value, "a list of numbers")
        self.numbers([item for item in value if item is not None], place)

    def _by_model(self, value: object, place: str) -> None:
        """Require a number, or null, for each of several models."""
        self._gaps(list(self.mapping(value, place).values()), place)


def _told(value: object) -> str:
    """Write what was got, in few characters."""
    if value is None:
        return "missing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return quote(value)


def checked(found: object, name: str) -> Mapping[str, Any]:
    """Return a document whose every part has the shape that spectra gives it.

    Args:
        found: Parsed JSON.
        name: Of the file, for the error.

    Raises:
        SavedError: It is no result, of another schema, or a part of it has another type.
    """
    check = Check(name)
    document = check.mapping(found, "the whole")
    schema = document.get("schema")
    if schema != SCHEMA:
        check.refuse("schema", schema, repr(SCHEMA))
    if "dry_run" in document:
        check.refuse("it", "an estimate of --dry-run", "a result", "Run it without --dry-run")
    for key in ("spectra", "command"):
        check.text(document.get(key), key)
    settings = check.mapping(document.get("settings"), "settings")
    check.shape(settings, SETTINGS.get(document["command"], {}), "settings")
    for place, model in check.items(document.get("models"), "models"):
        check.text(model.get("spec"), f"{place}.spec")
        check.text(model.get("part"), f"{place}.part")
        check.text(model.get("resolved"), f"{place}.resolved")
        check.mapping(model.get("codecs"), f"{place}.codecs")
    for place, row in check.items(document.get("rows"), "rows"):
        _check_row(check, place, row)
    for place, item in check.items(document.get("skipped"), "skipped"):
        check.text(item.get("tensor"), f"{place}.tensor")
        check.text(item.get("reason"), f"{place}.reason")
    summary = check.mapping(document.get("summary"), "summary")
    check.text(summary.get("reading"), "summary.reading")
    shape = SUMMARIES.get(document["command"])
    if shape is not None:
        check.shape(summary, shape, "summary")
    return document


def _check_row(check: Check, place: str, row: Mapping[str, Any]) -> None:
    """Check the identity of a matrix and the types of its numbers."""
    check.shape(row, ROW, place)
    if row["status"] not in STATUSES:
        check.refuse(f"{place}.status", row["status"], f"one of {', '.join(STATUSES)}")
    for key, value in row.items():
        if key not in IDENTITY and value is not None:
            _check_value(check, f"{place}.{key}", key, value)


def _check_value(check: Check, place: str, key: str, value: object) -> None:
    """Check what was measured."""
    if key in KINDS:
        check.shape({key: value}, {key: KINDS[key]}, place.removesuffix(f".{key}"))
    elif not isinstance(value, list | dict | str | bool):  # of a key that is not shown
        check.number(value, place)
