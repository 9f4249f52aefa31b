"""The forms of a check: by name, by file, from documents of other versions."""

from pathlib import PurePath

import pytest

from report.findings.subjects import accepted, document, finding, varied
from spectra.errors import OutputError
from spectra.report.findings import FORMS, SUFFIXES, form_of, render
from spectra.report.findings.found import verdict_of
from spectra.report.screens import screen_of
from spectra.report.table import render_text


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("check.sarif", "sarif"), ("check.SARIF.json", "sarif"), ("check.xml", "junit"),
        ("check.md", "markdown"), ("check.json", None), ("sarif", None),
    ],
)  # fmt: skip
def test_a_file_tells_its_form(name: str, form: str | None) -> None:
    assert form_of(PurePath("out.xml") / name) == form
    assert set(SUFFIXES.values()) <= set(FORMS)


def test_another_form_is_refused() -> None:
    with pytest.raises(OutputError, match=r"'html' is no form of a check\. Expected one of sarif"):
        render(document(), "html")


@pytest.mark.parametrize("form", FORMS)
def test_a_document_of_another_version_is_shown(form: str) -> None:
    """It lacks what came later, and has a rule that this version does not know."""
    found = varied()
    for key in ("exit_code", "alias", "policy", "coverage"):
        del found["summary"][key]
    found["settings"] = {}
    one = {"rule": "XYZ9", "name": "elsewhere", "severity": "critical", "message": "is odd",
           "tensor": None, "matrix": "w", "value": None, "limit": None, "baseline": None,
           "state": None}  # fmt: skip
    found["summary"]["findings"].append(one)
    text = render(found, form)
    assert "XYZ9" in text
    assert "XYZ9" in render_text(screen_of(found))
    assert verdict_of(found).alias == "release"


def test_what_fails_follows_the_policy() -> None:
    found = [finding(), finding(state="unchanged"), finding("SPC104"), finding(state="gone")]
    names = [(one.severity, one.state) for one in verdict_of(document(found)).found]
    assert names == [
        ("error", None), ("warning", None), ("error", "unchanged"), ("error", "gone"),
    ]  # fmt: skip

    def failing(passed: bool = False, **settings: object) -> list[bool]:
        verdict = verdict_of(document(found, [accepted()], settings=settings, passed=passed))
        return [verdict.fails(one) for one in verdict.found]

    assert failing() == [True, False, False, False]
    assert failing(fail_on="warning") == [True, True, False, False]
    assert failing(fail_on="note", fail_unchanged=True) == [True, True, True, False]
    assert failing(fail_on="never") == [False] * 4
    assert failing(passed=True) == [False] * 4
