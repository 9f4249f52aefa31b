"""Spectra in the words of other tools, against what these tell of the same model."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch

import spectra
from analyzers.subjects import matrix_of, row_of
from examples import write_model
from spectra.analyzers import Spectrum
from spectra.analyzers.layer_types import count_of, type_of
from spectra.errors import UsageError

PEERS = Path(__file__).parent.parent / "data" / "peers"
LAYERS = spectra.Selection(layers="0-5")


@pytest.fixture(scope="module")
def watched() -> dict[str, dict[str, str]]:
    """WeightWatcher's line of each matrix."""
    with (PEERS / "weightwatcher.csv").open() as file:
        return {line["longname"]: line for line in csv.DictReader(file)}


def test_the_columns_of_weight_watcher_hold_what_it_tells(
    minilm: Path, watched: dict[str, dict[str, str]]
) -> None:
    """Every column of every matrix to a millionth, and the averages over the same matrices."""
    result = spectra.spectrum(minilm, preset="weightwatcher", selection=LAYERS, cache=False)
    frame = result.frame
    theirs = [watched[name] for name in frame["longname"]]
    assert len(frame) == 36
    assert [*frame.columns] == [*theirs[0]]
    for column in frame.columns:
        for ours, line in zip(frame[column], theirs, strict=True):
            told = line[column]
            if column in ("name", "longname", "layer_type", "status", "warning", "has_esd"):
                assert str(ours) == told, column
            elif column not in ("layer_id", "weak_rank_loss"):
                rel = 2e-5 if column == "sv_min" else 1e-6  # of values near 0
                assert float(ours) == pytest.approx(float(told), rel=rel), (column, line["name"])
    averages = result.summary["weightwatcher"]
    assert isinstance(averages, dict)
    for key, found in averages.items():
        mean = sum(float(line[key]) for line in theirs) / 36
        assert found == pytest.approx(mean, rel=1e-6), key
    assert "but: a failed fit is empty" in str(result.summary["notes"])


