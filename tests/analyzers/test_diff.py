"""Every key of `diff` against its definition, on updates whose kind is known."""

import math

import numpy as np
import pytest
import torch
from scipy import fft
from torch import Tensor

from analyzers.subjects import QUERY, matrix_of, pair_of, row_of, view_of
from examples import with_spectrum
from spectra.analyzers import Diff, Row
from spectra.analyzers.row import Value
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.noise import chance_cosine
from spectra.matrices import LowRank

Updates = dict[str, tuple[Tensor, Tensor]]


def normal(rows: int, cols: int, seed: int = 0, scale: float = 0.02) -> Tensor:
    return scale * torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def planted(rows: int, cols: int, sigma: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
    """An update of low rank."""
    source = torch.Generator().manual_seed(7)
    return with_spectrum(torch.tensor(sigma), rows, cols, source).to(dtype)


def found(
    base: Tensor, tuned: Tensor | LowRank | None, diff: Diff | None = None
) -> dict[str, Value]:
    return dict((diff or Diff()).measure(pair_of(base, tuned)).values)


def number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)


def detail(values: dict[str, Value]) -> list[dict[str, Value]]:
    listed = values["intruder_detail"]
    assert isinstance(listed, list)
    return [dict(item) for item in listed]


def naive(base: Tensor, delta: Tensor, energy: float = 0.99) -> dict[str, float]:
    """The definitions of D's keys, in float64."""
    d = delta.double()
    s = torch.linalg.svdvals(d)
    p = s / s.sum()
    share = s.square().cumsum(0) / s.square().sum()
    return {
        "delta_norm": float(d.norm()),
        "delta_relative": float(d.norm() / base.double().norm()),
        "delta_sigma_max": float(s[0]),
        "delta_stable_rank": float(d.norm() ** 2 / s[0] ** 2),
        "delta_effective_rank": float(torch.special.entr(p).sum().exp()),
        "delta_energy_rank": int((share < energy).sum()) + 1,
    }


