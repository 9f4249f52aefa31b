"""SARIF: valid by its schema, within its readers' limits, findings known again from run to run."""

import copy
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
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
from spectra import distribution
from spectra.policy import RULES
from spectra.report.findings import render, sarif

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "tests" / "data" / "sarif-schema-2.1.0.json").read_text())


def run_of(found: Document) -> dict[str, Any]:
    """The one run of a log that its schema accepts."""
    log = json.loads(render(found, "sarif"))
    jsonschema.Draft7Validator(SCHEMA).validate(log)
    (run,) = log["runs"]
    assert all("startLine" in place["physicalLocation"]["region"] for place in places(run))
    known: dict[str, Any] = run
    return known


def places(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for result in run["results"]:
        yield from result["locations"]


def uris(run: dict[str, Any]) -> list[str]:
    return [place["physicalLocation"]["artifactLocation"]["uri"] for place in places(run)]


@pytest.mark.parametrize("made", [document, varied, hostile], ids=["empty", "varied", "hostile"])
def test_a_log_is_valid_and_the_same_each_time(made: Callable[[], Document]) -> None:
    run_of(made())
    assert render(made(), "sarif") == render(made(), "sarif")


def test_the_schema_does_refuse() -> None:
    log = json.loads(render(varied(), "sarif"))
    log["runs"][0]["results"][0]["level"] = "bad"
    with pytest.raises(jsonschema.ValidationError, match="'bad' is not one of"):
        jsonschema.Draft7Validator(SCHEMA).validate(log)


def test_each_result_points_at_its_rule() -> None:
    run = run_of(varied())
    rules = run["tool"]["driver"]["rules"]
    assert len(run["results"]) == 8
    assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in run["results"])
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert {rule["id"] for rule in rules} >= {"SPC101", "SPC999", *RULES}


def test_a_rule_brings_all_that_is_known_of_it() -> None:
    rules = {rule["id"]: rule for rule in run_of(varied())["tool"]["driver"]["rules"]}
    known, found = RULES["SPC101"], rules["SPC101"]
    assert found["name"] == "IntruderDimensions"
    assert found["shortDescription"]["text"] == known.summary
    assert known.why in found["fullDescription"]["text"]
    for text in (known.why, known.how, known.fix):
        assert text in found["help"]["text"]
        assert text in found["help"]["markdown"]
    assert found["defaultConfiguration"]["level"] == "error"
    assert rules["SPC999"]["shortDescription"]["text"] == "of-another-version"


def test_severity_state_and_what_is_accepted() -> None:
    results = {one["ruleId"]: one for one in run_of(varied())["results"]}
    levels = {code: one["level"] for code, one in results.items()}
    assert (levels["SPC101"], levels["SPC104"], levels["SPC999"]) == ("error", "warning", "note")
    states = {code: one.get("baselineState") for code, one in results.items()}
    assert states["SPC101"] == "new"
    assert states["SPC202"] == "unchanged"
    assert states["SPC301"] == "absent"
    assert states["SPC201"] is None
    assert [code for code, one in results.items() if "suppressions" in one] == ["SPC201"]
    assert results["SPC201"]["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "known, issue 42"}
    ]
    assert results["SPC201"]["properties"]["until"] == "2027-03-01"


