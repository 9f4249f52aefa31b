"""From a policy file to a policy: finding it, reading it, refusing what cannot be meant."""

import re
import tomllib
from pathlib import Path
from typing import Any

from spectra.errors import UsageError
from spectra.policy.lines import lines_of
from spectra.policy.policy import Policy
from spectra.policy.rules import RULES
from spectra.policy.spot import Spot
from spectra.policy.tables import Rules, read_ignore, read_override, read_rules, require_distinct
from spectra.policy.values import (
    FAIL_ON,
    Value,
    names,
    read_codes,
    read_flag,
    read_share,
    read_text,
    read_word,
)
from spectra.text import shown as shown_path

SCHEMA = 1
MAX_POLICY = 1_000_000  # bytes
FILES = (".spectra.toml", "spectra.toml")
PROJECT = "pyproject.toml"
TABLE = ("tool", "spectra")  # of pyproject.toml

KEYS = ("schema", "check", "rules", "override", "ignore")
CHECK_KEYS = (
    "select", "ignore", "fail-on", "fail-unchanged", "base", "adapter", "baseline",
    "min-coverage", "tolerance", "alias",
)  # fmt: skip

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
    label = shown_path(path)
    text = _text(path, label)
    document = _parsed(text, label)
    lines = lines_of(text)
    spot = Spot(label, lines)
    if path.name == PROJECT:
        document = _of_project(document, label)
        spot = Spot(label, lines, root=TABLE)
    return _policy(document, spot, path)


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
    """Return a file's text.

    Raises:
        UsageError: It is none, too large, or not UTF-8.
    """
    if path.is_dir():
        raise UsageError(f"{label} is a folder, expected a policy file: {label}/{FILES[1]}?")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_POLICY + 1)
    except FileNotFoundError:
        raise UsageError(
            f"{label} does not exist. Expected a policy file; to write one: spectra check MODEL "
            "--init."
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{label} cannot be read: {type(error).__name__}. Expected a policy file."
        ) from None
    if len(raw) > MAX_POLICY:
        raise UsageError(
            f"{label} has more than {MAX_POLICY:,} bytes, which no policy has. Name another."
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{label}:{line}: is not UTF-8. Save the file as UTF-8.") from None


def _parsed(text: str, label: str) -> dict[str, Any]:
    """Return a TOML document.

    Raises:
        UsageError: It is none.
    """
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
    """Return the policy that a pyproject.toml holds.

    Raises:
        UsageError: There is none.
    """
    tool = document.get(TABLE[0], {})
    if not isinstance(tool, dict) or TABLE[1] not in tool:
        raise UsageError(
            f"{label} has no [tool.spectra]. Expected one, or another file: --policy spectra.toml."
        )
    found = tool[TABLE[1]]
    if not isinstance(found, dict):
        raise UsageError(f"{label}: tool.spectra is no table. Write [tool.spectra.check].")
    return found


def _policy(document: dict[str, Any], spot: Spot, path: Path) -> Policy:
    """Return what a document says.

    Raises:
        UsageError: Something cannot be meant.
    """
    for key in document:
        if key in CHECK_KEYS and key not in KEYS:
            raise spot.at(key).error(f"stands at the top, but belongs under [{_check(spot)}].")
    spot.table(document, KEYS)
    schema = document.get("schema", SCHEMA)
    if schema != SCHEMA or isinstance(schema, bool):
        raise spot.at("schema").wrong(
            schema, f"{SCHEMA}: the only one that this version of spectra knows."
        )
    rules = read_rules(document.get("rules", {}), spot.at("rules"))
    over = _entries(document, "override", spot)
    ignoring = _entries(document, "ignore", spot)
    ignores = [read_ignore(value, place) for value, place in ignoring]
    require_distinct(ignores, [place for _, place in ignoring])
    return Policy(
        path=str(path),
        rules=_resolved(rules, path.parent),
        overrides=tuple(read_override(value, place, rules) for value, place in over),
        ignores=tuple(ignores),
        lines=_lines(document, spot, rules),
        **_checks(document.get("check", {}), spot.at("check"), path.parent),
    )


def _check(spot: Spot) -> str:
    """Return the name of the table of what concerns the whole check."""
    return spot.at("check").name


def _checks(value: Value, spot: Spot, folder: Path) -> dict[str, Any]:
    """Return the fields that `[check]` sets.

    Raises:
        UsageError: A key or value cannot be meant.
    """
    table = spot.table(value, CHECK_KEYS)
    found: dict[str, Any] = {}
    for key, given in table.items():
        place = spot.at(key)
        match key:
            case "select" | "ignore":
                found[key] = read_codes(given, place, some=key == "select")
            case "fail-on":
                found["fail_on"] = read_word(given, place, FAIL_ON)
            case "fail-unchanged":
                found["fail_unchanged"] = read_flag(given, place)
            case "base" | "adapter" | "baseline":
                found[key] = reference(read_text(given, place), folder)
            case "alias":
                found[key] = read_text(given, place)
            case _:
                most = 1.0 if key == "min-coverage" else None
                found[key.replace("-", "_")] = read_share(given, place, most)
    return found


def reference(text: str, folder: Path) -> str:
    """Return a reference to a model or a saved check, as seen from here.

    Args:
        text: As written. What starts with `./` or `../`, or lies in the folder, is a path from
            there; all else (a path from /, a repository of the Hub) stays as it is.
        folder: That of the policy file.
    """
    inside = folder / text
    try:
        local = text.startswith(("./", "../")) or inside.exists()
        here = folder.resolve() == Path.cwd()
    except (OSError, ValueError):  # no name that a file could have
        return text
    return str(inside) if local and not here else text


def _resolved(rules: Rules, folder: Path) -> Rules:
    """Return settings with their references as seen from here."""
    kinds = {(rule.code, one.key): one.kind for rule in RULES.values() for one in rule.settings}
    return {
        code: {
            key: reference(value, folder)
            if kinds.get((code, key)) == "text" and value is not None
            else value
            for key, value in settings.items()
        }
        for code, settings in rules.items()
    }


def _entries(document: dict[str, Any], key: str, spot: Spot) -> list[tuple[Value, Spot]]:
    """Return the tables of `[[key]]`, each with its place.

    Raises:
        UsageError: It is written as one table.
    """
    found = document.get(key, [])
    if not isinstance(found, list):
        example = spot.at(key).name
        raise spot.at(key).wrong(found, f"tables of a list: write [[{example}]].")
    for number, value in enumerate(found):
        if key in CHECK_KEYS and isinstance(value, str):
            told = f"a table, [[{spot.at(key).name}]]. Rules are left out under [{_check(spot)}]."
            raise spot.at(key, number).wrong(value, told)
    return [(value, spot.at(key, number)) for number, value in enumerate(found)]


def _lines(document: dict[str, Any], spot: Spot, rules: Rules) -> dict[str, int]:
    """Return the line of each rule's own table."""
    named = names()
    found = {}
    for key in document.get("rules", {}):
        code, line = named.get(key, key), spot.at("rules", key).line
        if code in rules and line is not None:
            found[code] = line
    return found
