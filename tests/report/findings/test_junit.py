"""JUnit XML: valid for Jenkins, readable by others, red exactly where the check is."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import junitparser
import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from report.findings.subjects import (
    DOWN,
    HOSTILE,
    Document,
    accepted,
    document,
    finding,
    hostile,
    varied,
)
from spectra.policy import RULES
from spectra.report.findings import render

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[2] / "data" / "junit-10.xsd")


def suite_of(found: Document) -> ET.Element:
    """The one suite of a report that its schema accepts."""
    text = render(found, "junit")
    SCHEMA.validate(text)
    (suite,) = ET.fromstring(text)  # noqa: S314 - what we wrote ourselves
    return suite


def cases(suite: ET.Element) -> dict[tuple[str, str], ET.Element]:
    found = {(one.attrib["classname"], one.attrib["name"]): one for one in suite.iter("testcase")}
    assert len(found) == len(suite.findall("testcase"))
    return found


def red(suite: ET.Element) -> int:
    return len(suite.findall("testcase/failure")) + len(suite.findall("testcase/error"))


@pytest.mark.parametrize("made", [document, varied, hostile], ids=["empty", "varied", "hostile"])
def test_a_report_is_valid_and_the_same_each_time(made: Callable[[], Document]) -> None:
    suite = suite_of(made())
    assert suite.attrib["tests"] == str(len(suite.findall("testcase")))
    assert suite.attrib["failures"] == str(len(suite.findall("testcase/failure")))
    assert suite.attrib["errors"] == str(len(suite.findall("testcase/error")))
    assert suite.attrib["skipped"] == str(len(suite.findall("testcase/skipped")))
    assert render(made(), "junit") == render(made(), "junit")


def test_the_schema_does_refuse() -> None:
    text = render(varied(), "junit").replace('classname="SPC101', 'klass="SPC101', 1)
    with pytest.raises(xmlschema.XMLSchemaValidationError, match="klass"):
        SCHEMA.validate(text)


@pytest.mark.parametrize("made", [document, varied, hostile], ids=["empty", "varied", "hostile"])
def test_another_reader_finds_the_same(made: Callable[[], Document], tmp_path: Path) -> None:
    path = tmp_path / "check.xml"
    path.write_text(render(made(), "junit"), encoding="utf-8")
    (theirs,) = junitparser.JUnitXml.fromfile(str(path))
    ours = suite_of(made())
    counted = (theirs.tests, theirs.failures, theirs.errors, theirs.skipped)
    assert counted == tuple(int(ours.attrib[k]) for k in ("tests", "failures", "errors", "skipped"))
    assert [(case.classname, case.name) for case in theirs] == list(cases(ours))


def test_each_finding_is_the_test_of_a_rule_in_a_place() -> None:
    found = cases(suite_of(varied()))
    (failure,) = found["SPC101 intruder-dimensions", DOWN]
    assert failure.tag == "failure"
    assert failure.attrib == {
        "type": "intruder-dimensions", "message": "6 > 4 allowed (baseline 1)",
    }  # fmt: skip
    assert "explain: spectra rule SPC101" in str(failure.text)
    known = found["SPC202 condition-excess", "model.layers.2.self_attn.k_proj.weight"]
    assert [part.tag for part in known] == ["system-out"]
    (gone,) = found["SPC301 rank-collapse", "model.layers.4.mlp.up_proj.weight"]
    assert str(gone.text).startswith("gone since the baseline")
    (skipped,) = found["SPC201 condition-number", "lm_head.weight"]
    assert skipped.tag == "skipped"
    assert skipped.attrib["message"] == "accepted: known, issue 42 (until 2027-03-01)"
    assert found["SPC401 width-matching", "not judged"][0].attrib["message"] == "no proxy is set"


def test_a_file_that_could_not_be_read_is_an_error() -> None:
    name = RULES["SPC002"].name if "SPC002" in RULES else "of-another-version"
    (error,) = cases(suite_of(varied()))[f"SPC002 {name}", "model-00002-of-00002.safetensors"]
    assert error.tag == "error"


def test_every_judged_rule_without_findings_passes() -> None:
    found = cases(suite_of(document([finding()])))
    judged = [rule for rule in RULES.values() if rule.code not in ("SPC101", "SPC401")]
    for rule in judged:
        assert not list(found[f"{rule.code} {rule.name}", "no findings"])
    assert ("SPC101 intruder-dimensions", "no findings") not in found


def test_what_is_found_twice_has_two_names() -> None:
    found = cases(suite_of(document([finding(message="a"), finding(message="b")])))
    assert ("SPC101 intruder-dimensions", DOWN) in found
    assert ("SPC101 intruder-dimensions", f"{DOWN} (2)") in found


def test_control_characters_are_escaped() -> None:
    text = render(document([finding(matrix="a\x00\x1b[31m\ud800\ufffe\nb")]), "junit")
    assert "a\\x00\\x1b[31m\\ud800\\ufffe\\nb" in text
    assert not any(text.count(char) for char in "\x00\x1b\ud800\ufffe")
    assert len(cases(suite_of(hostile()))) >= 2 * len(HOSTILE)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["error", "warning", "note"]),
            st.sampled_from([None, "new", "unchanged", "gone"]),
        ),
        max_size=6,
    ),
    st.sampled_from(["error", "warning", "note", "never"]),
    st.booleans(),
)
def test_it_is_red_where_the_check_fails_and_nowhere_else(
    kinds: list[tuple[str, str | None]], fail_on: str, fail_unchanged: bool
) -> None:
    words = ["error", "warning", "note"]
    bad = words[: words.index(fail_on) + 1] if fail_on in words else []
    passing = ["gone"] if fail_unchanged else ["gone", "unchanged"]
    failing = [kind for kind, state in kinds if kind in bad and state not in passing]
    found = document(
        [
            finding(matrix=f"layers.{i}.w", severity=kind, state=state)
            for i, (kind, state) in enumerate(kinds)
        ],
        [accepted()],
        settings={"fail_on": fail_on, "fail_unchanged": fail_unchanged},
        passed=not failing,
        exit_code=int(bool(failing)),
    )
    assert red(suite_of(found)) == len(failing)


@pytest.mark.parametrize(("code", "kind"), [(3, "coverage"), (1, "verdict")])
def test_a_check_that_fails_without_findings_is_red(code: int, kind: str) -> None:
    suite = suite_of(document(passed=False, exit_code=code, reading="INCOMPLETE"))
    (error,) = cases(suite)["spectra check", "the verdict"]
    assert error.attrib == {"type": kind, "message": "INCOMPLETE"}
    assert red(suite) == 1
