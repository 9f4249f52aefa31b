"""From a policy file to a policy: finding it, reading it, refusing what cannot be meant."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from spectra.errors import UsageError
from spectra.policy.lines import lines_of
from spectra.policy.policy import Policy
from spectra.policy.spot import Spot
from spectra.policy.tables import read_tables
from spectra.text import guess_path, shown

MAX_POLICY = 1_000_000  # bytes
FILES = (".spectra.toml", "spectra.toml")
PROJECT = "pyproject.toml"
TABLE = ("tool", "spectra")  # of pyproject.toml

_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


def find_policy(start: Path) -> Path | None:
    """Return the closest policy file, from a folder upwards; the rest are not looked at.

    Of several in one folder `.spectra.toml` comes first, then `spectra.toml`, then a
    `pyproject.toml` with `[tool.spectra]`.

    Args:
        start: The folder.
    """
    first = start.resolve()
    for folder in (first, *first.parents):
        for name in FILES:
            if (folder / name).is_file():
                return folder / name
        if _has_table(folder / PROJECT):
            return folder / PROJECT
    return None


def read_policy(path: Path) -> Policy:
    """Read a policy file, or the `[tool.spectra]` of a `pyproject.toml`.

    Args:
        path: The file. Local references in it are from its folder.

    Raises:
        UsageError: It cannot be read, or something in it cannot be meant: one line that tells
            file, line, what stands there and what is expected.
    """
    return policy_of(_text(path, shown(path)), path)


def policy_of(text: str, path: Path) -> Policy:
    """Read a policy file's text, which need not be there yet.

    Args:
        text: TOML.
        path: The file. Local references in it are from its folder.

    Raises:
        UsageError: Something in it cannot be meant.
    """
    label = shown(path)
    _require_size(len(text.encode()), label)
    document = _parsed(text, label)
    project = path.name == PROJECT
    if project:
        document = _of_project(document, label)
    spot = Spot(label, path.parent, lines_of(text), TABLE if project else ())
    return replace(read_tables(document, spot), path=str(path))


def _has_table(path: Path) -> bool:
    """Say whether a pyproject.toml has a policy; one that is damaged has it if it names it."""
    if not path.is_file():
        return False
    try:
        text = _text(path, path.name)
    except UsageError:
        return False  # somebody else's file, and no policy that could be read
    try:
        tool = _parsed(text, path.name).get(TABLE[0], {})
    except UsageError:
        return ".".join(TABLE) in text  # to judge without it would be quietly wrong
    return isinstance(tool, dict) and TABLE[1] in tool


def _text(path: Path, label: str) -> str:
    if path.is_dir():
        raise UsageError(f"{label} is a folder, expected a policy file: {label}/{FILES[1]}?")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_POLICY + 1)
    except FileNotFoundError:
        raise UsageError(
            f"{label} does not exist.{guess_path(path, ('.toml',))} Expected a policy file; to "
            f"write one: spectra check MODEL --init --policy {shown(path)}."
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{label} cannot be read: {type(error).__name__}. Expected a policy file."
        ) from None
    _require_size(len(raw), label)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{label}:{line}: is not UTF-8. Save the file as UTF-8.") from None


def _require_size(nbytes: int, label: str) -> None:
    if nbytes > MAX_POLICY:
        raise UsageError(
            f"{label} has more than {MAX_POLICY:,} bytes, which no policy has. Name another."
        )


def _parsed(text: str, label: str) -> dict[str, Any]:
    if text.startswith("\ufeff"):
        raise UsageError(
            f"{label}:1: starts with a byte order mark, which TOML has not. Save it as UTF-8 "
            "without one."
        )
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{label}: is not a policy: tables in tables without end.") from None
    except ValueError as error:  # of TOML, or of a number of thousands of digits
        found = _PLACE.fullmatch(str(error))
        if found:
            reason, line = found.groups()
            place = f"{label}:{line or len(text.splitlines())}"
        else:
            reason, place = "a value cannot be read", label
        told = reason if reason.isprintable() else ascii(reason)
        raise UsageError(f"{place}: is not TOML: {told}. Correct that line.") from None


def _of_project(document: dict[str, Any], label: str) -> dict[str, Any]:
    tool = document.get(TABLE[0], {})
    if not isinstance(tool, dict) or TABLE[1] not in tool:
        raise UsageError(
            f"{label} has no [tool.spectra]. Expected one, or another file: --policy spectra.toml."
        )
    found = tool[TABLE[1]]
    if not isinstance(found, dict):
        raise UsageError(f"{label}: tool.spectra is no table. Write [tool.spectra.check].")
    return found