def test_what_is_asked_for_besides_has_its_names_too(generator: torch.Generator) -> None:
    analyzer = Spectrum(metrics="all", preset="weightwatcher")
    weights = [torch.randn(40, 20, generator=generator), torch.zeros(30, 20), torch.eye(30)]
    rows = [row_of(analyzer, matrix_of(one, f"h.{at}.q_proj.weight"))
            for at, one in enumerate(weights)]  # fmt: skip
    told, summary = analyzer.conclude(rows)
    full, zero, equal = (row.values["weightwatcher"] for row in told)
    assert isinstance(full, dict)
    assert isinstance(zero, dict)
    assert isinstance(equal, dict)
    assert (full["num_spikes"], full["num_traps"]) == (0, 0)
    assert full["max_rand_eval"] == pytest.approx(full["lambda_max"] - full["ww_maxdist"])
    assert [one["status"] for one in (full, zero, equal)] == ["success", "failed", "failed"]
    assert zero["alpha"] is equal["alpha"] is None
    lost = ("num_evals", "rank_loss", "weak_rank_loss", "matrix_rank", "sv_max")
    assert [zero[key] for key in lost] == [20, 20, 20, 0, 0.0]
    averages = summary["weightwatcher"]
    assert isinstance(averages, dict)
    assert averages["alpha"] == full["alpha"]  # -1 and NaN enter no mean


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_logarithms_and_shares_are_told_where_squares_leave_the_range(scale: float) -> None:
    matrix = torch.randn(40, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    analyzer = Spectrum(metrics="all", preset="weightwatcher")
    given = {"plain": matrix, "scaled": scale * matrix, "single": matrix[:1]}
    rows = [row_of(analyzer, matrix_of(one, name)) for name, one in given.items()]
    plain, scaled, single = (row.values["weightwatcher"] for row in analyzer.conclude(rows)[0])
    assert isinstance(plain, dict)
    assert isinstance(scaled, dict)
    assert isinstance(single, dict)
    for key in ("stable_rank", "entropy", "matrix_rank", "mp_softrank", "ww_softrank", "D"):
        assert scaled[key] == pytest.approx(plain[key]), key
    for key in ("log_norm", "log_spectral_norm"):
        assert scaled[key] - plain[key] == pytest.approx(2.0 * math.log10(scale)), key
    assert single["entropy"] is None  # of one value


def test_a_product_counts_as_its_dense_twin(tmp_path: Path) -> None:
    """All values of the shorter side, those too that factors leave no room for."""
    source = torch.Generator().manual_seed(4)
    left, right = torch.randn(40, 12, generator=source), torch.randn(12, 50, generator=source)
    stem = "model.layers.0.self_attn.q"
    factored = write_model(
        tmp_path / "f", {f"{stem}_u_proj.weight": left, f"{stem}_v_proj.weight": right}, "{}"
    )
    (row,) = spectra.spectrum(factored, preset="weightwatcher").rows
    found = row.values["weightwatcher"]
    values = torch.linalg.svdvals(left.double() @ right.double()).square()
    share = values / values.sum() + 1e-10
    assert isinstance(found, dict)
    assert (found["num_evals"], found["matrix_rank"], found["rank_loss"]) == (40, 12, 28)
    assert (found["weak_rank_loss"], found["sv_min"]) == (28, 0.0)
    assert found["norm"] == pytest.approx(float(values.sum()))
    entropy = -float((share * share.log()).sum()) / math.log(12 + 1e-10)
    assert found["entropy"] == pytest.approx(entropy)


def test_the_snr_is_spectrums_and_so_is_its_choice(minilm: Path) -> None:
    """But for one type that its script takes for another, whose name ends with it."""
    found = json.loads((PEERS / "spectrum.json").read_text())
    lines = (PEERS / "unfrozen.yaml").read_text().splitlines()
    theirs = {line[2:] for line in lines if line.startswith("- encoder")}
    result = spectra.spectrum(
        minilm, preset="spectrum", select="50%", selection=LAYERS, cache=False
    )
    for row in result.rows:
        expected = found[row.matrix.removesuffix(".weight")]["snr"]
        assert row.number("snr") == pytest.approx(expected, rel=2e-6)
    ours = {name.removesuffix(".weight") for name in result.summary["selected"]}
    assert {one for one in ours if "output" not in one} == {
        one for one in theirs if "output" not in one
    }
    types = [type_of(name) for name in result.summary["selected"]]
    assert {types.count(one) for one in types} == {3}
    text = result.export("axolotl").text
    assert '  - "^encoder.layer.5.attention.self.key.weight$"' in text


@pytest.mark.parametrize(
    ("name", "found"),
    [("model.layers.3.self_attn.q_proj.weight", "self_attn.q_proj"), ("lm_head.weight", "lm_head"),
     ("h.0.mlp.experts.2.up.weight", "mlp.experts.2.up")],
)  # fmt: skip
def test_a_type_is_the_modules_name_after_its_layer(name: str, found: str) -> None:
    assert type_of(name) == found


@pytest.mark.parametrize(("select", "total", "count"), [("50%", 7, 3), ("10%", 7, 0), ("2", 7, 2)])
def test_a_share_of_a_type_is_rounded_down(select: str, total: int, count: int) -> None:
    assert count_of(select, total) == count


def test_embeddings_heads_and_single_rows_are_none_of_a_type(tmp_path: Path) -> None:
    noise = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    single, other = noise[:1].clone(), noise + noise[:, :1] @ noise[:1]
    tensors = {
        "model.embed_tokens.weight": 2.0 * noise, "lm_head.weight": 3.0 * noise,
        "a.0.gate.weight": single, "a.0.q_proj.weight": noise, "a.1.q_proj.weight": other,
    }  # fmt: skip
    model = write_model(tmp_path, tensors)
    result = spectra.spectrum(model, preset="spectrum", select=2, cache=False)
    assert set(result.summary["selected"]) == {"a.0.q_proj.weight", "a.1.q_proj.weight"}
    few = spectra.spectrum(model, preset="spectrum", select="40%", cache=False)
    reading = str(few.summary["reading"])
    assert "40% of each of 1 type" in reading
    assert "Of 1 type nothing: it has too few matrices for 40%, rounded down." in reading


@pytest.mark.parametrize(
    ("given", "told"),
    [({"select": "50%"}, "takes --preset spectrum"),
     ({"preset": "weightwatcher", "select": "3"}, "takes --preset spectrum"),
     ({"preset": "spectrum", "select": "0.5"}, "Did you mean --select 50%"),
     ({"preset": "watcher"}, "Expected one of weightwatcher, spectrum")],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(given: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Spectrum(**given)  # type: ignore[arg-type]
