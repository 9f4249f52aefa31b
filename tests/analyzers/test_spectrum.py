"""Every key of `spectrum` against its definition, written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from analyzers.subjects import matrix_of, pair_of, row_of, view_of
from examples import with_spectrum
from spectra.analyzers import Measurement, Row, Spectrum
from spectra.analyzers.metrics import sigma_profile
from spectra.analyzers.tuned_spectrum import TunedSpectrum
from spectra.errors import NonFiniteError, UsageError
from spectra.matrices import LowRank
from spectra.numbers import number

REAL = (
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.5.intermediate.dense.weight",
    "encoder.layer.2.output.dense.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
)


def numbers(matrix: Tensor, energy: float = 0.99) -> Measurement:
    return Spectrum(energy=energy).measure(matrix_of(matrix))


def test_the_spectrum_under_an_adapter_is_that_of_the_merged_matrix() -> None:
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(40, 24, generator=generator)
    left, right = (torch.randn(*shape, generator=generator) for shape in ((40, 2), (2, 24)))
    found = TunedSpectrum(energy=0.9).measure(pair_of(base, LowRank(left, right)))
    merged = numbers(base + left @ right, energy=0.9)
    assert found.values.keys() == merged.values.keys()
    for key in ("sigma_max", "sigma_min", "kappa", "stable_rank", "mp_edge"):
        assert found.values[key] == pytest.approx(merged.values[key], rel=1e-4)
    assert found.values["energy_rank"] == merged.values["energy_rank"]
    untouched = TunedSpectrum().measure(pair_of(base, None))
    assert untouched.values == numbers(base).values


def naive(matrix: Tensor, energy: float = 0.99) -> dict[str, float | int | None]:
    """The definitions, in numpy."""
    w = matrix.double().numpy()
    s = torch.linalg.svdvals(matrix.double()).numpy()
    p = s / s.sum()
    eps = np.finfo(np.float64 if matrix.dtype == torch.float64 else np.float32).eps
    share = np.cumsum(s**2) / (s**2).sum()
    return {
        "sigma_max": s[0],
        "sigma_min": s[-1],
        "frobenius": np.sqrt((w**2).sum()),
        "kappa": s[0] / s[-1],
        "stable_rank": (w**2).sum() / s[0] ** 2,
        "effective_rank": np.exp(-(p * np.log(p)).sum()),
        "energy_rank": int(np.argmax(share >= energy)) + 1,
        "numerical_rank": int((s > s[0] * max(w.shape) * eps).sum()),
        **naive_spikes(w, s),
    } | naive_alpha(s**2)


def naive_spikes(w: np.ndarray, s: np.ndarray) -> dict[str, float | int | None]:
    """Noise of the size of what is left, and a room of 3.27 Tracy-Widom scales above its edge."""
    rows, cols = w.shape
    if len(s) < 4:
        return {"mp_edge": None, "spikes": None}
    p, q = np.sqrt(rows - 0.5), np.sqrt(cols - 0.5)
    room = np.sqrt((p + q) ** 2 + 3.2724 * (p + q) * np.cbrt(1 / p + 1 / q))
    k = 0
    while True:
        scale = np.sqrt((s[k:] ** 2).sum() / ((rows - k) * (cols - k)))
        above = int((s > scale * room).sum())
        if above == k:
            edge = float(scale * (np.sqrt(rows) + np.sqrt(cols)))
            return {"mp_edge": edge, "spikes": naive_arranged(w, k, float(room))}
        k = above


def naive_arranged(w: np.ndarray, count: int, room: float) -> int:
    """Of so many those that are beyond the noise where their own vectors live, one by one."""
    left, sigma, right = np.linalg.svd(w, full_matrices=False)
    rest = w - (left[:, :count] * sigma[:count]) @ right[:count]
    alone = [left[:, i] ** 2 @ rest**2 @ right[i] ** 2 for i in range(count)]
    shared = np.array([
        [(left[:, i] ** 2 @ left[:, j] ** 2) * (right[i] ** 2 @ right[j] ** 2)
         for j in range(count)] for i in range(count)
    ])  # fmt: skip
    noise = [*alone]
    for _ in range(2000 if count else 0):
        last = [*noise]
        held = [min(sigma[j] ** 2, (sum(w.shape) - count) * last[j]) for j in range(count)]
        for i in range(count):
            own = shared[i].copy()
            own[i] = max(own[i] - 9 / w.size, 0)
            if room**2 * alone[i] < sigma[i] ** 2 / 4:  # it took most of the noise there
                own *= 1 + max(1 - count / w.size / own.sum(), 0) / 4
            noise[i] = alone[i] + sum(own * held)
        if np.allclose(last, noise, rtol=1e-9, atol=0):
            break
    return sum(sigma[i] > room * np.sqrt(noise[i]) for i in range(count))


def naive_alpha(values: np.ndarray) -> dict[str, float | int | None]:
    """Continuous maximum likelihood; the cut of the smallest Kolmogorov-Smirnov distance."""
    best: tuple[float, float, float] | None = None
    if len(values) < 10:
        return {"alpha": None, "alpha_xmin": None, "alpha_ks": None}
    for xmin in np.unique(values)[:-1]:
        tail = np.sort(values[values >= xmin])
        alpha = 1 + len(tail) / np.log(tail / xmin).sum()
        fitted = 1 - (tail / xmin) ** (1 - alpha)
        distance = float(np.abs(fitted - np.arange(len(tail)) / len(tail)).max())
        if best is None or distance < best[0]:
            best = (distance, float(alpha), float(xmin))
    if best is None:
        return {"alpha": None, "alpha_xmin": None, "alpha_ks": None}
    return {"alpha": best[1], "alpha_xmin": best[2], "alpha_ks": best[0]}


def agree(found: Measurement, expected: dict[str, float | int | None]) -> None:
    assert tuple(found.values) == Spectrum().keys
    for key, value in expected.items():
        if isinstance(value, int) or value is None:
            assert found.values[key] == value, key
        else:
            assert found.values[key] == pytest.approx(float(value), rel=2e-4), key


@pytest.mark.parametrize("name", REAL)
def test_real_matrices(name: str, real: dict[str, Tensor]) -> None:
    found = numbers(real[name])
    assert found.status == "ok"
    agree(found, naive(real[name]))
    exact = torch.linalg.svdvals(real[name].double())
    torch.testing.assert_close(found.arrays["sigma"], exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (40, 40), (60, 90), (90, 60)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_random_matrices(
    shape: tuple[int, int], dtype: torch.dtype, generator: torch.Generator
) -> None:
    matrix = torch.randn(shape, generator=generator, dtype=dtype)
    agree(numbers(matrix, energy=0.5), naive(matrix, energy=0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_measured_as_its_values(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    matrix = torch.randn(71, 61, generator=generator).to(dtype)
    found = numbers(matrix)
    agree(found, naive(matrix.float()))
    assert found.values["numerical_rank"] == 61  # judged in float32's arithmetic


def test_a_planted_spectrum(generator: torch.Generator) -> None:
    sigma = torch.tensor([8.0, 4.0, 2.0, 1.0])
    found = numbers(with_spectrum(sigma, 20, 30, generator)).values
    assert found["numerical_rank"] == found["resolved_rank"] == 4
    assert found["stable_rank"] == pytest.approx(85 / 64)
    assert found["frobenius"] == pytest.approx(math.sqrt(85))
    assert found["sigma_min"] == 0.0
    p = sigma.double() / sigma.sum()
    assert found["effective_rank"] == pytest.approx(math.exp(float(-(p * p.log()).sum())))
    assert [numbers(with_spectrum(sigma, 20, 30), q).values["energy_rank"] for q in (0.7, 0.9)] == [
        1, 2,
    ]  # fmt: skip


def test_spikes_are_planted_directions(generator: torch.Generator) -> None:
    noise = torch.randn(300, 200, generator=generator)
    spikes = with_spectrum(torch.tensor([90.0, 70.0, 50.0]), 300, 200, generator)
    assert numbers(noise + spikes).values["spikes"] == 3
    assert numbers(noise).values["spikes"] == 0


def test_a_singular_matrix_has_no_kappa(generator: torch.Generator) -> None:
    matrix = torch.randn(30, 40, generator=generator)
    matrix[3] = matrix[4]
    found = numbers(matrix)
    assert found.status == "singular"
    assert found.values["kappa"] is None
    assert found.values["sigma_min"] == 0.0
    assert found.values["numerical_rank"] == found.values["resolved_rank"] == 29
    assert found.values["alpha"] is not None


def test_a_zero_matrix() -> None:
    found = numbers(torch.zeros(3, 4))
    assert found.status == "singular"
    assert dict(found.values) == {
        "sigma_max": 0.0, "sigma_min": 0.0, "frobenius": 0.0, "kappa": None,
        "kappa_resolved": False,
        "stable_rank": 0.0, "effective_rank": 0.0, "energy_rank": 0, "numerical_rank": 0,
        "resolved_rank": 0, "alpha": None, "alpha_xmin": None, "alpha_ks": None,
        "mp_edge": None, "spikes": None, "heavy_tail": None,
        "sigma_profile": [0.0, 0.0, 0.0],
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(("zeros", "turned"), [(60, False), (60, True), (30, False)])
def test_a_direction_across_zeros_leaves_the_noise(
    dtype: torch.dtype, zeros: int, turned: bool, generator: torch.Generator
) -> None:
    """Rounding of what the direction adds to zeros is not the noise."""
    matrix = torch.randn(120, 90, generator=generator)
    matrix[:, :zeros] = 0.0
    alone = numbers(matrix.to(dtype)).values
    for count in (1, 2):
        left, right = (
            torch.linalg.qr(torch.randn(side, count, generator=generator)).Q for side in (120, 90)
        )
        both = (matrix + 60.0 * left @ right.mT).to(dtype)
        found = numbers(both.mT.contiguous() if turned else both).values
        assert found["mp_edge"] == pytest.approx(alone["mp_edge"], rel=0.06)
        assert found["spikes"] == count


def test_the_identity() -> None:
    found = numbers(torch.eye(50)).values
    assert found["kappa"] == pytest.approx(1.0)
    assert found["effective_rank"] == pytest.approx(50)
    assert found["alpha"] is None
    assert found["mp_edge"] == pytest.approx(2.0)
    assert found["spikes"] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_only_rounding_spreads_has_no_power_law(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    square = torch.linalg.qr(torch.randn(60, 60, generator=generator)).Q.to(dtype)
    found = numbers(square).values
    assert found["alpha"] is found["alpha_xmin"] is found["alpha_ks"] is None
    assert found["kappa"] == pytest.approx(1.0, abs=0.02)
    assert (found["spikes"], found["resolved_rank"], found["heavy_tail"]) == (0, 60, False)


def test_few_values_have_no_power_law(generator: torch.Generator) -> None:
    assert numbers(torch.randn(9, 384, generator=generator)).values["alpha"] is None
    assert numbers(torch.randn(10, 384, generator=generator)).values["alpha"] is not None


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [
        (1e20, torch.float32),
        (1e-25, torch.float32),
        (1e150, torch.float64),
        (1e-150, torch.float64),
    ],
)
def test_the_scale_moves_only_what_has_units(
    factor: float, dtype: torch.dtype, generator: torch.Generator
) -> None:
    matrix = torch.randn(31, 21, generator=generator, dtype=dtype)
    plain, scaled = numbers(matrix).values, numbers(matrix * factor).values
    units = {"sigma_max": 1, "sigma_min": 1, "frobenius": 1, "mp_edge": 1, "alpha_xmin": 2}
    profile, moved = plain["sigma_profile"], scaled["sigma_profile"]
    assert isinstance(profile, list)
    assert moved == pytest.approx([value * factor for value in profile], rel=1e-4)
    for key, value in plain.items():
        if key == "sigma_profile":
            continue
        assert isinstance(value, float | int)
        expected = value
        for _ in range(units.get(key, 0)):
            expected *= factor
        assert scaled[key] == pytest.approx(expected, rel=1e-4), key


@pytest.mark.parametrize("count", [1, 2, 64, 65, 66, 130, 384])
def test_the_profile_takes_evenly_spaced_ranks(count: int) -> None:
    sigma = torch.arange(count, 0, -1, dtype=torch.float64)
    steps = min(count, 65) - 1
    expected = [
        float(sigma[math.floor(i * (count - 1) / steps + 0.5)]) if steps else float(sigma[0])
        for i in range(steps + 1)
    ]
    assert sigma_profile(sigma) == expected
    assert sorted(set(expected), reverse=True) == expected
    assert {expected[0], expected[-1]} == {float(count), 1.0}


def test_the_profile_has_six_digits(generator: torch.Generator) -> None:
    matrix = torch.randn(40, 30, generator=generator)
    sigma = torch.linalg.svdvals(matrix.double())
    found = numbers(matrix).values["sigma_profile"]
    assert found == pytest.approx(sigma.tolist(), rel=1e-4)
    assert isinstance(found, list)
    assert all(float(f"{value:.6g}") == value for value in found)


def test_what_is_not_finite_is_an_error() -> None:
    matrix = torch.ones(3, 4)
    matrix[1, 2] = math.nan
    with pytest.raises(NonFiniteError, match=r"^1 NaN, the first at \[1, 2\]$"):
        numbers(matrix)


@pytest.mark.parametrize("energy", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_an_energy_that_is_no_share_is_refused(energy: float) -> None:
    with pytest.raises(UsageError, match="Expected above 0 and at most 1"):
        Spectrum(energy=energy)


def test_an_entry_that_dwarfs_the_others_spoils_no_median(generator: torch.Generator) -> None:
    usual = torch.randn(40, 40, generator=generator)
    dwarfing = usual.clone()
    dwarfing[3, 4] = 1e30
    rows = [
        row_of(Spectrum(), matrix_of(matrix, f"h.{index}.q.weight"))
        for index, matrix in enumerate((usual, dwarfing))
    ]
    alpha = rows[0].number("alpha")
    assert alpha is not None
    assert rows[1].values["alpha"] is None
    spoilt = replace(rows[1], values={**rows[1].values, "alpha": math.nan})
    for other in (rows[1], spoilt):
        _, summary = Spectrum().conclude([rows[0], other])
        assert f"Median alpha {number(alpha)}." in str(summary["reading"])


def test_conclusion(generator: torch.Generator) -> None:
    spectrum = Spectrum()
    alphas, rows = [], []
    for index, scale in enumerate((1.0, 3.0, 2.0)):
        matrix = scale * torch.randn(20, 30, generator=generator)
        rows.append(row_of(spectrum, matrix_of(matrix, f"h.{index}.q_proj.weight")))
        alphas.append(rows[-1].number("alpha"))
    bad = row_of(spectrum, matrix_of(torch.full((5, 5), math.inf), "bad"))
    marked, summary = spectrum.conclude([*rows, bad])
    assert list(marked) == [*rows, bad]
    largest = rows[1].number("sigma_max")
    middle = sorted(alpha for alpha in alphas if alpha is not None)[1]
    assert summary == {
        "reading": "4 matrices, 1,825 parameters. "
        f"Largest sigma {number(largest or 0.0)} in h.1.q_proj.weight. "
        f"Median alpha {number(middle)}.",
        "matrices": 4,
        "parameters": 1825,
        "non_finite": 1,
    }


def test_heavy_tails_are_told(generator: torch.Generator) -> None:
    rows = []
    for name, power in (("h.0.q_proj.weight", 1), ("h.1.q_proj.weight", 3)):
        matrix = torch.randn(40, 30, generator=generator) ** power
        rows.append(row_of(Spectrum(), matrix_of(matrix, name)))
    assert [row.values["heavy_tail"] for row in rows] == [False, True]
    reading = Spectrum().conclude(rows)[1]["reading"]
    assert isinstance(reading, str)
    assert reading.endswith(
        "1 matrix has entries of heavy tails: what these alone make is no spike."
    )
    assert "tails" not in str(Spectrum().conclude(rows[:1])[1]["reading"])


def test_conclusion_of_one_matrix_without_a_tail() -> None:
    row = row_of(Spectrum(), matrix_of(torch.tensor([[-2.0]]), "one"))
    assert Spectrum().conclude([row])[1]["reading"] == (
        "1 matrix, 1 parameter. Largest sigma 2 in one. 1 matrix has no power law and counts in no "
        "median: one (fewer than 10 singular values stand above rounding). No spikes are counted "
        "in 1 matrix: one (fewer than 4 singular values are not 0)."
    )


def test_what_has_no_noise_edge_is_named_with_the_reason(generator: torch.Generator) -> None:
    square = torch.randn(40, 40, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(square).Q
    graded = turn * torch.logspace(0, -9, 40, dtype=torch.float64) @ turn.mT
    weights = {
        "noise": torch.randn(40, 30, generator=generator), "graded": graded, "also": 2.0 * graded,
        "router": torch.randn(3, 40, generator=generator),
    }  # fmt: skip
    for analyzer in (Spectrum(), Spectrum(metrics="mp")):
        rows = [row_of(analyzer, matrix_of(one, name)) for name, one in weights.items()]
        lacking = [row.matrix for row in rows if row.values["mp_edge"] is None]
        assert lacking == ["graded", "also", "router"]
        assert (
            "No spikes are counted in 3 matrices: graded (more than half of the singular values "
            "stand out of one scale), router (fewer than 4 singular values are not 0)."
        ) in str(analyzer.conclude(rows)[1]["reading"])
        assert "No spikes" not in str(analyzer.conclude(rows[:1])[1]["reading"])
    alone = Spectrum(metrics="alpha")
    rows = [row_of(alone, matrix_of(graded, "graded"))]
    assert "spikes" not in str(alone.conclude(rows)[1]["reading"])


def test_what_has_no_power_law_is_named_with_the_reason_as_far_as_that_is_known() -> None:
    weights = {"equal": torch.eye(30), "same": 3.0 * torch.eye(20), "small": torch.eye(6, 9)}
    rows = [row_of(Spectrum(), matrix_of(one, name)) for name, one in weights.items()]
    told = "have no power law and count in no median: equal"
    few = "small (fewer than 10 singular values stand above rounding)."
    reading = str(Spectrum().conclude(rows)[1]["reading"])
    assert f"3 matrices {told} (--metrics powerlaw tells why), {few}" in reading
    asked = Spectrum(metrics="powerlaw")
    rows = [row_of(asked, matrix_of(one, name)) for name, one in weights.items()]
    reading = str(asked.conclude(rows)[1]["reading"])
    assert f"{told} (nothing but rounding spreads the singular values), {few}" in reading


def test_conclusion_of_nothing() -> None:
    bad = row_of(Spectrum(), matrix_of(torch.full((5, 5), math.nan), "bad"))
    assert isinstance(bad, Row)
    assert Spectrum().conclude([bad])[1]["reading"] == "No matrix could be measured."
    assert bad.flat()["status"] == "non-finite"
    assert "25 NaN" in str(bad.flat()["error"])
    assert list(bad.flat())[-len(Spectrum().keys) :] == list(Spectrum().keys)


def test_estimates_grow_with_the_matrix() -> None:
    small, large = view_of("w", 50, 60), view_of("w", 500, 60)
    assert 0 < float(Spectrum().cost(small)) < float(Spectrum().cost(large))
    assert 4 * 50 * 60 < Spectrum().memory(small) < Spectrum().memory(large)


def test_matrices_that_lost_everything_or_half_are_told(generator: torch.Generator) -> None:
    whole = torch.randn(40, 30, generator=generator)
    left = torch.randn(40, 5, generator=generator)
    rows = [
        row_of(Spectrum(), matrix_of(values, f"h.{at}.q_proj.weight"))
        for at, values in enumerate((whole, torch.zeros(40, 30), left @ left.mT[:, :30]))
    ]
    reading = str(Spectrum().conclude(rows)[1]["reading"])
    assert " 1 matrix is 0 in every entry: h.1.q_proj.weight." in reading
    assert (
        " 1 matrix has fewer than half of its directions above rounding: h.2.q_proj.weight 5 of 30."
    ) in reading
    sound = str(Spectrum().conclude(rows[:1])[1]["reading"])
    assert "in every entry" not in sound
    assert "above rounding" not in sound
