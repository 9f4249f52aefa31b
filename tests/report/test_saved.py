"""A saved result comes back whole, and what is none is refused in one line."""

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import spectra
from report.html import documents
from spectra.report import saved
from spectra.report.card import card
from spectra.report.document import SavedError, checked
from spectra.report.formats import frame_of, to_text, write_result
from spectra.report.html import Source, render_page
from spectra.report.saved import intact, read_saved

Change = Callable[[Any], object]


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("name", documents.EVERY | documents.SERIES)
def test_a_result_comes_back_whole(name: str, tmp_path: Path) -> None:
    document = (documents.EVERY | documents.SERIES)[name]()
    found = read_saved(write(tmp_path / "r.json", document))
    assert found.document == document
    assert json.loads(to_text(found.document, "json")) == document


def test_saved_and_live_results_are_written_alike(minilm: Path, minilm_lora: Path) -> None:
    live = spectra.diff(
        minilm, minilm_lora, intruders=True, selection=spectra.Selection(layers="5")
    )
    back = checked(json.loads(json.dumps(live.document())), "r.json")
    for form in ("json", "jsonl", "csv", "markdown", "table"):
        assert to_text(back, form) == to_text(live.document(), form)
    assert render_page([Source(back, "r.json")]) == (
        render_page([Source(live.document(), "r.json")])
    )
    pd.testing.assert_frame_equal(frame_of(back), live.frame)


def test_what_was_decoded_is_named_again() -> None:
    document = documents.spectrum(1)
    document["rows"][1] |= {"dtype": "U8", "codec": "bitsandbytes-nf4"}
    document["models"][0]["codecs"] = {"bitsandbytes-nf4": 1}
    assert "bitsandbytes-nf4" in to_text(checked(document, "r.json"), "table")