def test_a_finding_says_where_it_is() -> None:
    results = {one["ruleId"]: one for one in run_of(varied())["results"]}
    (place,) = results["SPC101"]["locations"]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "release/model-00001-of-00002.safetensors"},
        "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
    }
    assert place["logicalLocations"][0]["fullyQualifiedName"] == DOWN
    (place,) = results["SPC999"]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "spectra.toml"
    assert place["physicalLocation"]["region"]["startLine"] == 7
    assert "logicalLocations" not in place
    assert results["SPC101"]["message"]["text"] == f"{DOWN}: 6 > 4 allowed (baseline 1)"
    assert results["SPC101"]["properties"] == {
        "role": "mlp.down", "layer": 30, "value": 6.0, "limit": 4.0, "baseline": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "file", "uri"),
    [
        ("release/", "a b%.safetensors", "release/a%20b%25.safetensors"),
        ("./out/../release", "m.safetensors", "release/m.safetensors"),
        ("../../release", "m.safetensors", "release/m.safetensors"),
        (".", "m.safetensors", "m.safetensors"),
        ("release/m.safetensors", "m.safetensors", "release/m.safetensors"),
        ("release/m.gguf", "config.json", "release/config.json"),
        ("m.gguf", "config.json", "config.json"),
        ("org/name@v1.2", "m.safetensors", "org/name/m.safetensors"),
        ("hf://org/name@v1.2", "m.safetensors", "org/name/m.safetensors"),
        ("/srv/release", "m.safetensors", "file:///srv/release/m.safetensors"),
        ("C:\\srv\\release", "m.safetensors", "file:///C:/srv/release/m.safetensors"),
        ("a:b", "c:d.safetensors", "a%3Ab/c%3Ad.safetensors"),
        ("release", "/etc/spectra.toml", "file:///etc/spectra.toml"),
        ("release", "模型#1?.safetensors", "release/%E6%A8%A1%E5%9E%8B%231%3F.safetensors"),
    ],
)
def test_files_are_uris(spec: str, file: str, uri: str) -> None:
    (found,) = uris(run_of(document([finding(file=file)], spec=spec)))
    assert found == uri
    assert urlsplit(found).scheme in ("", "file")


@pytest.mark.parametrize(
    ("policy", "uri"), [("ci/spectra.toml", "ci/spectra.toml"), (None, "release")]
)
def test_what_has_no_file_points_at_the_policy_or_the_model(policy: str | None, uri: str) -> None:
    found = document([finding("SPC401", None, place="mlp.down")], policy=policy)
    assert uris(run_of(found)) == [uri]


def test_what_has_a_line_is_no_part_of_the_model() -> None:
    found = document([finding("SPC999", None, file="ci/gate.toml", line=7)], policy=None)
    assert uris(run_of(found)) == ["ci/gate.toml"]


def test_uris_of_any_name_stay_inside() -> None:
    run = run_of(hostile())
    assert len(run["results"]) == 2 * len(HOSTILE)
    for uri in uris(run):
        parts = urlsplit(uri)
        assert not parts.netloc
        assert not parts.query
        assert not parts.fragment
        assert ".." not in unquote(parts.path).split("/")


def test_braces_and_links_of_a_name_are_text() -> None:
    run = run_of(document([finding(matrix="a{0}[b](c)")]))
    text = run["results"][0]["message"]["text"]
    assert text.startswith("a{{0}}[b]")
    assert "](" not in text


def test_the_run_says_how_it_went() -> None:
    run = run_of(varied())
    assert run["automationDetails"]["id"] == "spectra/release/"
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    assert invocation["exitCode"] == 1
    (note,) = invocation["toolConfigurationNotifications"]
    assert note["associatedRule"]["id"] == "SPC401"
    assert note["message"]["text"] == "SPC401 width-matching: not judged: no proxy is set"
    assert run["tool"]["driver"]["rules"][note["associatedRule"]["index"]]["id"] == "SPC401"


