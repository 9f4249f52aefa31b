"""What an analyzer concluded from rows, kept as rows are: nothing is concluded twice."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from spectra.analyzers import Analyzer, Row, Summary
from spectra.checkpoint.fingerprints import Ledger, plain
from spectra.distribution import version
from spectra.work.identity import code_of
from spectra.work.packed import UNSOUND, packed, unpacked
from spectra.work.store import CONCLUSION, Store

VERSION: Final = 1  # of what is kept

Concluded = tuple[Sequence[Row], Summary]


def concluded(
    analyzer: Analyzer[Any], rows: Sequence[Row], ledger: Ledger | None,
    conclude: Callable[[Sequence[Row]], Concluded],
) -> Concluded:  # fmt: skip
    """Return the rows as an analyzer marks them, and its summary, from a store where that knows.

    Args:
        analyzer: Whose settings tell one conclusion from another, all of them.
        rows: Of all that was measured.
        ledger: Keeps conclusions if it is a store.
        conclude: Is asked where nothing is known.
    """
    key = _key(analyzer, rows) if isinstance(ledger, Store) else None
    if key is None or not isinstance(ledger, Store):
        return conclude(rows)
    body = ledger.base.get(CONCLUSION, key)
    if body is not None:
        try:
            return _opened(body, rows)
        except UNSOUND:  # of a version with others
            ledger.base.drop(CONCLUSION, key)
    found = conclude(rows)
    if (body := _closed(found, rows)) is not None:
        ledger.base.put(CONCLUSION, key, body)
    return found


def _key(analyzer: Analyzer[Any], rows: Sequence[Row]) -> bytes | None:
    """Return what tells a conclusion for ever, or None where settings or code are not known."""
    code = code_of(type(analyzer))
    if code is None:
        return None
    about = VERSION, code, wording(), analyzer.name, analyzer.keys
    try:
        found = sha256(_text([about, plain(analyzer, concluding=True)]))
    except TypeError:
        return None
    for row in rows:
        found.update(_text(row.plain()))
    return found.hexdigest().encode()


@cache
def wording() -> str:
    """Return the digest of the code by which a conclusion is worded and numbers are written."""
    found = sha256(version().encode())
    for path in sorted(Path(__file__).parent.parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _closed(found: Concluded, rows: Sequence[Row]) -> bytes | None:
    """Return a conclusion as bytes; None where plain data does not hold it whole.

    Of a row that is one of those before, its number stands for what is still the same.
    """
    numbers = {id(row.arrays): number for number, row in enumerate(rows)}
    marked: list[dict[str, Any]] = []
    for row in found[0]:
        number, whole = numbers.get(id(row.arrays)), row.plain()
        if number is not None and row.place == rows[number].place:
            del whole["place"], whole["arrays"]
            whole["row"] = number
        marked.append(whole)
    told = [marked, found[1]]
    try:
        body = _text(told)
    except TypeError:
        return None
    return packed(body) if repr(json.loads(body)) == repr(told) else None


def _opened(body: bytes, rows: Sequence[Row]) -> Concluded:
    marked, summary = unpacked(body)
    return [
        replace(rows[one.pop("row")], **one) if "row" in one else Row.from_plain(one)
        for one in marked
    ], summary


def _text(found: object) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()