def agree(values: dict[str, Value], expected: dict[str, float], rel: float = 1e-4) -> None:
    for key, value in expected.items():
        assert values[key] == pytest.approx(value, rel=rel), key


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50), (1, 7), (7, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("energy", [0.5, 0.99])
def test_random_updates(shape: tuple[int, int], energy: float) -> None:
    base, delta = normal(*shape, 1), normal(*shape, 2, scale=0.01)
    tuned = base + delta
    values = found(base, tuned, Diff(energy=energy))
    assert tuple(values) == Diff.DELTA_KEYS + Diff.EVIDENCE_KEYS
    agree(values, naive(base, tuned.double() - base.double(), energy))
    assert values["delta_rank"] == min(shape)


def test_real_updates_dense_and_as_factors(real: dict[str, Tensor], updates: Updates) -> None:
    for name, (left, right) in updates.items():
        base = real[name]
        tuned = base + left @ right
        dense, factors = found(base, tuned), found(base, LowRank(left, right))
        expected = naive(base, left.double() @ right.double())
        agree(factors, expected, rel=1e-5)
        # What float32 rounds off in the merged weights spreads over all directions.
        agree(dense, {"delta_effective_rank": expected.pop("delta_effective_rank")}, rel=2e-4)
        agree(dense, expected)
        assert dense["delta_rank"] == factors["delta_rank"] == 8, name


@pytest.mark.parametrize("side", ["left", "right"])
def test_real_intruders(side: str, real: dict[str, Tensor], updates: Updates) -> None:
    diff = Diff(intruders=True, side="left" if side == "left" else "right")
    for name in (QUERY, "encoder.layer.1.intermediate.dense.weight"):
        base, (left, right) = real[name], updates[name]
        tuned = base + left @ right
        dense, factors = found(base, tuned, diff), found(base, LowRank(left, right), diff)
        assert tuple(dense) == tuple(factors) == Diff.keys
        svds = [torch.linalg.svd(w.double(), full_matrices=False) for w in (base, tuned)]
        before, after = (s.U if side == "left" else s.Vh.mT for s in svds)
        cosines = (before.mT @ after[:, :10]).abs()
        sigma = svds[1].S
        for values in (dense, factors):
            listed = detail(values)
            assert [item["index"] for item in listed] == list(range(10))
            assert [item["best_match"] for item in listed] == cosines.argmax(dim=0).tolist()
            for item, cosine, value in zip(listed, cosines.amax(dim=0), sigma, strict=False):
                error = number(item["max_cos_error"])
                assert 0.0 <= error < 1e-3
                assert item["max_cos"] == pytest.approx(float(cosine), abs=1e-4)
                assert abs(number(item["max_cos"]) - float(cosine)) <= error + 1e-6
                assert item["decided_by"] == "match"
                assert item["intruder"] is (float(cosine) < 0.5)
                assert item["sigma"] == pytest.approx(float(value), rel=1e-5)
                energy = float(value**2 / sigma.square().sum())
                assert item["energy"] == pytest.approx(energy, rel=1e-5)
                assert item["tied"] is False
            assert values["intruders"] == int((cosines.amax(dim=0) < 0.5).sum())
            assert values["certified"] is True
            overlap = float(cosines[:10].square().sum()) / 10
            assert values["subspace_overlap"] == pytest.approx(overlap, abs=1e-5)
            size = base.shape[0] if side == "left" else base.shape[1]
            assert values["null_cos"] == chance_cosine(size, min(base.shape))


@pytest.mark.parametrize("shape", [(60, 60), (60, 90), (90, 60), (0, 0)], ids=str)
@pytest.mark.parametrize("exact", [False, True])
def test_both_sides_in_one_run_are_those_of_two(
    shape: tuple[int, int], exact: bool, real: dict[str, Tensor], updates: Updates
) -> None:
    name = "encoder.layer.1.intermediate.dense.weight"
    base: Tensor = real[name]
    tuned: Tensor | LowRank = LowRank(*updates[name])
    if shape != (0, 0):
        base = normal(*shape, 3)
        tuned = base + planted(*shape, [5.0]) + normal(*shape, 4, 0.002)
    left, right, both = (
        found(base, tuned, Diff(intruders=True, k=4, side=side, exact=exact))
        for side in ("left", "right", "both")
    )
    assert set(both) - set(left) == {f"{key}_right" for key in (
        "intruders", "null_cos", "subspace_overlap", "overlap_status", "intruder_detail",
    )}  # fmt: skip
    for alone, end in ((left, ""), (right, "_right")):
        for key in ("intruders", "null_cos", "overlap_status"):
            assert both[key + end] == alone[key], key
        assert both[f"subspace_overlap{end}"] == pytest.approx(alone["subspace_overlap"], abs=1e-9)
        listed = both[f"intruder_detail{end}"]
        assert isinstance(listed, list)
        for one, other in zip(listed, detail(alone), strict=True):
            assert one["intruder"] is other["intruder"]
            assert one["best_match"] == other["best_match"]
            assert one["max_cos"] == pytest.approx(other["max_cos"], abs=1e-9)
    rows = [row_of(Diff(intruders=True, side="both"), pair_of(base, tuned, name))]
    told, summary = reading(rows, Diff(intruders=True, side="both")), rows[0].values
    assert f"{summary['intruders']} intruder dimension" in told
    assert " by outputs in " in told
    assert " by inputs in " in told
    same = found(base, None, Diff(intruders=True, side="both"))
    assert tuple(same) == tuple(both)


@pytest.mark.parametrize("kind", ["dense", "factors"])
def test_exact_is_the_reference_and_agrees(kind: str) -> None:
    base, update = normal(80, 60, 3), planted(80, 60, [5.0, 4.0])
    left, sigma, right = torch.linalg.svd(update.double(), full_matrices=False)
    factors = LowRank((left[:, :2] * sigma[:2]).float(), right[:2].float())
    tuned = base + update if kind == "dense" else factors
    proven = found(base, tuned, Diff(intruders=True, k=2))
    exact = found(base, tuned, Diff(intruders=True, k=2, exact=True))
    assert [item["decided_by"] for item in detail(exact)] == ["exact"] * 2
    assert [item["max_cos_error"] for item in detail(exact)] == [0.0] * 2
    assert [item["decided_by"] for item in detail(proven)] == ["bound"] * 2
    for bound, reference in zip(detail(proven), detail(exact), strict=True):
        assert bound["intruder"] is reference["intruder"] is True
        assert number(reference["max_cos"]) <= number(bound["max_cos"]) < 0.5
        assert bound["max_cos_error"] == 0.0
    assert proven["intruders"] == exact["intruders"] == 2
    agree(proven, {"subspace_overlap": number(exact["subspace_overlap"])}, rel=1e-6)


@pytest.mark.parametrize("shape", [(60, 60), (60, 90), (90, 60)], ids=str)
def test_a_planted_direction_is_an_intruder(shape: tuple[int, int]) -> None:
    base = normal(*shape, 3)
    update = planted(*shape, [5.0])
    values = found(base, base + update, Diff(intruders=True, k=3))
    assert values["intruders"] == 1
    assert [item["intruder"] for item in detail(values)] == [True, False, False]
    assert number(detail(values)[0]["max_cos"]) < 0.5
    assert detail(values)[0]["best_match"] is not None
    assert found(base, base + update, Diff(intruders=True, epsilon=0.01))["intruders"] == 0


def test_a_base_of_zeros() -> None:
    values = found(torch.zeros(30, 20), normal(30, 20), Diff(intruders=True, k=4))
    assert values["delta_relative"] is None
    assert values["delta_rank"] == 20
    assert detail(values) == []  # it has no direction to resemble, nor not to
    assert values["intruders"] == values["vectors_judged"] == 0


def test_a_tuned_matrix_of_zeros() -> None:
    base = normal(30, 20)
    values = found(base, torch.zeros(30, 20), Diff(intruders=True))
    agree(values, naive(base, -base))
    assert values["delta_relative"] == pytest.approx(1.0)
    assert values["intruders"] == 0
    assert detail(values) == []


UNCHANGED = {
    "delta_norm": 0.0, "delta_relative": 0.0, "delta_sigma_max": 0.0, "delta_stable_rank": 0.0,
    "delta_effective_rank": 0.0, "delta_energy_rank": 0, "delta_spectrum_status": "ok",
    "delta_rank": 0, "delta_rank_status": "ok",
    "delta_kind": "unchanged", "delta_grid": None, "delta_moved": 0, "delta_rows": 0,
    "delta_cols": 0, "delta_note": None,
}  # fmt: skip


@pytest.mark.parametrize("tuned", ["none", "equal", "zero factor", "widened"])
def test_what_did_not_change(tuned: str) -> None:
    base = normal(20, 30).bfloat16().float()
    if tuned == "widened":
        base = base.bfloat16()
    other = {
        "none": None,
        "equal": base.clone(),
        "zero factor": LowRank(torch.zeros(20, 4), normal(4, 30)),
        "widened": base.float(),
    }[tuned]
    assert found(base, other) == UNCHANGED
    values = found(base, other, Diff(intruders=True, k=5))
    assert tuple(values) == Diff.keys
    assert values["intruders"] == 0
    assert values["certified"] is True
    assert values["subspace_overlap"] == pytest.approx(1.0)
    assert values["null_cos"] == chance_cosine(20, 20)


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("before", DTYPES, ids=str)
@pytest.mark.parametrize("after", DTYPES, ids=str)
def test_every_mix_of_stored_dtypes(before: torch.dtype, after: torch.dtype) -> None:
    base = normal(60, 80, 4).to(before)
    tuned = (base.double() + planted(60, 80, [2.0, 1.5, 1.0], torch.float64)).to(after)
    values = found(base, tuned, Diff(intruders=True, k=3))
    agree(values, naive(base, tuned.double() - base.double()))
    assert values["delta_rank"] == 3
    assert values["intruders"] == 3


def test_a_difference_below_the_narrower_dtype_is_a_change() -> None:
    base = torch.ones(4, 5).bfloat16()
    tuned = torch.full((4, 5), 1.0 + 2**-20)
    assert number(found(base, tuned)["delta_norm"]) == pytest.approx(math.sqrt(20) * 2**-20)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_a_merged_adapter_is_found_under_rounding(dtype: torch.dtype, rank: int) -> None:
    base = normal(200, 300, 5).to(dtype)
    update = planted(200, 300, [3.0 - 0.25 * i for i in range(rank)])
    tuned = (base.float() + update).to(dtype)
    assert torch.linalg.matrix_rank(tuned.float() - base.float()) > 5 * rank
    assert found(base, tuned)["delta_rank"] == rank


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_storing_alone_has_rank_zero(dtype: torch.dtype) -> None:
    base = normal(200, 300, 6)
    values = found(base, base.to(dtype))
    assert values["delta_rank"] == 0
    assert number(values["delta_norm"]) > 0
    tiny = base * 1e-4  # where float16 has no full precision left
    assert found(tiny, tiny.to(dtype))["delta_rank"] == 0


def test_real_matrices_stored_in_bfloat16_have_rank_zero(real: dict[str, Tensor]) -> None:
    for name, matrix in real.items():
        if "layer.4." in name:
            assert found(matrix, matrix.bfloat16())["delta_rank"] == 0


def test_a_real_adapter_merged_into_a_bfloat16_copy(
    real: dict[str, Tensor], updates: Updates
) -> None:
    """Rounding hides directions of the update; it never adds any."""
    ranks = []
    for name, (left, right) in list(updates.items())[:12]:
        base = real[name].bfloat16()
        tuned = (base.float() + left @ right).bfloat16()
        values = found(base, tuned)
        agree(values, {"delta_norm": float((left @ right).norm())}, rel=0.1)
        ranks.append(int(number(values["delta_rank"])))
    assert max(ranks) <= 8
    assert min(ranks) >= 1


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [
        (1e20, torch.float32),
        (1e-25, torch.float32),
        (1e200, torch.float64),
        (1e-200, torch.float64),
    ],
)
def test_extreme_scales(factor: float, dtype: torch.dtype) -> None:
    base, update = normal(60, 50).to(dtype), planted(60, 50, [2.0, 1.0], dtype)
    plain = found(base, base + update, Diff(intruders=True))
    scaled = found(base * factor, (base + update) * factor, Diff(intruders=True))
    for key in ("delta_relative", "delta_stable_rank", "subspace_overlap"):
        assert scaled[key] == pytest.approx(plain[key], rel=1e-4), key
    assert (scaled["delta_rank"], scaled["intruders"]) == (plain["delta_rank"], 2) == (2, 2)


