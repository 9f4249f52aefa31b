"""A comparison finds what moved beyond its error, and nothing else."""

import copy
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import spectra
from scaled import write_attention
from spectra.errors import NothingToAnalyseError, SpectraError, UsageError
from spectra.numbers import number
from spectra.report.document import checked
from spectra.report.screens import screen_of
from spectra.report.table import render_text

Document = dict[str, Any]
ONE_LAYER = spectra.Selection(layers="1")


@pytest.fixture(scope="module")
def model(minilm: Path) -> Document:
    return spectra.spectrum(minilm, selection=ONE_LAYER).document()


@pytest.fixture(scope="module")
def chosen(minilm: Path) -> Document:
    return spectra.kappa(minilm, select=2, selection=ONE_LAYER).document()


@pytest.fixture(scope="module")
def adapters(minilm: Path, minilm_lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
    """The adapter, and one whose last layer is half as strong."""
    repaired = tmp_path_factory.mktemp("repaired") / "repaired"
    shutil.copytree(minilm_lora, repaired)
    file = repaired / "adapter_model.safetensors"
    tensors = load_file(file)
    for name in tensors:
        if "layer.5" in name and "lora_B" in name:
            tensors[name] *= 0.5
    save_file(tensors, file)
    return [spectra.diff(minilm, one, intruders=True).document() for one in (minilm_lora, repaired)]


def changed(document: Document, edit: Callable[[Document], object], place: int = 0) -> Document:
    """Return a copy of which one row is another."""
    found = copy.deepcopy(document)
    edit(found["rows"][place])
    return found


def moved(before: Document, after: Document) -> list[tuple[str, str]]:
    lines = spectra.compare(before, after).frame.to_dict("records")
    return [(line["matrix"], line["key"]) for line in lines]


def text(result: spectra.Result) -> str:
    return render_text(screen_of(result.document(), full=True))


def test_a_result_and_itself_do_not_differ(
    model: Document, chosen: Document, adapters: list[Document]
) -> None:
    for document in (model, chosen, *adapters):
        found = spectra.compare(document, document)
        assert not found.summary["changed"]
        assert found.frame.empty
        told = f"Nothing moved beyond its error in {len(document['rows'])} matrices."
        assert found.summary["reading"] == told
        assert not any(one["unknown"] for one in found.summary["quantities"])


@pytest.mark.parametrize("key", ["sigma_max", "sigma_min", "frobenius"])
@given(share=st.floats(-0.9e-4, 0.9e-4))
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_noise_below_the_error_is_no_move(model: Document, key: str, share: float) -> None:
    noisy = changed(model, lambda row: row.update({key: row[key] * (1 + share)}))
    assert moved(model, noisy) == []


@pytest.mark.parametrize(
    ("key", "share"),
    [
        ("sigma_max", 2.1e-4), ("sigma_min", 2.1e-4), ("frobenius", -2.1e-4),
        ("stable_rank", 9e-4), ("effective_rank", 5e-3), ("mp_edge", 0.02), ("alpha", 1.5),
        ("spikes", 1.0), ("energy_rank", 0.1), ("numerical_rank", -0.1), ("kappa", 1e-3),
    ],
)  # fmt: skip
def test_a_change_beyond_the_error_is_a_move(model: Document, key: str, share: float) -> None:
    def edit(row: Document) -> None:
        row[key] = type(row[key])((row[key] or 4) * (1 + share))

    other = changed(model, edit)
    name = model["rows"][0]["matrix"]
    assert (name, key) in moved(model, other)
    result = spectra.compare(model, other)
    assert result.summary["moved"] == 1
    assert f" in {name}." in result.summary["reading"]
    line = next(one for one in result.frame.to_dict("records") if one["key"] == key)
    sign = math.copysign(1, share)
    assert 0 < sign * line["beyond"] < sign * (line["after"] - line["before"])


def test_the_one_value_on_the_line_is_no_move(model: Document) -> None:
    other = copy.deepcopy(model)
    for key in ("spikes", "numerical_rank", "resolved_rank", "energy_rank"):
        other["rows"][0][key] += 1
    assert moved(model, other) == []


def test_it_mirrors(adapters: list[Document]) -> None:
    first, second = adapters
    there, back = spectra.compare(first, second), spectra.compare(second, first)
    assert len(there.frame) == len(back.frame) > 6
    for one, other in zip(
        there.frame.to_dict("records"), back.frame.to_dict("records"), strict=True
    ):
        assert (one["matrix"], one["key"], one["extent"]) == \
            (other["matrix"], other["key"], other["extent"])  # fmt: skip
        assert one["beyond"] == pytest.approx(-other["beyond"])
        assert (one["was"], one["now"]) == (other["now"], other["was"])
    for one, other in zip(there.summary["quantities"], back.summary["quantities"], strict=True):
        assert (one["key"], one["moved"], one["matrix"]) == \
            (other["key"], other["moved"], other["matrix"])  # fmt: skip


EDITS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([
            "sigma_max", "sigma_min", "frobenius", "kappa", "stable_rank", "effective_rank",
            "energy_rank", "alpha", "mp_edge", "spikes", "heavy_tail", "status", "rows",
        ]),
        st.sampled_from([None, 0, 1, 7, 1e-310, 0.5, 3.25, 1e308, True, "singular", "non-finite"]),
    ),
    max_size=8,
)  # fmt: skip
"""Whatever a file may claim that passes for a result."""


