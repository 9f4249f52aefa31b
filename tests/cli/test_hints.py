"""What is not made here is told where it is made; damaged files say so in our words."""

import contextlib
import shutil
from pathlib import Path

import pytest
from spectra_cli.main import run

from .conftest import Command, llama_like


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two results of it, and three files that were one."""
    folder = tmp_path_factory.mktemp("hints")
    llama_like(folder / "model")
    with contextlib.chdir(folder):
        assert run(["kappa", "model", "-o", "k.json", "-q"]) == 0
        assert run(["check", "model", "-o", "c.json", "-q"]) == 0
    whole = (folder / "c.json").read_bytes()
    (folder / "cut.json").write_bytes(whole[:900])
    (folder / "empty.json").write_bytes(b"")
    (folder / "wrong.json").write_bytes(b'{"schema": "spectra/1", nope}')
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in a folder of the test's own, where it stands."""
    shutil.copytree(made, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


PAGE = "A page is made of a saved result: -o x.json, then spectra report x.json -o x.html."
HINTS = {
    "compare k.json k.json -o x.html": PAGE,
    "compare k.json k.json -o x.pdf": "printed from the browser: -o x.json, then spectra report",
    "compare k.json k.json -o x.png": "Pictures are drawn with --plot x.png.",
    "check model -o x.html": PAGE,
    "check model -o x.svg": "A check is drawn on its page: -o x.json, then spectra report x.json",
    "report k.json -o x.pdf": "A page can be printed from the browser: -o x.html.",
    "report k.json -o x.png": "drawn with --plot x.png; a page has pictures too: -o x.html.",
    "report c.json -o x.png": "A check is drawn on its page: -o x.html.",
    "report k.json -o x.htlm": "Did you mean '.html'?",
    "report k.json -o x.cvs": "Did you mean '.csv'?",
    "report c.json --base model": "c.json is a saved result, and --base asks for a page of a model",
    "report c.json model": "c.json is a saved result, and model is read as a model",
    "report c.json --device cpu": "--device cpu is of a model that is measured now",
    "report model model": "Of a model and its base: spectra report model --base model.",
    "check model model": "One model is checked; what it was trained from is --base",
    "kappa model model": "Two models are compared by `spectra diff BASE TUNED`.",
    "check model --policy no.toml": "to write one: spectra check MODEL --init --policy no.toml.",
    "report empty.json": "empty.json is not JSON: it is empty. Expected a file that another",
    "report cut.json": "cut.json is not JSON: it ends in the middle, after 900 characters",
    "report wrong.json": "wrong.json is not JSON: line 1 is wrong at column 25. Expected",
    "compare k.json cut.json": "cut.json is not JSON: it ends in the middle",
    "check model --baseline empty.json": "is empty. Expected a file that another command wrote "
    "with --save-baseline empty.json.",
    "check model --baseline cut.json": "baseline cut.json is not JSON: it ends in the middle",
}


@pytest.mark.parametrize("words", HINTS)
def test_a_hint_leads_on(command: Command, results: Path, words: str) -> None:
    before = sorted(results.iterdir())
    done = command(*words.split())
    assert (done.code, done.out) == (2, "")
    assert HINTS[words] in done.err
    assert len(done.err.splitlines()) == 1
    assert "Did you mean" not in done.err or "Did you mean" in HINTS[words]
    for theirs in ("Expecting", "Error", "char "):
        assert theirs not in done.err
    assert sorted(results.iterdir()) == before
