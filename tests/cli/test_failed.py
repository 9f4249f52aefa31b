"""One matrix that cannot be measured: told everywhere, kept nowhere, never passed over."""

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from spectra.work.load import Loaded, Subject

from .conftest import Command

BAD = "model.layers.1.mlp.up_proj.weight"
WHY = "LinAlgError: the algorithm did not converge"
SUBJECT = Loaded.subject


class LinAlgError(RuntimeError):
    """As torch calls it, but for a line that it begins with."""


@pytest.fixture
def _failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def subject(self: Loaded, device: str, **asked: bool) -> Subject:
        if self.task.place.matrix == BAD:
            raise LinAlgError("the algorithm\n  did not converge")
        return SUBJECT(self, device, **asked)

    monkeypatch.setattr(Loaded, "subject", subject)


@pytest.mark.usefixtures("_failing")
@pytest.mark.parametrize(
    "words", [["kappa"], ["spectrum"], ["kappa", "--select", "3"], ["diff", "{model}"]]
)
def test_the_others_are_told_and_the_exit_code_is_3(
    command: Command, model: Path, words: list[str]
) -> None:
    words = [word.format(model=model) for word in words]
    told = f"1 matrix could not be measured: {BAD}, {WHY}."
    done = command(*words, model)
    assert done.code == 3
    assert told in done.out
    assert f"no numbers: {BAD}: {WHY}" in done.out
    assert done.err.startswith(f"error: {told}")
    assert done.err.count("\n") == 1
    document = json.loads(command(*words, model, "--format", "json").out)
    assert document["summary"]["failed"] == 1
    assert document["summary"]["non_finite"] == 0
    assert told in document["summary"]["reading"]
    (row,) = [row for row in document["rows"] if row["status"] == "failed"]
    assert (row["matrix"], row["error"]) == (BAD, WHY)
    table = csv.DictReader(io.StringIO(command(*words, model, "--format", "csv").out))
    assert {line["status"] for line in table if line["error"]} == {"failed"}


def test_it_is_tried_again(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "store"))
    with monkeypatch.context() as patched:
        patched.setattr(Loaded, "subject", lambda _self, _device: 1 / 0)
        done = command("kappa", model)
        assert done.code == 3
        assert "every one of the 9 matrices could not be measured" in done.err
    assert command("kappa", model).code == 0


@pytest.mark.usefixtures("_failing")
def test_a_check_does_not_pass_over_it(command: Command, model: Path, tmp_path: Path) -> None:
    sarif, junit, page, saved = (
        tmp_path / name for name in ("c.sarif", "c.xml", "c.html", "c.json")
    )
    words = ["check", model, "--isolated", "--ignore", "SPC2", "-o", sarif, "-o", junit]
    done = command(*words, "-o", saved)
    assert done.code == 3
    assert "INCOMPLETE" in done.out
    assert f"1 tensor could not be measured: {BAD}, {WHY}." in done.out
    assert f"not measured: {WHY}" in done.out
    run = json.loads(sarif.read_text())["runs"][0]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert WHY in run["properties"]["reading"]
    (error,) = ET.parse(junit).getroot().iter("error")  # noqa: S314 - our own
    assert WHY in str(error.attrib["message"])
    document = json.loads(saved.read_text())
    assert document["summary"]["exit_code"] == 3
    assert document["summary"]["coverage"]["share"] < 1.0
    assert command("report", saved, "-o", page).code == 0
    assert WHY in page.read_text()
    kept = tmp_path / "baseline.json"
    assert command("check", model, "--isolated", "--save-baseline", kept).code == 3
    assert not kept.exists()


@pytest.mark.usefixtures("_failing")
def test_of_a_base_it_leaves_the_comparison_open(command: Command, model: Path) -> None:
    for option in ("--base", "--baseline"):
        done = command("check", model, "--isolated", option, model)
        assert done.code == 3
        assert f"could not be measured: {BAD}" in done.out
