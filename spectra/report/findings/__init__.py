"""What a check found, as its readers want it: SARIF, JUnit, GitHub, Markdown."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from spectra.errors import OutputError
from spectra.report.findings.found import Verdict, verdict_of
from spectra.report.findings.github import to_github
from spectra.report.findings.junit import to_junit
from spectra.report.findings.markdown import to_comment, to_page
from spectra.report.findings.sarif import to_sarif
from spectra.text import guess

__all__ = ["FORMS", "SUFFIXES", "form_of", "render"]

WRITERS: Mapping[str, Callable[[Verdict], str]] = {
    "sarif": to_sarif,
    "junit": to_junit,
    "github": to_github,  # annotations
    "markdown": to_comment,
    "summary": to_page,  # of a step of GitHub Actions
}

FORMS = tuple(WRITERS)

SUFFIXES = {".sarif": "sarif", ".sarif.json": "sarif", ".xml": "junit", ".md": "markdown"}
"""Form by the end of a file's name."""


def form_of(path: PurePath) -> str | None:
    """Return the form that a file's name asks for; None where it is none of these."""
    name = path.name.lower()
    return next((form for end, form in SUFFIXES.items() if name.endswith(end)), None)


def render(document: Mapping[str, Any], form: str) -> str:
    """Return what a check found as a text that ends in a line break, the same for each call.

    Args:
        document: Of a check, as `Result.document()` gives it or as it was saved.
        form: One of `FORMS`.

    Raises:
        OutputError: The form is none of these.
    """
    writer = WRITERS.get(form)
    if writer is None:
        told = f"{guess(form, FORMS)} Expected one of {', '.join(FORMS)}."
        raise OutputError(f"{form!r} is no form of a check.{told}")
    return writer(verdict_of(document))