@given(first=EDITS, second=EDITS)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_whatever_a_file_claims_is_compared_or_refused_and_mirrors(
    model: Document, first: list[Any], second: list[Any]
) -> None:
    documents = []
    for edits in (first, second):
        found = copy.deepcopy(model)
        for place, key, value in edits:
            found["rows"][place][key] = value
        documents.append(found)
    try:
        there, back = spectra.compare(*documents), spectra.compare(*documents[::-1])
    except SpectraError:
        return
    assert there.summary["changed"] == back.summary["changed"]
    assert [(row.matrix, row.values["moved"]) for row in there.rows] == [
        (row.matrix, row.values["moved"]) for row in back.rows
    ]
    json.dumps(there.document(), allow_nan=False)
    assert text(there)


def test_a_repair_is_told(adapters: list[Document]) -> None:
    found = spectra.compare(*adapters)
    assert found.summary["reading"].startswith(
        "Intruder dimensions: 3 → 1. 6 of 40 matrices moved beyond their error: delta_norm in 6"
    )
    halved = found.frame[found.frame["key"] == "delta_norm"]
    assert set(halved["layer"]) == {5}
    assert halved["change"].tolist() == pytest.approx([-0.5] * 6, rel=1e-6)
    bound = found.frame[found.frame["key"] == "worst_cos"].iloc[0]
    assert bound["was"].startswith("< 0.")
    assert "intruders 2 of 40" in text(found)


def test_two_bounds_do_not_differ_unless_they_are_apart(chosen: Document) -> None:
    name = chosen["rows"][0]["matrix"]

    def outside(low: float) -> Document:
        values = {"kappa": None, "kappa_excess": None, "kappa_low": low, "kappa_high": None}
        return changed(chosen, lambda row: row.update(values, status="outside"))

    result = spectra.compare(outside(3.0), outside(900.0))
    assert (name, "kappa") not in moved(outside(3.0), outside(900.0))
    unknown = {one["key"]: one["unknown"] for one in result.summary["quantities"]}
    assert unknown["kappa"] == 1
    assert "a bound leaves open whether it moved: kappa of 1" in text(result)
    far = chosen["rows"][0]["kappa_high"] * 2
    line = spectra.compare(chosen, outside(far)).frame.set_index("key").loc["kappa"]
    assert line["now"] == f"> {number(far)}"
    assert line["beyond"] == pytest.approx(far / 2)


