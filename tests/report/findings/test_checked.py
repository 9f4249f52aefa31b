"""Every form of a real check: a model beside the release before, judged by a policy."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import torch
import xmlschema

import spectra
from examples import write_model
from spectra.report.findings import FORMS, render
from spectra.report.formats import to_text
from spectra.report.screens import screen_of
from spectra.report.table import render_text

DATA = Path(__file__).parents[2] / "data"
UP = "model.layers.{}.mlp.up_proj.weight"
POLICY = """
schema = 1
[check]
fail-on = "warning"
[[ignore]]
code = "SPC008"
tensors = ["model.layers.1.*"]
reason = "known | issue 42"
[[ignore]]
code = "SPC009"
tensors = ["model.layers.0.*"]
reason = "outlived"
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> spectra.Result:
    """One finding is accepted, one new, one unchanged, one gone; one is of the policy itself."""
    folder = tmp_path_factory.mktemp("models")
    source = torch.Generator().manual_seed(4)
    sound = {UP.format(layer): torch.randn(32, 24, generator=source) for layer in range(6)}
    before, after = dict(sound), dict(sound)
    before[UP.format(3)] = torch.full((32, 24), torch.inf)
    before[UP.format(4)] = after[UP.format(4)] = torch.zeros(32, 24)
    after[UP.format(1)] = torch.zeros(32, 24)
    after[UP.format(2)] = sound[UP.format(2)].clone()
    after[UP.format(2)][5, 7] = torch.nan
    for name, tensors in (("before", before), ("after", after)):
        (folder / name).mkdir()
        write_model(folder / name, tensors)
    (folder / "spectra.toml").write_text(POLICY)
    return spectra.check(
        folder / "after", policy=folder / "spectra.toml", baseline=folder / "before",
        select=["SPC001", "SPC008", "SPC009", "SPC901"],
    )  # fmt: skip


def test_all_kinds_of_findings_are_there(checked: spectra.Result) -> None:
    """What the other tests of this file are about."""
    found = {(one["rule"], one["state"]) for one in checked.summary["findings"]}
    assert found == {
        ("SPC001", "new"), ("SPC001", "gone"), ("SPC008", "unchanged"), ("SPC901", "new"),
    }  # fmt: skip
    assert [one["rule"] for one in checked.summary["ignored"]] == ["SPC008"]


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_check_is_shown_as_the_live_one(form: str, checked: spectra.Result) -> None:
    saved = json.loads(to_text(checked.document(), "json"))
    assert render(saved, form) == render(checked.document(), form)
    assert render_text(screen_of(saved)) == render_text(screen_of(checked.document()))


def test_its_sarif_is_valid_and_whole(checked: spectra.Result) -> None:
    log = json.loads(render(checked.document(), "sarif"))
    schema = json.loads((DATA / "sarif-schema-2.1.0.json").read_text())
    jsonschema.Draft7Validator(schema).validate(log)
    (run,) = log["runs"]
    kinds = [
        (one["ruleId"], one.get("baselineState"), bool(one.get("suppressions")))
        for one in run["results"]
    ]
    assert sorted(kinds, key=repr) == [
        ("SPC001", "absent", False), ("SPC001", "new", False), ("SPC008", "unchanged", False),
        ("SPC008", None, True), ("SPC901", "new", False),
    ]  # fmt: skip
    uris = {
        one["ruleId"]: one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for one in run["results"]
    }
    assert uris["SPC001"].endswith("/after/model.safetensors")
    assert uris["SPC901"].endswith("/spectra.toml")


def test_its_junit_is_valid_and_red_where_it_fails(checked: spectra.Result) -> None:
    text = render(checked.document(), "junit")
    xmlschema.XMLSchema(DATA / "junit-10.xsd").validate(text)
    (suite,) = ET.fromstring(text)  # noqa: S314 - what we wrote ourselves
    assert checked.summary["exit_code"] == 1
    red = [
        case.attrib["classname"]
        for case in suite.iter("testcase")
        if case.find("failure") is not None
    ]
    assert red == ["SPC001 non-finite", "SPC901 unused-ignore"]


def test_its_annotations_point_at_lines_of_the_policy(checked: spectra.Result) -> None:
    line = POLICY.splitlines().index("[[ignore]]", 6) + 1
    text = render(checked.document(), "github")
    assert re.search(rf"^::warning .*file=[^,]*/spectra\.toml,line={line}::", text, re.MULTILINE)
