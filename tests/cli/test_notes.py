"""What fits nothing, or goes past what is there, is told wherever the answer is."""

import json
from pathlib import Path

import pytest

import spectra

from .conftest import Command

NINE = "note: --layers 9: layers are 0 to 2."


@pytest.mark.parametrize("words", ["ls", "spectrum", "kappa", "kappa --select 3"])
def test_a_table_ends_with_it(command: Command, model: Path, words: str) -> None:
    done = command(*words.split(), model, "--layers", "1,9")
    assert done.code == 0
    assert f"  {NINE}\n" in done.out
    assert "note:" not in done.err


@pytest.mark.parametrize("form", ["json", "csv", "jsonl"])
def test_beside_data_it_goes_to_standard_error(command: Command, model: Path, form: str) -> None:
    done = command("ls", model, "--layers", "1,9", "--format", form)
    assert done.err == f"{NINE}\n"
    if form == "json":
        assert json.loads(done.out)["summary"]["notes"] == [NINE.removeprefix("note: ")]


def test_beside_an_export_and_in_an_estimate_too(command: Command, model: Path) -> None:
    done = command("kappa", model, "--select", "99", "--layers", "0", "--export", "names")
    assert done.out.count("\n") == 3
    assert "note: --select 99 is more than there is: 3 candidates; all selected.\n" in done.err
    done = command("spectrum", model, "--layers", "1,9", "--dry-run")
    assert done.err == f"{NINE}\n"


def test_a_pair_and_several_models_tell_it_once(command: Command, model: Path) -> None:
    done = command("diff", model, model, "--layers", "1,9")
    assert done.out.count(NINE) == 1


def test_leading_vectors_beyond_those_there_are(
    command: Command, minilm: Path, minilm_lora: Path
) -> None:
    few = ("diff", minilm, minilm_lora, "--intruders", "--include", "*layer.0*query*", "--k")
    told = "note: --k 385: the smallest changed matrix has 384 singular vectors"
    assert told in command(*few, "385").out
    assert "note:" not in command(*few, "384").out


def test_what_fits_is_not_noted(command: Command, model: Path) -> None:
    done = command(
        "kappa", model, "--select", "2", "--layers", "0-2", "--role", "attn", "--role", "mlp",
        "--include", "*proj*", "--exclude", "*down_proj*",
    )  # fmt: skip
    assert "note:" not in done.out + done.err


def test_python_and_pages_tell_it_in_their_words(
    command: Command, model: Path, tmp_path: Path
) -> None:
    found = spectra.spectrum(model, layers=[1, 9])
    assert found.summary["notes"] == ["layers=9: layers are 0 to 2."]
    assert "note: layers=9: layers are 0 to 2." in repr(found)
    assert "note: layers=9: layers are 0 to 2." in found._repr_html_()
    command("spectrum", model, "--layers", "1,9", "-o", tmp_path / "r.json")
    page, card = tmp_path / "r.html", tmp_path / "card.md"
    command("report", tmp_path / "r.json", "-o", page, "-o", card, "--card")
    assert NINE in page.read_text()
    assert NINE in card.read_text()


IDLE = {
    "--k 20": "--k 20 has no effect",
    "--epsilon 0.9 --side right": "--epsilon 0.9 and --side right have no effect",
    "--k 3 --epsilon 0.4 --side right --exact":
        "--k 3, --epsilon 0.4, --side right and --exact have no effect",
}  # fmt: skip


@pytest.mark.parametrize("words", IDLE)
def test_options_of_intruders_alone(command: Command, model: Path, words: str) -> None:
    pair = ("diff", model, model, "--layers", "0", *words.split())
    assert f"  note: {IDLE[words]} without --intruders.\n" in command(*pair).out
    done = command(*pair, "--format", "csv")
    assert done.err == f"note: {IDLE[words]} without --intruders.\n"
    assert command(*pair, "--dry-run").err == f"note: {IDLE[words]} without --intruders.\n"
    assert "no effect" not in command(*pair, "--intruders").out
    assert "no effect" not in command(*pair, "--intruders", "--dry-run").err
    several = command("diff", model, model, model, *words.split()).out
    of_all = IDLE[words].removeprefix("--k 3, ")  # k is that of the subspaces too
    assert f"  note: {of_all} without --intruders.\n" in several or words == "--k 20"
    same = ("diff", model, model, "--k", "10", "--epsilon", "0.5", "--side", "left")
    assert "note:" not in command(*same).out


def test_python_is_told_in_its_own_words(model: Path) -> None:
    summary = spectra.diff(model, model, k=20, side="right", exact=True, layers=0).summary
    told = "k=20, side='right' and exact=True have no effect without intruders=True."
    assert summary["notes"] == [told]


@pytest.mark.parametrize(
    "words", ["--energy 0.9", "--seed 3", "--dct-rank 4", "--select 50%", "--metrics basic"]
)
def test_what_a_trend_does_not_measure_is_refused(
    words: str, command: Command, model: Path
) -> None:
    option, value = words.split()
    done = command("spectrum", model, model, "--trend", option, value)
    assert (done.code, done.out) == (2, "")
    assert f"{option} '{value}': --trend follows sigma_max" in done.err


def test_more_than_there_is_of_layers_and_of_cosines(
    command: Command, minilm: Path, minilm_lora: Path
) -> None:
    told = command("shared", minilm, "--group", "9", "--rank", "8").out
    assert "note: --group 9: no stack has 9 layers that go together; the largest groups" in told
    assert "note:" not in command("shared", minilm, "--group", "2", "--rank", "8").out
    few = "--include", "*layer.0*query*", "--dct-rank"
    told = "note: --dct-rank 385: the smallest matrix has 384 columns of cosines"
    for words in (("spectrum", minilm, "--metrics", "dct"), ("diff", minilm, minilm_lora)):
        assert command(*words, *few, "385").out.count(told) == 1
        assert "note:" not in command(*words, *few, "384").out


def test_a_table_beside_an_exported_file_tells_it_alone(
    command: Command, minilm: Path, tmp_path: Path
) -> None:
    words = "spectrum", minilm, "--preset", "spectrum", "--layers", "0-1"
    done = command(*words, "--select", "50%", "--export", "names", "-o", tmp_path / "names.txt")
    assert done.out.count("note: Ranked and cut as") == 1
    assert "note:" not in done.err
    assert "selected" not in command(*words).out  # nothing was to be
    few = *words[:-1], "0", "--select", "50%", "--export", "names"
    assert "nothing is selected to export: 0 of 6 matrices" in command(*few).err