def test_nothing_moved_says_what_a_bound_leaves_open(chosen: Document) -> None:
    def outside(low: float) -> Document:
        values = {"kappa": None, "kappa_excess": None, "kappa_low": low, "kappa_high": None}
        return changed(chosen, lambda row: row.update(values, status="outside"))

    reading = spectra.compare(outside(3.0), outside(4.0)).summary["reading"]
    assert reading.startswith("Nothing moved beyond its error in 6 matrices; of ")
    assert "a bound alone is known, which leaves it open" in reading


def test_what_lost_its_numbers_comes_first(model: Document) -> None:
    keys = [key for key, value in model["rows"][0].items() if isinstance(value, float)]

    def sick(row: Document) -> None:
        row.update(dict.fromkeys(keys), status="non-finite", error="1 NaN, first at [0, 0]")

    other = changed(model, sick)
    other["rows"][1]["sigma_max"] *= 3
    name = model["rows"][0]["matrix"]
    result = spectra.compare(model, other)
    assert result.summary["reading"].startswith(f"1 matrix lost its numbers: {name}.")
    assert moved(model, other)[0] == (name, "status")
    assert [line for line in moved(model, other) if line[0] == name] == [(name, "status")]
    back = spectra.compare(other, model).summary["reading"]
    assert back.startswith(f"1 matrix has numbers again: {name}.")
    both = spectra.compare(other, other)
    assert "no numbers on either side: 1 matrix" in text(both)
    assert not both.summary["changed"]


def test_a_matrix_that_became_singular_is_told(model: Document) -> None:
    other = changed(model, lambda row: row.update(sigma_min=0.0, kappa=None, status="singular"))
    line = spectra.compare(model, other).frame.set_index("key").loc["kappa"]
    assert line["now"] == "singular"
    assert line["beyond"] > 0


def test_rows_that_only_one_has_are_told(model: Document) -> None:
    fewer = copy.deepcopy(model)
    gone = fewer["rows"].pop()["matrix"]
    result = spectra.compare(model, fewer)
    assert result.summary["changed"]
    assert result.summary["only_before"] == [gone]
    assert f"1 matrix is only in before: {gone}." in result.summary["reading"]
    assert moved(model, fewer) == [(gone, "only before")]
    assert moved(fewer, model) == [(gone, "only after")]


def test_values_and_quantities_that_only_one_has_are_told(model: Document) -> None:
    fewer = changed(model, lambda row: row.update(alpha=None))
    result = spectra.compare(model, fewer)
    assert result.summary["changed"]
    assert "a value before and none after: alpha of 1" in text(result)
    without = copy.deepcopy(model)
    for row in without["rows"]:
        del row["spikes"]
    assert "measured only before: spikes" in text(spectra.compare(model, without))


def test_settings_that_make_it_another_quantity_keep_it_out(
    model: Document, adapters: list[Document]
) -> None:
    other = changed(model, lambda row: row.update(energy_rank=1))
    other["settings"]["energy"] = 0.5
    result = spectra.compare(model, other)
    assert moved(model, other) == []
    assert "settings differ: energy 0.99 → 0.5; not compared: energy_rank" in text(result)
    wider = copy.deepcopy(adapters[0])
    wider["settings"]["k"] = 20
    wider["summary"]["intruders"] = 50
    found = spectra.compare(adapters[0], wider)
    assert not found.summary["changed"]
    assert "k 10 → 20; not compared: intruders, worst_cos, subspace_overlap" in text(found)


def test_other_bases_and_versions_are_told(adapters: list[Document]) -> None:
    other = copy.deepcopy(adapters[0]) | {"spectra": "9.9"}
    other["models"][0]["spec"] = "elsewhere"
    assert "the bases differ" not in text(spectra.compare(adapters[0], other))  # by no digest
    other["models"][0]["digest"] = "sample:00"
    said = text(spectra.compare(adapters[0], other))
    assert "the bases differ: " in said
    assert "versions of spectra differ: " in said


