"""`spectra report` through the door a user takes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spectra
from report.html import documents
from sick import fewer_words, intruder_laden

from .conftest import Command


@pytest.fixture
def saved(tmp_path: Path, model: Path, command: Command) -> Path:
    path = tmp_path / "spectrum.json"
    assert command("spectrum", model, "-q", "-o", path).code == 0
    return path


@pytest.fixture
def check(tmp_path: Path) -> Path:
    path = tmp_path / "check.json"
    path.write_text(json.dumps(documents.check(2)))
    return path


def test_a_page_is_written_here_by_default(
    command: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("report", "spectrum.json")
    assert (done.code, done.out, done.err) == (0, "", "wrote report.html\n")
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "spectra report spectrum.json -o report.html" in page
    assert command("report", "spectrum.json", "-q").err == ""
    assert (tmp_path / "report.html").read_text() == page


def test_one_page_holds_several_results(
    command: Command, saved: Path, model: Path, check: Path, tmp_path: Path
) -> None:
    kappa = tmp_path / "kappa.json"
    assert command("kappa", model, "--select", "2", "-q", "-o", kappa).code == 0
    done = command("report", saved, kappa, check, "-o", tmp_path / "all.html")
    assert done.code == 0
    page = (tmp_path / "all.html").read_text()
    assert page.count('class="result"') == 3
    assert "--select 2 -o " in page


def test_a_saved_result_is_written_in_other_formats_without_weights(
    command: Command, saved: Path, model: Path, tmp_path: Path
) -> None:
    live = {suffix: tmp_path / f"live{suffix}" for suffix in (".csv", ".jsonl", ".md", ".txt")}
    words = [word for path in live.values() for word in ("-o", path)]
    assert command("spectrum", model, "-q", *words).code == 0
    for file in model.iterdir():
        file.unlink()
    back = {suffix: tmp_path / f"back{suffix}" for suffix in (*live, ".json")}
    done = command("report", saved, *(w for path in back.values() for w in ("-o", path)))
    assert done.code == 0, done.err
    assert {s: back[s].read_text() for s in live} == {s: p.read_text() for s, p in live.items()}
    assert back[".json"].read_text() == saved.read_text()
    assert done.err.count("wrote ") == 5


def test_a_saved_result_becomes_a_table_of_parquet(
    command: Command, saved: Path, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    assert command("report", saved, "-o", tmp_path / "x.parquet").code == 0
    frame = pandas.read_parquet(tmp_path / "x.parquet")
    rows = json.loads(saved.read_text())["rows"]
    assert list(frame["matrix"]) == [row["matrix"] for row in rows]
    assert [list(found) for found in frame["sigma_profile"]] == [
        row["sigma_profile"] for row in rows
    ]


def test_a_check_becomes_sarif_and_junit(command: Command, check: Path, tmp_path: Path) -> None:
    sarif, junit = tmp_path / "x.sarif", tmp_path / "x.xml"
    page, note = tmp_path / "x.html", tmp_path / "x.md"
    done = command("report", check, "-o", sarif, "-o", junit, "-o", page, "-o", note)
    assert done.code == 0, done.err
    run = json.loads(sarif.read_text())["runs"][0]
    assert [found["ruleId"] for found in run["results"]][:2] == ["SPC002", "SPC101"]
    assert "<failure" in junit.read_text()
    assert "SPC002" in page.read_text()
    assert "SPC002" in note.read_text()


def test_a_card_goes_to_standard_output_or_a_file(
    command: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("report", saved, "--card")
    assert done.code == 0
    assert done.out.startswith("## What the weights say\n")
    assert done.err == ""
    assert not Path("report.html").exists()
    written = command("report", saved, "--card", "-o", "CARD.md")
    assert (written.code, written.out) == (0, "")
    assert Path("CARD.md").read_text() == done.out
    both = command("report", saved, "--card", "-o", "x.html")
    assert both.out == done.out
    assert Path("x.html").exists()


def refused(command: Command, *words: str | Path) -> str:
    done = command("report", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "internal" not in done.err
    return done.err


def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    command: Command, saved: Path, check: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert "x.sarif ends with '.sarif'" in refused(command, saved, "-o", tmp_path / "x.sarif")
    assert "holds one result, got 2" in refused(
        command, saved, check, "-o", page, "-o", tmp_path / "x.csv"
    )
    assert "ends with '.docx'" in refused(command, saved, "-o", page, "-o", tmp_path / "x.docx")
    assert "the folder" in refused(command, saved, "-o", tmp_path / "none" / "x.html")
    assert "is a folder" in refused(command, saved, "-o", tmp_path)
    assert not page.exists()


def test_what_is_no_result_is_refused(command: Command, saved: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"schema": "spectra/9"}')
    assert "schema is 'spectra/9', expected 'spectra/1'" in refused(command, saved, bad)
    bad.write_text("\x1b[31m")
    assert "is not JSON" in refused(command, bad)
    assert "cannot be read" in refused(command, tmp_path / "none.json")
    assert "Missing argument" in refused(command)


def test_an_estimate_is_no_result(
    command: Command, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = tmp_path / "dry.json"
    dry.write_text(command("spectrum", model, "--dry-run", "--format", "json").out)
    assert "an estimate of --dry-run" in refused(command, dry)


def test_a_page_is_written_without_torch(saved: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom spectra_cli.main import run\n"
        f"code = run(['report', {str(saved)!r}, '-o', {str(tmp_path / 'x.html')!r}])\n"
        "print(code, [name for name in ('torch', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0 []\n"


def test_a_page_of_a_model_and_its_base_takes_one_step(
    command: Command, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = fewer_words(minilm, tmp_path / "base")
    sick = intruder_laden(base, tmp_path / "tuned")
    done = command("report", "tuned", "--base", "base")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[-1] == "wrote report.html"
    assert "4 of 4: spectrum of tuned" in done.err
    page = (tmp_path / "report.html").read_text()
    assert re.search(r"<h1><span class=.badge error.>.*FAIL</span> <span>tuned</span></h1>", page)
    assert page.count('class="result"') == 4
    assert "spectra report tuned --base base -o report.html" in page
    assert "no weights were read" not in page
    for name in sick.matrices:
        assert name.replace(".", ".<wbr>") in page[: page.index('class="cards"')]


def test_a_healthy_model_alone_passes(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("report", model, "-q", "-o", tmp_path / "page.html")
    assert (done.code, done.out, done.err) == (0, "", "")
    page = (tmp_path / "page.html").read_text()
    assert '<h1><span class="badge passed">' in page
    assert "badge error" not in page[: page.index("<script")]


def test_a_page_is_judged_by_the_policy_that_is_given(
    command: Command, model: Path, tmp_path: Path
) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text("[rules.SPC201]\nmax = 1.5\n")
    page = tmp_path / "page.html"
    assert command("report", model, "--policy", strict, "-q", "-o", page).code == 0
    written = page.read_text()
    assert "SPC201" in written[: written.index('class="cards"')]
    again = f"spectra report {model} --policy {strict} -o report.html"
    assert again in written.replace("<wbr>", "")
    assert spectra.report(model, policy=strict, output=page) == page
    assert "SPC201" in page.read_text()[: page.read_text().index('class="cards"')]
    assert spectra.report(model, output=page) == page
    assert "SPC201" not in page.read_text()[: page.read_text().index('class="cards"')]


def test_what_cannot_be_a_page_of_a_model_is_refused_before_any_work(
    command: Command, model: Path, minilm_lora: Path, saved: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    for words, told in (
        ((model, saved, "-o", page), "is read as a model. Give one or the other"),
        ((model, "-o", tmp_path / "a.csv"), "holds one result"),
        ((minilm_lora, "-o", page), "is an adapter, which says little without its base"),
        ((saved, "-o", tmp_path / "a.csv", "--open"), "--open opens a page"),
        ((saved, "--policy", tmp_path / "x.toml", "-o", page), "nothing of it is measured"),
        ((model, "--policy", tmp_path / "x.toml", "-o", page), "x.toml does not exist. Expected a"),
        ((tmp_path / "nope", "--base", model, "-o", page), "does not exist"),
    ):
        done = command("report", *words)
        assert done.code == 2
        assert told in done.err
        assert done.err.count("\n") == 1
    assert not page.exists()


def test_of_a_damaged_model_the_page_is_its_check(
    command: Command, model: Path, tmp_path: Path
) -> None:
    weights, page = model / "model.safetensors", tmp_path / "page.html"
    weights.write_bytes(weights.read_bytes()[:-50])
    done = command("report", model, "-o", page)
    assert done.code == 0
    assert "the download was cut" in done.err
    assert "The report holds the check alone." in done.err
    assert page.read_text().count('class="result"') == 1
    assert "SPC002" in page.read_text()


def test_open_shows_the_page_or_says_where_it_is(
    command: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, shown = tmp_path / "page.html", list[str]()

    def browser(address: str) -> bool:
        shown.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setenv("DISPLAY", ":0")
    done = command("report", saved, "-o", page, "--open")
    assert (done.code, shown) == (0, [page.as_uri()])
    assert "no browser" not in done.err
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    done = command("report", saved, "-o", page, "--open")
    assert done.code == 0
    assert done.err.splitlines()[-1] == f"no browser could be opened here; the page is {page}"
    assert len(shown) == 1


def test_what_is_none_of_ours_is_passed_over_and_named(
    command: Command, saved: Path, tmp_path: Path
) -> None:
    config, noise, page = (tmp_path / name for name in ("config.json", "noise.json", "all.html"))
    config.write_text('{"model_type": "llama"}')
    noise.write_text("{")
    done = command("report", config, saved, noise, "-o", page)
    assert done.code == 0, done.err
    for stranger in (config, noise):
        assert f"note: passed over {stranger}: it is no result of spectra\n" in done.err
    assert page.read_text().count('class="result"') == 1
    refused(command, config, noise, "-o", page)
    damaged = tmp_path / "damaged.json"
    damaged.write_text(saved.read_text()[:-20])
    assert "damaged.json is not JSON" in refused(command, saved, damaged)