def test_too_little_judged_is_no_success() -> None:
    (invocation,) = run_of(document(passed=False, exit_code=3, reading="INCOMPLETE"))["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 3
    (note,) = invocation["toolExecutionNotifications"]
    assert (note["level"], note["message"]["text"]) == ("error", "INCOMPLETE")


def test_more_results_than_readers_take_keep_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sarif.MOST_RESULTS == 25_000  # GitHub refuses a file with more
    monkeypatch.setattr(sarif, "MOST_RESULTS", 100)
    many = [finding(matrix=f"layers.{i}.w", state="unchanged") for i in range(90)]
    worst = [finding("SPC102", f"layers.{i}.w", state="new") for i in range(20)]
    log = json.loads(render(document([*many, *worst], [accepted()]), "sarif"))
    results = log["runs"][0]["results"]
    assert len(results) == 100
    assert [one["ruleId"] for one in results[:20]] == ["SPC102"] * 20
    (note,) = log["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("11 more findings are not in this log (10 error, 1 a")


def noise(i: int) -> str:
    """Text that gzip cannot make much shorter."""
    return "".join(hashlib.sha256(f"{i} {j}".encode()).hexdigest() for j in range(8))


def test_a_log_too_large_to_upload_keeps_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif, "MOST_BYTES", 60_000)
    many = [finding(matrix=f"layers.{i}.w", message=noise(i)) for i in range(400)]
    text = render(document(many), "sarif")
    assert 20_000 < len(gzip.compress(text.encode())) <= 60_000
    run = json.loads(text)["runs"][0]
    kept = [one["partialFingerprints"]["spectra/v1"] for one in run["results"]]
    assert kept == [one["fingerprint"] for one in many[: len(kept)]]
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith(f"{400 - len(kept)} more findings")


def test_findings_of_one_rule_in_one_place_stay_apart() -> None:
    run = run_of(document([finding(message="a"), finding(message="b")], [accepted("SPC101", DOWN)]))
    hashes = [one["partialFingerprints"]["primaryLocationLineHash"] for one in run["results"]]
    print_ = finding()["fingerprint"]
    assert hashes == [f"{print_}:1", f"{print_}:2", f"{print_}:3"]


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
RULE = st.sampled_from(sorted(RULES))
NAME = st.sampled_from([DOWN, "lm_head.weight", "model.norm.weight"])


@given(st.lists(st.tuples(RULE, NAME), unique=True, min_size=1, max_size=5), st.data())
def test_fingerprints_never_depend_on_numbers_or_messages(
    where: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Two releases with the same findings: other values, texts, severities, in another order."""
    first = [finding(rule, name) for rule, name in where]
    second = [
        one
        | {
            "message": data.draw(st.text()),
            "value": data.draw(numbers),
            "limit": data.draw(numbers),
            "baseline": data.draw(numbers),
            "severity": data.draw(st.sampled_from(["error", "warning", "note"])),
            "state": data.draw(st.sampled_from(["new", "unchanged"])),
            "file": data.draw(st.sampled_from(["a.safetensors", "b.safetensors"])),
        }
        for one in data.draw(st.permutations(first))
    ]
    hashes = [
        Counter(
            (one["ruleId"], one["partialFingerprints"]["primaryLocationLineHash"])
            for one in json.loads(render(document(found), "sarif"))["runs"][0]["results"]
        )
        for found in (first, second)
    ]
    assert hashes[0] == hashes[1]
    assert len({key for _, key in hashes[0]}) == len(where)


@given(RULE, NAME, numbers, st.text())
def test_a_document_without_fingerprints_gets_the_same_ones(
    rule: str, name: str, value: float | None, message: str
) -> None:
    whole = document([finding(rule, name, value=value, message=message)])
    older = copy.deepcopy(whole)
    del older["summary"]["findings"][0]["fingerprint"]
    assert render(older, "sarif") == render(whole, "sarif")


def test_before_a_release_no_rule_links_to_an_address_and_its_help_names_the_page() -> None:
    driver = run_of(varied())["tool"]["driver"]
    assert "informationUri" not in driver
    known = [rule for rule in driver["rules"] if rule["id"] in RULES]
    assert known
    for rule in known:
        assert "helpUri" not in rule
        page = re.search(r"(docs/\w+\.md)#(\w+)", rule["help"]["markdown"])
        assert page
        assert f'<a id="{page[2]}"></a>' in (ROOT / page[1]).read_text()
        assert f"spectra rule {rule['id']}" in rule["help"]["text"]


def test_after_a_release_every_rule_links_to_its_place_in_the_documentation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = "https://docs.example.org"
    monkeypatch.setattr(distribution, "address", {"Documentation": home}.get)
    monkeypatch.setattr(sarif, "address", {"Documentation": home}.get)
    driver = run_of(varied())["tool"]["driver"]
    assert driver["informationUri"] == home
    for rule in driver["rules"]:
        if rule["id"] in RULES:
            code = rule["id"].lower()
            assert rule["helpUri"] == f"{home}/{distribution.version()}/rules/#{code}"
        else:
            assert "helpUri" not in rule