def test_digests_of_weights_tell_whether_they_are_others(model: Document) -> None:
    """Nothing may have moved because nothing changed, or in spite of a change."""
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    one["models"][0]["digest"], other["models"][0]["digest"] = "sha256:aa", "sha256:bb"
    assert "the same weights, by their digests" in text(spectra.compare(one, one))
    told = text(spectra.compare(one, other))
    assert "other weights, by their digests" in told
    assert "Nothing moved beyond its error" in told
    other["models"][0]["digest"] = "sample:aa"
    assert "digests are of two kinds" in text(spectra.compare(one, other))
    assert "others may differ" in text(spectra.compare(other, other))
    one["models"][0]["digest"] = None
    assert "digests" not in text(spectra.compare(one, other))


def test_words_are_compared_as_they_are(minilm: Path) -> None:
    model = spectra.ls(minilm, selection=ONE_LAYER).document()
    assert spectra.compare(model, model).summary["reading"] == "Nothing differs in 6 matrices."
    other = changed(model, lambda row: row.update(dtype="BF16", rows=2))
    assert {key for _, key in moved(model, other)} == {"dtype", "shape"}


def test_what_passes_through_zero_is_held_by_its_difference(tmp_path: Path) -> None:
    """A cosine of -0.001 that became 0.004 is no five times as large."""
    heads = spectra.heads(write_attention(tmp_path / "model"), compose=True).document()
    row = heads["rows"][0]
    after = changed(heads, lambda row: row.update(copying=0.004, qk_frobenius=9.0))
    row.update(copying=-0.001, qk_frobenius=8.0)
    found = spectra.compare(heads, after)
    (most,) = (row["moves"] for row in found.document()["rows"] if row["moves"])
    assert [one["key"] for one in most] == ["qk_frobenius", "copying"]
    assert most[1]["change"] is None
    assert most[1]["extent"] == pytest.approx(0.005)
    text = render_text(screen_of(found.document(), full=True))
    assert re.search(r"copying +-0\.001 +0\.004 +\+0\.005", text)
    assert " 8 heads" in str(found.summary["reading"])
    assert "kv_head" not in text  # which head it is, is no quantity

    again = copy.deepcopy(after)
    again["settings"]["fold"] = False
    told = spectra.compare(heads, again)
    assert {"copying", "qk_frobenius"} <= told.summary["left_out"].keys()
    assert not told.summary["changed"]


def test_pairs_of_heads_are_compared(tmp_path: Path) -> None:
    before = spectra.heads(write_attention(tmp_path / "model"), compose=True).document()
    after = copy.deepcopy(before)
    pairs = after["summary"]["composition"]["strongest"]
    pairs[0]["score"] *= 1.5
    pairs[1]["reader"] = pairs[1]["writer"]
    found = spectra.compare(before, after).document()
    told = found["summary"]["pairs"]
    assert (told["both"], told["only_before"], told["only_after"]) == (19, 1, 1)
    (moved_one,) = told["moved"]
    assert moved_one["after"] == 1.5 * moved_one["before"]
    text = " ".join(render_text(screen_of(checked(found, "found"))).split())
    assert f"by {moved_one['kind'].upper()}: {number(moved_one['before'])} → " in text
    assert "1 pair is among the strongest only before" in text
    assert found["summary"]["changed"]


def test_commands_are_called_as_they_are_typed(minilm_lora: Path, tmp_path: Path) -> None:
    first = spectra.lowrank.resize(minilm_lora, output=tmp_path / "a", rank=4).document()
    second = copy.deepcopy(first)
    for number_of, row in enumerate(second["rows"]):
        row["rounding"] = 0.5 * number_of  # how exact a number is, is none that moves
        row["loss_spectral_low"] = row["loss_spectral"]
    told = spectra.compare(first, second)
    assert not told.summary["changed"]
    assert render_text(screen_of(told.document())).splitlines()[2].startswith("  lowrank resize of")
    with pytest.raises(UsageError, match=r"run `spectra\.lowrank\.resize\(\.\.\.\)` on the second"):
        spectra.compare(first, second | {"command": "lowrank_merge"})


