"""`spectra compare` through the door a user takes."""

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from .conftest import Command


@pytest.fixture
def before(tmp_path: Path, model: Path, command: Command) -> Path:
    path = tmp_path / "before.json"
    assert command("spectrum", model, "-q", "-o", path).code == 0
    return path


@pytest.fixture
def after(before: Path) -> Path:
    """The same, one matrix of which is twice as large at both ends."""
    document = json.loads(before.read_text())
    for key in ("sigma_max", "sigma_min"):
        document["rows"][0][key] *= 2
    path = before.with_name("after.json")
    path.write_text(json.dumps(document))
    return path


def test_it_says_what_moved(command: Command, before: Path, after: Path) -> None:
    done = command("compare", before, after)
    assert (done.code, done.err) == (0, "")
    assert "moved beyond its error: sigma_max in 1 and sigma_min in 1" in " ".join(done.out.split())
    assert "× 2" in done.out


def test_it_fails_on_a_change_where_asked(command: Command, before: Path, after: Path) -> None:
    assert command("compare", before, after, "--fail-on-change").code == 1
    same = command("compare", before, before, "--fail-on-change")
    assert same.code == 0
    assert "Nothing moved beyond its error" in same.out


def test_every_format_holds_every_move(command: Command, before: Path, after: Path) -> None:
    forms = ("json", "jsonl", "csv", "md", "parquet", "txt")
    paths = {form: before.with_name(f"moves.{form}") for form in forms}
    words = [word for path in paths.values() for word in ("-o", path)]
    assert command("compare", before, after, "-q", *words).code == 0
    lines = list(csv.DictReader(io.StringIO(paths["csv"].read_text())))
    assert [line["key"] for line in lines] == ["sigma_max", "sigma_min"]
    assert float(lines[0]["beyond"]) > 0
    assert len(paths["jsonl"].read_text().splitlines()) == 2
    assert pd.read_parquet(paths["parquet"])["key"].tolist() == ["sigma_max", "sigma_min"]
    document = json.loads(paths["json"].read_text())
    assert sum(row["moved"] for row in document["rows"]) == 2
    for form in ("md", "txt"):
        assert "× 2" in paths[form].read_text()


def test_nothing_moved_is_written_too(command: Command, before: Path) -> None:
    forms = ("json", "jsonl", "csv", "md", "parquet", "txt")
    words = [word for form in forms for word in ("-o", before.with_name(f"same.{form}"))]
    picture = before.with_name("same.png")
    assert command("compare", before, before, "-q", "--plot", picture, *words).code == 0
    assert picture.stat().st_size > 1000
    head = before.with_name("same.csv").read_text()
    assert head.startswith("matrix,role,layer,expert,quantity,key,before,after")
    assert pd.read_parquet(before.with_name("same.parquet")).empty


def test_a_saved_comparison_becomes_a_page_and_a_card(
    command: Command, before: Path, after: Path
) -> None:
    saved, page = before.with_name("compare.json"), before.with_name("compare.html")
    assert command("compare", before, after, "-q", "-o", saved).code == 0
    assert command("report", saved, "-o", page, "-q").code == 0
    told = page.read_text()
    assert "What moved" in told
    assert "<caption>Quantities</caption>" in told
    assert f"spectra compare {before} {after} -o " in told
    card = command("report", saved, "--card")
    assert card.code == 0
    assert "| matrix | quantity | before | after | change | at least |" in card.out


def test_what_cannot_be_compared_is_one_line(
    command: Command, before: Path, model: Path, tmp_path: Path
) -> None:
    kappa = tmp_path / "kappa.json"
    assert command("kappa", model, "-q", "-o", kappa).code == 0
    done = command("compare", before, kappa, "-o", tmp_path / "out.json")
    assert (done.code, done.out) == (2, "")
    assert "of kappa. Expected two results of one command" in done.err
    assert not (tmp_path / "out.json").exists()
    alien = json.loads(before.read_text())
    for row in alien["rows"]:
        row["matrix"] += ".x"
    other = tmp_path / "alien.json"
    other.write_text(json.dumps(alien))
    done = command("compare", before, other)
    assert done.code == 3
    assert "no matrix is in both" in done.err
    assert command("compare", before, tmp_path / "no.json").code == 2
    damaged = json.loads(before.read_text())
    damaged["rows"][0]["rows"] = "many"
    other.write_text(json.dumps(damaged))
    done = command("compare", before, other)
    assert done.code == 2
    assert "alien.json is no result of spectra that can be shown" in done.err
