"""The formats of a result's files: JSON, JSON lines, CSV, Markdown, Parquet, text."""

import csv
import importlib.util
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.analyzers.row import numbers
from spectra.errors import OutputError
from spectra.report.findings import FORMS as FORMS_OF_FINDINGS
from spectra.report.findings import SUFFIXES as FINDINGS
from spectra.report.findings import form_of, render
from spectra.report.kind import Document, kind_of
from spectra.report.screens import screen_of
from spectra.report.table import render_markdown, render_text
from spectra.text import printable, shown
from spectra.writing.atomic import require_suffix, write_atomically, wrong_suffix

if TYPE_CHECKING:
    import pandas as pd

    from spectra.report.plots import Arrays

SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".md": "markdown",
    ".parquet": "parquet",
    ".txt": "table",
}
"""Format by file suffix."""


def format_of(path: Path, *, findings: bool = False, others: Sequence[str] = ()) -> str:
    """Return the format that a file's suffix asks for.

    Args:
        path: The file.
        findings: It is of a check, which has formats of its own too.
        others: Suffixes that the caller takes besides, for the message.

    Raises:
        OutputError: The suffix is none of ours, or its writer is not installed.
    """
    found = (form_of(path) if findings else None) or SUFFIXES.get(path.suffix.lower())
    if found is None:
        known = (*others, *(SUFFIXES | FINDINGS if findings else SUFFIXES))
        raise wrong_suffix(path, known, _instead(path, findings=findings, page=bool(others)))
    if found == "parquet":
        require_parquet()
    return found


def _instead(path: Path, *, findings: bool, page: bool) -> str:
    """Say how what a suffix stands for is made, where it is none of a result; else nothing."""
    suffix, stem = path.suffix.lower(), shown(path.with_suffix(""))
    saved = f"-o {stem}.json, then spectra report {stem}.json -o {stem}.html"
    if suffix in (".html", ".htm"):
        return f"A page is made of a saved result: {saved}."
    if suffix == ".pdf":
        made = f"-o {stem}.html" if page else saved
        return f"A page can be printed from the browser: {made}."
    if suffix in (".png", ".svg"):
        if findings:
            return f"A check is drawn on its page: {f'-o {stem}.html' if page else saved}."
        also = f"; a page has pictures too: -o {stem}.html" if page else ""
        return f"Pictures are drawn with --plot {shown(path)}{also}."
    if suffix in (".yaml", ".yml", ".py"):
        return "Settings of what trains a selection are written by kappa with --export."
    return ""


def require_parquet() -> None:
    """Refuse Parquet early where its library is missing.

    Raises:
        OutputError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise OutputError("Parquet needs pyarrow, which is not installed: pip install pyarrow.")


def to_text(document: Document, form: str, *, full: bool = False) -> str:
    """Return a result in one of the textual formats, ending in a line break.

    Args:
        document: The result.
        form: Of `SUFFIXES`, or of a check's findings.
        full: In flat files also what is no row, as `-v` asks for.

    Raises:
        OutputError: Parquet is no text.
    """
    writers: Mapping[str, Callable[[Document], str]] = {
        "json": partial(dumps, indent=2),  # every number unrounded
        "jsonl": lambda found: "".join(map(dumps, _lines(found, full=full))),
        "csv": partial(_csv, full=full),
        "markdown": lambda found: render_markdown(screen_of(found, full=True)),
        "table": lambda found: render_text(screen_of(found, full=True)),
    }
    if kind_of(document["command"]).judges and form in FORMS_OF_FINDINGS:
        return render(document, form)
    if form not in writers:
        raise OutputError(f"{form} is no text. Write it to a file: -o FILE.{form}.")
    return writers[form](document)


def frame_of(document: Document, *, full: bool = False) -> "pd.DataFrame":
    """Return the rows as a pandas table, one column per key; `full` as in `to_text`."""
    import pandas as pd  # noqa: PLC0415 - half a second that most runs need not pay

    lines = _lines(document, full=full)
    known = None if lines else [*kind_of(document["command"]).line_keys]
    frame = pd.DataFrame(lines, columns=known)
    for key in {"layer", "expert"} & set(frame):
        frame[key] = frame[key].astype("Int64")  # integers or nothing, never 0.0
    return frame


def write_result(document: Document, path: Path, *, full: bool = False) -> None:
    """Write a result in the format of the file's suffix; `full` as in `to_text`.

    Raises:
        OutputError: The suffix is unknown or the file cannot be written.
    """
    form = format_of(path, findings=kind_of(document["command"]).judges)
    if form == "parquet":
        write_atomically(path, partial(Path.write_bytes, data=parquet(document, full=full)))
    else:
        write_texts({path: to_text(document, form, full=full)})


def parquet(document: Document, *, full: bool = False) -> bytes:
    """Return the rows as a Parquet file; `full` as in `to_text`."""
    frame = frame_of(document, full=full)
    for key, values in frame.items():
        if any(map(_nested, values)):
            frame[key] = [_cell(value) for value in values]
    return frame.to_parquet(index=False)


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write texts to files, each all or nothing.

    Raises:
        OutputError: A file cannot be written.
    """
    for path, text in texts.items():
        write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))


def write_values(arrays: "Arrays", path: Path) -> None:
    """Write every singular value that a run keeps: columns matrix, index, sigma.

    Raises:
        OutputError: The suffix is neither .parquet nor .csv, or the file cannot be written.
    """
    require_values_suffix(path)
    import pandas as pd  # noqa: PLC0415 - half a second that most runs need not pay

    spectra = {name: numbers(found, "sigma") for name, found in arrays.items() if "sigma" in found}
    lines = [(name, *pair) for name, sigma in spectra.items() for pair in enumerate(sigma)]
    frame = pd.DataFrame(lines, columns=["matrix", "index", "sigma"])
    write = frame.to_csv if path.suffix.lower() == ".csv" else frame.to_parquet
    write_atomically(path, lambda target: write(target, index=False))


def require_values_suffix(path: Path) -> None:
    """Refuse a file that singular values are not written to.

    Raises:
        OutputError: The suffix is neither .parquet nor .csv.
    """
    told = "Singular values are written as .parquet or .csv."
    require_suffix(path, (".parquet", ".csv"), told)
    if path.suffix.lower() == ".parquet":
        require_parquet()


def dumps(data: Any, indent: int | None = None) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON text that every parser accepts: no NaN, no infinity, ASCII."""
    return json.dumps(data, indent=indent, allow_nan=False) + "\n"


def _csv(document: Document, *, full: bool = False) -> str:
    """Return the rows; a list or mapping inside a cell is JSON."""
    rows = [
        {key: _cell(value) for key, value in row.items()} for row in _lines(document, full=full)
    ]
    text = io.StringIO()
    # A row may lack what others have, and there may be none.
    told = kind_of(document["command"]).line_keys
    keys = dict.fromkeys([*told, *(key for row in rows for key in row)])
    writer = csv.DictWriter(text, fieldnames=list(keys), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _lines(document: Document, *, full: bool = False) -> Sequence[Mapping[str, Any]]:
    """Return what a flat file has a line of: mostly the rows."""
    kind = kind_of(document["command"])
    return kind.every(document) if full and kind.every else kind.lines(document)


def _nested(value: object) -> bool:
    """Say whether Parquet has no one type for it, as it has for a list of numbers."""
    if isinstance(value, list):
        return not value or not all(isinstance(one, int | float) for one in value)
    return isinstance(value, dict)


def _cell(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, list | dict):
        return json.dumps(value, allow_nan=False)
    return printable(value) if isinstance(value, str) else value