def test_findings_of_checks_are_told(minilm: Path, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    shutil.copytree(minilm, sick)
    tensors = load_file(sick / "model.safetensors")
    tensors["encoder.layer.0.attention.self.query.weight"][0, 0] = math.nan
    save_file(tensors, sick / "model.safetensors")
    rules = ("SPC001", "SPC003")
    healthy, broken = (spectra.check(one, select=rules).document() for one in (minilm, sick))
    there, back = spectra.compare(healthy, broken), spectra.compare(broken, healthy)
    assert there.summary["reading"].startswith(
        "PASS → FAIL; findings: 1 new. 1 matrix or vector lost"
    )
    assert back.summary["reading"].startswith(
        "FAIL → PASS; findings: 1 gone. 1 matrix or vector has"
    )
    assert "new: SPC001 error, encoder.layer.0.attention.self.query.weight: 1 NaN" in text(there)
    assert "stored values differ in 1 of 103 matrices and vectors" in text(there)
    assert (
        spectra.compare(broken, broken)
        .summary["reading"]
        .startswith("FAIL in both; the same findings. Nothing moved")
    )
    unasked = spectra.check(minilm, select="SPC003").document()
    unknown = spectra.compare(broken, unasked)
    assert unknown.summary["findings"][0]["became"] == "not judged"
    assert "judged only before: SPC001" in text(unknown)


def test_a_document_has_its_shape_and_reads_back(adapters: list[Document], tmp_path: Path) -> None:
    result = spectra.compare(*adapters)
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert checked(document, "compare.json") == document
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(document))
    assert spectra.load(path).frame.equals(result.frame)
    assert spectra.compare(*adapters).document() == result.document()


def test_what_cannot_be_compared_is_refused(
    model: Document, chosen: Document, minilm: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="of spectrum, after of kappa"):
        spectra.compare(model, chosen)
    alien = copy.deepcopy(model)
    for row in alien["rows"]:
        row["matrix"] = "x." + row["matrix"]
    with pytest.raises(NothingToAnalyseError, match="no matrix is in both: before has encoder"):
        spectra.compare(model, alien)
    run = copy.deepcopy(model) | {"command": "trend"}
    run["summary"] |= {"steps": [], "roles": []}
    with pytest.raises(UsageError, match="of spectrum and several models, which it"):
        spectra.compare(run, run)
    itself = spectra.compare(model, model).document()
    with pytest.raises(UsageError, match="before is of compare and two results"):
        spectra.compare(itself, itself)
    with pytest.raises(SpectraError, match=r"no\.json cannot be read"):
        spectra.compare(tmp_path / "no.json", model)
    with pytest.raises(SpectraError, match="after is no result of spectra"):
        spectra.compare(model, {"schema": "spectra/1"})


def test_files_of_one_name_are_told_apart(model: Document, tmp_path: Path) -> None:
    paths = [tmp_path / name / "spectrum.json" for name in ("v1", "v2")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(json.dumps(model))
    labels = [one.labels["model"] for one in spectra.compare(*paths).models]
    assert labels == ["v1/spectrum.json", "v2/spectrum.json"]


def test_nothing_else_is_said_beside_something_else(model: Document) -> None:
    fewer = copy.deepcopy(model)
    gone = fewer["rows"].pop()["matrix"]
    told = spectra.compare(model, fewer).summary["reading"]
    assert told.startswith("1 matrix is only in ")
    assert f"{gone}. Nothing else moved beyond its error in 5 matrices." in told
    less = changed(model, lambda row: row.update(alpha=None))
    told = spectra.compare(model, less).summary["reading"]
    assert told == (
        "Nothing moved beyond its error in 6 matrices; 1 quantity has values on one side alone."
    )


def test_of_the_stored_values_one_thing_is_said(minilm: Path) -> None:
    check = spectra.check(minilm).document()
    told = render_text(screen_of(spectra.compare(check, check).document(), full=True))
    assert "stored values differ in 0 of 103 matrices and vectors" in told
    assert "digests" not in told
