"""JUnit XML: the model is a suite, each rule in each place a test.

Source:
    junit-10.xsd of Jenkins' xUnit plugin: of the descriptions of this format the one that the
    readers of CI services keep to.
"""

from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from spectra.policy.finding import Finding, Outcome
from spectra.report.findings.found import TOO_LITTLE, Verdict, counted_rules, policy_line

UNREAD = "SPC002"
"""The rule about files that could not be read: its findings are errors, not failures."""

NO_FINDINGS = "no findings"
NOT_JUDGED = "not judged"


def to_junit(verdict: Verdict) -> str:
    """Return a suite that fails where the check does, and nowhere else."""
    suite = ET.Element("testsuite", {"name": verdict.alias})
    properties = ET.SubElement(suite, "properties")
    facts = {"spectra": verdict.version, "model": verdict.spec, "policy": verdict.policy or ""}
    for name, value in facts.items():
        ET.SubElement(properties, "property", {"name": name, "value": value})
    seen: Counter[tuple[str, str]] = Counter()
    for case in _cases(verdict):
        key = (case.attrib["classname"], case.attrib["name"])
        seen[key] += 1
        if seen[key] > 1:
            case.attrib["name"] += f" ({seen[key]})"
        suite.append(case)
    ET.SubElement(suite, "system-out").text = f"{verdict.reading}\n{policy_line(verdict)}"
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    suite.attrib |= {key: str(count) for key, count in counts.items()}
    total = {key: str(counts[key]) for key in ("tests", "failures", "errors")}
    root = ET.Element("testsuites", {"name": "spectra check", **total})
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _cases(verdict: Verdict) -> Iterator[ET.Element]:
    """Yield the tests: rule by rule, its findings, or that it has none."""
    failing = False
    for rule in counted_rules(verdict):
        present = [one for one in verdict.present if one.rule == rule.code]
        failing = failing or any(verdict.fails(one) for one in present)
        yield from (_finding(one, rule, verdict) for one in present)
        yield from (_accepted(one, rule) for one in verdict.ignored if one.rule == rule.code)
        yield from (_gone(one, rule) for one in verdict.gone if one.rule == rule.code)
        if not rule.judged:
            case = _case(rule.title, NOT_JUDGED)
            ET.SubElement(case, "skipped", {"message": rule.why_not or NOT_JUDGED})
            yield case
        elif not present:
            yield _case(rule.title, NO_FINDINGS)
    yield _whole(verdict, failing=failing)


def _finding(one: Finding, rule: Outcome, verdict: Verdict) -> ET.Element:
    """Return the test that a finding is: one that passes where the finding fails nothing."""
    case = _case(rule.title, one.where)
    told_more = [one.told, f"severity: {one.severity}"]
    told_more += [f"since the baseline: {one.state}"] if one.state else []
    told_more += [f"file: {one.file}"] if one.file else []
    text = "\n".join([*told_more, f"explain: spectra rule {one.rule}"])
    if verdict.fails(one):
        kind = "error" if one.rule == UNREAD else "failure"
        found = ET.SubElement(case, kind, {"type": one.name, "message": one.what})
        found.text = text
    else:
        ET.SubElement(case, "system-out").text = text
    return case


def _accepted(one: Finding, rule: Outcome) -> ET.Element:
    case = _case(rule.title, one.where)
    until = f" (until {one.until})" if one.until else ""
    message = f"accepted: {one.reason or 'no reason given'}{until}"
    ET.SubElement(case, "skipped", {"message": message}).text = one.told
    return case


def _gone(one: Finding, rule: Outcome) -> ET.Element:
    """Return the test of a finding that the baseline had: it passes now."""
    case = _case(rule.title, one.where)
    ET.SubElement(case, "system-out").text = f"gone since the baseline: {one.told}"
    return case


def _whole(verdict: Verdict, *, failing: bool) -> ET.Element:
    """Return the test of the check itself, which keeps one without findings from passing."""
    case = _case("spectra check", "the verdict")
    if not verdict.passed and not failing:
        kind = "coverage" if verdict.exit_code == TOO_LITTLE else "verdict"
        found = ET.SubElement(case, "error", {"type": kind, "message": verdict.reading})
        found.text = f"exit code {verdict.exit_code}"
    return case


def _case(classname: str, name: str) -> ET.Element:
    return ET.Element("testcase", {"classname": classname, "name": name})