BAD = normal(4, 3).index_put((torch.tensor([2]), torch.tensor([1])), torch.tensor(math.nan))


@pytest.mark.parametrize(
    ("base", "tuned", "part"),
    [
        (BAD, normal(4, 3), "base"),
        (BAD, None, "base"),
        (BAD, BAD, "base"),
        (normal(4, 3), BAD, "tuned"),
        (normal(4, 3), LowRank(BAD, normal(3, 3)), "factor B"),
        (normal(4, 3), LowRank(normal(4, 4), BAD), "factor A"),
    ],
)
@pytest.mark.parametrize("intruders", [False, True])
def test_what_is_not_finite_is_an_error_that_says_which_part(
    base: Tensor, tuned: Tensor | LowRank | None, part: str, intruders: bool
) -> None:
    with pytest.raises(NonFiniteError) as caught:
        found(base, tuned, Diff(intruders=intruders))
    assert str(caught.value) == f"{part}: 1 NaN, the first at [2, 1]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, r"--k 0 is too small. Expected at least 1"),
        ({"k": -1}, r"--k -1 is too small"),
        ({"epsilon": 0.0}, r"--epsilon 0.0 is no cosine. Expected above 0 and below 1"),
        ({"epsilon": 1.0}, "no cosine"),
        ({"epsilon": math.nan}, "no cosine"),
        ({"energy": 0.0}, "no share"),
        ({"energy": math.nan}, "no share"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant_are_refused(
    settings: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Diff(**settings)  # type: ignore[arg-type]


def lora_rows(diff: Diff, ranks: dict[str, int], side: int = 40) -> list[Row]:
    """One row per name, changed by an update of that rank; 0: unchanged."""
    rows = []
    for seed, (name, rank) in enumerate(ranks.items()):
        base = normal(side, side, seed)
        factors = LowRank(normal(side, rank, 50 + seed, 1.0), normal(rank, side, 90 + seed, 1.0))
        rows.append(row_of(diff, pair_of(base, factors if rank else None, name)))
    return rows


def names(kind: str, layers: int) -> list[str]:
    return [f"encoder.layer.{layer}.{kind}.weight" for layer in range(layers)]


def reading(rows: list[Row], diff: Diff | None = None) -> str:
    return str((diff or Diff()).conclude(rows)[1]["reading"])


def test_reading_of_a_lora() -> None:
    rows = lora_rows(Diff(), dict.fromkeys(names("attention.self.query", 3), 8))
    rows += lora_rows(Diff(), dict.fromkeys(names("intermediate.dense", 3), 0))
    assert reading(rows) == (
        "The change looks like a rank-8 LoRA on attention of 3 layers (3 of 6 matrices)."
    )


def test_reading_of_several_ranks_on_several_kinds() -> None:
    parts = ("attention.self.query", "intermediate.dense", "word_embeddings", "strange")
    ranks = {name: 2 + i for i, part in enumerate(parts) for name in names(part, 1)}
    assert reading(lora_rows(Diff(), ranks)) == (
        "The change looks like a low-rank update (ranks 2 to 5) on attention, MLP, embeddings "
        "and other of 1 layer (4 of 4 matrices)."
    )


def test_reading_without_layers() -> None:
    assert reading(lora_rows(Diff(), {"lm_head.weight": 1})) == (
        "The change looks like a rank-1 LoRA on head (1 of 1 matrix)."
    )


def test_reading_of_full_fine_tuning() -> None:
    base = normal(40, 30)
    rows = [row_of(Diff(), pair_of(base, base + normal(40, 30, 1), QUERY))]
    assert reading(rows) == (
        "The change looks like full fine-tuning on attention of 1 layer (1 of 1 matrix)."
    )
    rows.append(row_of(Diff(), pair_of(base, base.bfloat16(), names("intermediate.dense", 1)[0])))
    assert reading(rows) == (
        "The change looks like full fine-tuning on attention of 1 layer (1 of 2 matrices). "
        "1 more matrix was rounded and not changed otherwise."
    )


def test_reading_of_an_update_of_few_entries() -> None:
    base = normal(40, 30)
    chosen = (torch.rand(40, 30, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    row = row_of(Diff(), pair_of(base, base + chosen * normal(40, 30, 1), QUERY))
    assert row.values["delta_kind"] == "full rank"
    share = f"{100 * float(chosen.mean()):.3g} %"
    assert f"looks like full fine-tuning of {share} of the entries on" in reading([row])


def test_reading_of_rounding() -> None:
    rows = [
        row_of(Diff(), pair_of(normal(40, 30, seed), normal(40, 30, seed).bfloat16(), name))
        for seed, name in enumerate(names("attention.self.key", 4))
    ]
    assert reading(rows) == "The change is rounding alone (4 of 4 matrices)."


def test_reading_of_a_lora_with_a_small_full_head() -> None:
    rows = lora_rows(Diff(), dict.fromkeys(names("attention.self.query", 9), 2))
    base = normal(2, 30)
    rows.append(row_of(Diff(), pair_of(base, base + normal(2, 30, 1), "classifier.weight")))
    assert reading(rows).startswith("The change looks like a rank-2 LoRA on attention and other")


def test_reading_of_a_lora_with_a_full_head() -> None:
    rows = lora_rows(Diff(), dict.fromkeys(names("attention.self.query", 12), 2))
    base = normal(40, 30)
    rows.append(row_of(Diff(), pair_of(base, base + normal(40, 30, 1), "lm_head.weight")))
    assert reading(rows) == (
        "The change looks like a rank-2 LoRA on attention of 12 layers (12 of 13 matrices) and "
        "full fine-tuning on head (1 of 13 matrices)."
    )


def test_reading_of_a_mixture() -> None:
    rows = lora_rows(Diff(), dict.fromkeys(names("attention.self.query", 2), 2))
    base = normal(40, 30)
    rows.append(row_of(Diff(), pair_of(base, base + normal(40, 30, 1), QUERY)))
    assert reading(rows) == (
        "The change looks like a rank-2 LoRA on attention of 2 layers (2 of 3 matrices) and full "
        "fine-tuning on attention of 1 layer (1 of 3 matrices)."
    )
    rows += [row_of(Diff(), pair_of(base, base + normal(40, 30, seed), QUERY)) for seed in (2, 3)]
    assert reading(rows).endswith(
        "and a low-rank update (rank 2) on attention of 2 layers (2 of 5 matrices)."
    )


def test_reading_of_nothing_changed() -> None:
    assert reading(lora_rows(Diff(), {"a": 0, "b": 0})) == "Nothing changed in 2 matrices."
    assert reading(lora_rows(Diff(), {"a": 0})) == "Nothing changed in 1 matrix."


def test_reading_of_nothing_measured() -> None:
    bad = row_of(Diff(), pair_of(BAD, None))
    assert bad.status == "non-finite"
    assert tuple(bad.values) == Diff.keys
    assert reading([bad]) == "No pair could be measured."
    assert reading([]) == "No pair could be measured."


def test_conclusion_with_intruders() -> None:
    diff = Diff(intruders=True, k=4, epsilon=0.4)
    ranks = {"encoder.layer.0.attention.self.query.weight": 2, "b": 0}
    rows = [*lora_rows(diff, ranks), row_of(diff, pair_of(BAD, None))]
    marked, summary = diff.conclude(rows)
    assert list(marked) == rows
    assert rows[0].values["intruders"] == 2
    assert summary == {
        "reading": "The change looks like a rank-2 LoRA on attention of 1 layer "
        "(1 of 3 matrices). 2 intruder dimensions in 1 of 1 changed matrix "
        f"(top 4, |cos| < 0.4). A random direction would score {chance_cosine(40, 40):.2f}.",
        "matrices": 3,
        "changed": 1,
        "non_finite": 1,
        "intruders": 2,
        "matrices_with_intruders": 1,
        "certified": False,
    }


def test_conclusion_without_intruders_has_no_count_of_them() -> None:
    _, summary = Diff().conclude(lora_rows(Diff(), {"a": 1, "b": 0}))
    assert {key: value for key, value in summary.items() if key != "reading"} == {
        "matrices": 2,
        "changed": 1,
        "non_finite": 0,
    }


def test_pictures_get_the_cosines() -> None:
    base = normal(50, 40)
    pair = pair_of(base, base + normal(50, 40, 1))
    assert set(Diff().measure(pair).arrays) == {"prints"}
    arrays = Diff(intruders=True, k=6).measure(pair).arrays
    assert arrays["cosines"].shape == (6, 32)


def test_numbers_of_a_row() -> None:
    row = lora_rows(Diff(intruders=True), {"a": 1})[0]
    assert row.number("delta_rank") == 1.0
    assert row.number("intruder_detail") is None
    with pytest.raises(UsageError, match="Did you mean 'delta_rank'"):
        row.number("delta_ranc")
    assert matrix_of(normal(2, 3), "w").view.name == "w"


LARGE = 520  # sides whose singular values are not all taken


@pytest.mark.parametrize("shape", [(LARGE, 640), (700, LARGE)], ids=str)
@pytest.mark.parametrize("kind", ["merge", "full"])
def test_large_updates_are_known_without_all_singular_values(
    shape: tuple[int, int], kind: str
) -> None:
    base = normal(*shape, 1).bfloat16()
    update = planted(*shape, [3.0, 2.0, 1.0]) if kind == "merge" else normal(*shape, 2)
    tuned = (base.float() + update).bfloat16()
    values, every = found(base, tuned), found(base, tuned, Diff(full_spectrum=True))
    expected = naive(base, tuned.double() - base.double())
    agree(every, expected)
    assert every["delta_spectrum_status"] == every["delta_rank_status"] == "ok"
    agree(values, {key: expected[key] for key in ("delta_norm", "delta_relative")}, rel=1e-12)
    agree(values, {"delta_sigma_max": expected["delta_sigma_max"]}, rel=1e-3)
    agree(values, {"delta_stable_rank": expected["delta_stable_rank"]}, rel=2e-3)
    assert values["delta_effective_rank"] is None
    assert values["delta_spectrum_status"] == "not computed: add --full-spectrum"
    assert values["delta_kind"] == every["delta_kind"]
    if kind == "merge":
        assert (values["delta_rank"], values["delta_rank_status"]) == (3, "ok")
        assert values["delta_energy_rank"] == expected["delta_energy_rank"] == 3
    else:
        assert values["delta_rank_status"] == "at least"
        assert min(shape) < 2 * number(values["delta_rank"]) <= 2 * number(every["delta_rank"])
        assert values["delta_energy_rank"] is None


def test_large_factors_have_it_all() -> None:
    base = normal(LARGE, LARGE, 1)
    values = found(base, LowRank(normal(LARGE, 4, 2), normal(4, LARGE, 3)))
    assert values["delta_spectrum_status"] == values["delta_rank_status"] == "ok"
    assert number(values["delta_effective_rank"]) <= 4.0
    assert values["delta_energy_rank"] is not None


def test_estimates_grow_with_the_matrix_and_the_question() -> None:
    small, large = view_of("w", 50, 60), view_of("w", 500, 60)
    costs = Diff().cost(small), Diff().cost(large), Diff(intruders=True).cost(large)
    assert 0 < float(costs[0]) < float(costs[1]) < float(costs[2])
    assert 8 * 3000 < Diff().memory(small) < Diff().memory(large)
    assert Diff().memory(large) <= Diff(intruders=True).memory(large)
    question = Diff(intruders=True)
    assert 4 * 30_000 < question.memory_of_factors(large) < question.memory(large)


def test_a_change_is_held_against_a_cosine_basis(real: dict[str, Tensor]) -> None:
    """Of an adapter by its factors, of a fine-tune by its values."""
    generator = torch.Generator().manual_seed(4)
    base = real["encoder.layer.0.intermediate.dense.weight"]
    left = 0.01 * torch.randn(len(base), 4, generator=generator)
    right = torch.randn(4, base.shape[1], generator=generator)
    diff = Diff(dct_rank=6)
    by_factors, dense, same = (
        diff.measure(pair_of(base, tuned)).values
        for tuned in (LowRank(left, right), base + left @ right, None)
    )
    change = (left.double() @ right.double()).numpy()
    squares = np.sort((fft.dct(change, type=3, norm="ortho", axis=1) ** 2).sum(axis=0))[::-1]
    expected = squares[:6].sum() / squares.sum()
    assert by_factors["delta_dct_energy"] == pytest.approx(expected, rel=1e-6)
    assert by_factors["delta_dct_ratio"] == pytest.approx(expected, rel=1e-6)  # rank 4: all of it
    assert dense["delta_dct_energy"] == pytest.approx(expected, rel=1e-4)
    assert same["delta_dct_energy"] is None
    rows = [row_of(diff, pair_of(base, LowRank(left, right)))]
    assert "6 columns of a cosine basis, those of largest norm, hold" in str(
        diff.conclude(rows)[1]["reading"]
    )
    assert "cosine" not in str(diff.conclude([row_of(diff, pair_of(base, None))])[1]["reading"])