REFUSED: dict[str, tuple[Change, str]] = {
    "another schema": (lambda d: d.update(schema="spectra/9"), "schema is 'spectra/9'"),
    "no schema": (lambda d: d.pop("schema"), "schema is missing"),
    "an estimate": (lambda d: d.update(dry_run={}), "it|estimate of --dry-run"),
    "no command": (lambda d: d.pop("command"), "command is missing"),
    "a command that is none": (lambda d: d.update(command=3), "command is 3"),
    "no rows": (lambda d: d.pop("rows"), "rows is missing"),
    "rows that are none": (lambda d: d.update(rows={"a": 1}), "rows is an object"),
    "a row that is none": (lambda d: d["rows"].append(7), r"rows\[29\] is 7"),
    "no matrix": (lambda d: d["rows"][2].pop("matrix"), r"rows\[2\]\.matrix is missing"),
    "a role of numbers": (lambda d: d["rows"][0].update(role=1), r"rows\[0\]\.role is 1"),
    "a layer of text": (lambda d: d["rows"][0].update(layer="x"), r"layer is 'x'"),
    "a layer below 0": (lambda d: d["rows"][0].update(layer=-1), r"layer is -1"),
    "a layer that is true": (lambda d: d["rows"][0].update(layer=True), r"layer is True"),
    "an endless layer": (lambda d: d["rows"][0].update(layer=10**30), "layer is 10"),
    "a side of text": (lambda d: d["rows"][0].update(rows="9"), r"rows\[0\]\.rows is '9'"),
    "a status that is none": (lambda d: d["rows"][0].update(status="?"), "one of ok, singular"),
    "kappa of text": (lambda d: d["rows"][0].update(kappa="1e4"), r"kappa is '1e4'"),
    "kappa of a list": (lambda d: d["rows"][0].update(kappa=[1]), r"kappa is a list"),
    "kappa too large": (lambda d: d["rows"][0].update(kappa=10**400), r"kappa is 1000"),
    "a number to come that is too large": (
        lambda d: d["rows"][0].update(to_come=10**400), r"rows\[0\]\.to_come is 1000"
    ),
    "a flag of text": (lambda d: d["rows"][0].update(selected="no"), "expected true or false"),
    "a profile of text": (lambda d: d["rows"][0].update(sigma_profile=["a"]), "is 'a'"),
    "a profile of flags": (lambda d: d["rows"][0].update(sigma_profile=[True]), "is True"),
    "vectors that are none": (lambda d: d["rows"][0].update(intruder_detail=[1]), "is 1"),
    "a vector without index": (
        lambda d: d["rows"][0].update(intruder_detail=[{"max_cos": 0.1}]), "index is missing"
    ),
    "no models": (lambda d: d.update(models=None), "models is missing"),
    "a model without spec": (lambda d: d["models"][0].pop("spec"), r"models\[0\]\.spec"),
    "skips that are none": (lambda d: d.update(skipped=[{"tensor": 1}]), r"skipped\[0\]\.tensor"),
    "no summary": (lambda d: d.pop("summary"), "summary is missing"),
    "no reading": (lambda d: d["summary"].pop("reading"), r"summary\.reading is missing"),
    "a check without findings": (lambda d: d["summary"].pop("findings"), "findings is missing"),
    "a severity that is none": (
        lambda d: d["summary"]["findings"][0].update(severity="<b>"), "severity is '<b>'"
    ),
    "a message of numbers": (
        lambda d: d["summary"]["findings"][0].update(message=3), r"findings\[0\]\.message is 3"
    ),
    "a rule without code": (lambda d: d["summary"]["rules"][0].pop("code"), "code is missing"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_result_is_refused_by_its_place(what: str, tmp_path: Path) -> None:
    change, told = REFUSED[what]
    document = documents.check()
    change(document)
    with pytest.raises(SavedError, match=told) as refused:
        read_saved(write(tmp_path / "r.json", document))
    text = str(refused.value)
    assert text.startswith(f"{tmp_path / 'r.json'} is no result of spectra that can be shown: ")
    assert "\n" not in text
    assert len(text) < 600


BYTES = {
    "empty": (b"", "is not JSON"),
    "text": (b"hello", "is not JSON"),
    "not UTF-8": (b'{"schema": "\xff"}', "is not JSON"),
    "NaN": (b'{"schema": NaN}', "NaN is no JSON"),
    "infinity": (b'{"schema": -Infinity}', "Infinity is no JSON"),
    "beyond doubles": (b'{"schema": 1e999}', "no number that a double holds"),
    "many digits": (b'{"schema": ' + b"9" * 5000 + b"}", "is not JSON"),
    "deep": (b"[" * 200_000, "nested too deep|is not JSON"),
    "a list": (b"[]", "the whole is a list"),
    "null": (b"null", "the whole is missing"),
}


@pytest.mark.parametrize("what", BYTES)
def test_what_is_no_json_is_refused(what: str, tmp_path: Path) -> None:
    raw, told = BYTES[what]
    path = tmp_path / "r.json"
    path.write_bytes(raw)
    with pytest.raises(SavedError, match=told) as refused:
        read_saved(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SavedError, match="cannot be read: No such file"):
        read_saved(tmp_path / "none.json")
    with pytest.raises(SavedError, match="is a folder"):
        read_saved(tmp_path)


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "r.json", documents.spectrum(1))
    monkeypatch.setattr(saved, "MAX_BYTES", 1000)
    with pytest.raises(SavedError, match="expected at most 1,000"):
        read_saved(path)


SPARE = tuple(make(1) for make in (documents.EVERY | documents.SERIES).values())
JUNK = st.sampled_from([None, True, -1, 0, 2.5, "", "<img>", [], {}, [1], {"a": 1}, 1e300, 10**25])


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    found = [path] if path else []
    if isinstance(node, dict):
        for key, inner in node.items():
            found += places(inner, (*path, key))
    elif isinstance(node, list):
        for index, inner in enumerate(node[:3]):
            found += places(inner, (*path, index))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@given(data=st.data())
def test_a_damaged_result_is_shown_or_refused_but_never_a_crash(
    folder: Path, data: st.DataObject
) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(SPARE), label="result"))
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from(places(document)), label="place")
        node: Any = document
        for step in path:
            node = node[step]
        if data.draw(st.booleans()) and isinstance(node, dict):
            del node[last]
        else:
            node[last] = data.draw(JUNK, label="junk")
    try:
        found = checked(document, "r.json")
    except SavedError:
        return
    render_page([Source(found, "r.json")])
    card([found])
    for form in ("json", "csv", "jsonl"):
        to_text(found, form)
    for name in ("r.md", "r.txt", "r.parquet"):
        with contextlib.suppress(SavedError), intact(Path("r.json")):
            write_result(found, folder / name)


def test_what_a_writer_misses_is_one_line(tmp_path: Path) -> None:
    document = documents.diff(1)
    del document["rows"][0]["intruder_detail"][0]["decided_by"]
    path = Path("r.json")
    told = r"^r\.json is damaged \(KeyError: .*decided_by.*\)\. Write it again with \.save\('FILE"
    with pytest.raises(SavedError, match=told), intact(path):
        write_result(checked(document, "r.json"), tmp_path / "r.txt")
