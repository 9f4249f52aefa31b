"""Quantities by name and by group: what is told, what is worked out for it, and what it is."""

import math

import numpy as np
import pytest
import torch
from scipy import fft
from torch import Tensor

from analyzers.subjects import matrix_of, row_of
from spectra.analyzers import Kappa, Spectrum
from spectra.analyzers.metrics import DEFAULT, EVERY, GROUPS, words_of
from spectra.analyzers.row import Measurement
from spectra.errors import UsageError
from spectra.report import cells
from spectra.report.kinds import kappa as kind_of_kappa

ALL = Spectrum(metrics="all")


def measured(matrix: Tensor, metrics: str = "all", seed: int = 0) -> Measurement:
    return Spectrum(metrics=words_of(metrics), seed=seed).measure(matrix_of(matrix))


@pytest.fixture
def matrix(generator: torch.Generator) -> Tensor:
    return torch.randn(60, 40, generator=generator) @ torch.randn(40, 40, generator=generator)


def test_groups_hold_every_key_and_the_default_is_as_it_was() -> None:
    parts = [key for name, group in GROUPS.items() if name != "all" for key in group]
    assert len(parts) == len(set(parts))
    assert {*parts, "sigma_profile"} == set(EVERY) == set(GROUPS["all"])
    assert Spectrum().keys == DEFAULT
    assert ALL.keys[: len(DEFAULT) - 1] == DEFAULT[:-1]
    assert ALL.keys[-1] == DEFAULT[-1] == "sigma_profile"


@pytest.mark.parametrize(
    ("asked", "words"),
    [(None, None), ("mp", "mp"), ("snr, powerlaw,snr", "powerlaw,snr"), (["snr", "mp"], "mp,snr")],
)
def test_words_are_put_in_one_order(asked: str | list[str] | None, words: str | None) -> None:
    assert words_of(asked) == words


@pytest.mark.parametrize(
    ("asked", "told"),
    [("alpah", "Did you mean 'alpha'"), ("Powerlaw", "Did you mean 'powerlaw'"), (",", "nothing"),
     ("", "nothing"), ("mp,basics", "Did you mean 'basic'")],
)  # fmt: skip
def test_what_is_not_known_is_refused(asked: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        words_of(asked)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_is_a_whole_number_from_0(seed: int) -> None:
    with pytest.raises(UsageError, match="no seed"):
        Spectrum(seed=seed)


@pytest.mark.parametrize("key", [*EVERY])
def test_a_key_is_the_same_alone_in_its_group_and_among_all(matrix: Tensor, key: str) -> None:
    alone, every = measured(matrix, key), measured(matrix)
    beside = {"kappa_resolved"} if key == "kappa" else set[str]()
    assert set(alone.values) == {key, "sigma_profile", *beside}
    assert alone.values[key] == every.values[key]


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What takes time, by name, each time that it is called."""
    called: list[str] = []
    for module, name in (
        ("spectrum", "decompose"), ("facts", "fit_power_law"), ("facts", "alternatives"),
        ("facts", "noise_bulk"), ("facts", "arranged_bulk"), ("facts", "resolved_rank"),
        ("spectrum", "shuffled"),
    ):  # fmt: skip
        path = f"spectra.analyzers.{module}.{name}"
        real = pytest.importorskip(f"spectra.analyzers.{module}").__dict__[name]

        def told(*given: object, real: object = real, name: str = name) -> object:
            called.append(name)
            return real(*given)  # type: ignore[operator]

        monkeypatch.setattr(path, told)
    return called


@pytest.mark.parametrize(
    ("metrics", "needed"),
    [
        ("sigma_max", []),
        ("basic", ["resolved_rank"]),
        ("alpha", ["resolved_rank", "fit_power_law"]),
        ("powerlaw", ["resolved_rank", "fit_power_law", "alternatives"]),
        ("mp", ["arranged_bulk"]),
        ("traps", ["shuffled", "decompose", "noise_bulk"]),
        ("all", ["resolved_rank", "fit_power_law", "alternatives", "arranged_bulk", "shuffled",
                 "decompose", "noise_bulk"]),
    ],
)  # fmt: skip
def test_only_what_is_asked_for_is_worked_out_and_once(
    matrix: Tensor, metrics: str, needed: list[str], worked_out: list[str]
) -> None:
    measured(matrix, metrics)
    assert sorted(worked_out) == sorted([*needed, "decompose"])


def test_norms_entropies_and_determinants_by_numpy(generator: torch.Generator) -> None:
    square = torch.randn(50, 50, generator=generator)
    values, exact = measured(square).values, square.double().numpy()
    lam = np.linalg.svd(exact, compute_uv=False) ** 2
    p = lam / lam.sum()
    scaled = np.sort(lam)[::-1] / lam.mean()
    alpha = float(str(values["alpha"]))
    for key, expected in {
        "rmse": math.sqrt(float((exact**2).mean())),
        "log_abs_det": np.linalg.slogdet(exact)[1],
        "entropy": -float((p * np.log(p)).sum()) / math.log(50),
        "detx": next(k for k in range(1, 51) if np.prod(scaled[:k]) < 1),
        "alpha_weighted": alpha * math.log10(lam[0]),
        "log_alpha_norm": math.log10(float((lam**alpha).sum())),
        "signal_energy": 0.0,
        "mp_softrank": float(str(values["mp_edge"])) ** 2 / lam[0],
    }.items():
        assert values[key] == pytest.approx(expected, rel=1e-6), key


def test_snr_as_spectrum_computes_it(matrix: Tensor) -> None:
    """Its lines, in float64; of a tall noise matrix everything is signal, and noise counts as 1."""
    tall = torch.randn(400, 100, generator=torch.Generator().manual_seed(0))
    for weights, whole in ((matrix, False), (tall, True)):
        sigma = torch.linalg.svdvals(weights.double())
        spread = (torch.quantile(sigma, 0.75) - torch.quantile(sigma, 0.25)) / 1.349
        n, m = weights.shape[-2:]
        beta = n / m if n < m else m / n
        above = sigma > spread * np.sqrt((1 + np.sqrt(beta)) ** 2)
        noise = sigma[~above].sum() if (~above).any() else torch.tensor(1.0)
        assert bool(above.all()) is whole
        expected = float(sigma[above].sum() / noise / sigma[0])
        assert measured(weights, "snr").values["snr"] == pytest.approx(expected, rel=1e-6)


def test_the_null_is_the_same_entries_in_an_order_of_its_seed(generator: torch.Generator) -> None:
    """A low rank beside noise is gone, a single huge entry is not."""
    noise = torch.randn(120, 90, generator=generator)
    planted = noise + torch.outer(noise[:, 0], noise[0]) / 3
    first, again, other = (measured(planted, "random", seed) for seed in (0, 0, 1))
    assert first.values == again.values
    assert first.values["sigma_max_random"] != other.values["sigma_max_random"]
    assert first.values["traps"] == 0
    assert measured(planted, "spikes").values["spikes"] == 1
    noise[3, 4] = 60.0
    huge = measured(noise, "random").values
    assert huge["traps"] == 1
    assert huge["sigma_max_random"] == pytest.approx(61, rel=0.05)


def test_the_distance_is_weight_watchers_of_sorted_eigenvalues(matrix: Tensor) -> None:
    from scipy import stats  # noqa: PLC0415 - for this twin

    found = measured(matrix, "random_distance,sigma_max")
    order = np.random.default_rng(0)
    flat = matrix.numpy().reshape(-1).copy()
    order.shuffle(flat)
    p, q = (
        np.sort(np.linalg.svd(one.astype(float), compute_uv=False) ** 2)
        for one in (matrix.numpy(), flat.reshape(matrix.shape))
    )
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    expected = math.sqrt((stats.entropy(p, middle) + stats.entropy(q, middle)) / 2)
    assert found.values["random_distance"] == pytest.approx(expected, rel=1e-6)
    twice = measured(2.0 * matrix, "random_distance")
    assert twice.values["random_distance"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        (torch.zeros(30, 20), "every singular value is 0"),
        (torch.eye(6), "fewer than 10 singular values"),
        (torch.eye(40), "nothing but rounding spreads"),
    ],
    ids=["zeros", "few", "equal"],
)
def test_a_fit_that_fails_is_null_with_its_reason(weights: Tensor, why: str) -> None:
    found = measured(weights).values
    lacking = [key for key in GROUPS["powerlaw"] if key != "alpha_status"]
    assert why in str(found["alpha_status"])
    assert [found[key] for key in lacking] == [None] * len(lacking)


def test_every_quantity_takes_any_matrix() -> None:
    """Zeros, one entry, one row, huge and tiny scales: a number or null, never NaN."""
    noise = torch.randn(30, 20, generator=torch.Generator().manual_seed(3))
    for weights in (torch.zeros(5, 4), torch.ones(1, 1), noise[:1], noise[:, :1], noise[:3, :3],
                    noise * 1e-30, noise * 1e30, noise.double() * 1e120):  # fmt: skip
        for key, value in measured(weights).values.items():
            assert not isinstance(value, float) or math.isfinite(value), (key, weights.shape)


def test_a_failed_fit_enters_no_median_and_the_reading_says_so() -> None:
    from analyzers.subjects import row_of  # noqa: PLC0415 - this test alone

    noise = torch.randn(60, 40, generator=torch.Generator().manual_seed(3))
    rows = [row_of(ALL, matrix_of(one, f"h.{at}.q_proj.weight"))
            for at, one in enumerate((noise, torch.eye(6)))]  # fmt: skip
    reading = str(ALL.conclude(rows)[1]["reading"])
    assert f"Median alpha {rows[0].number('alpha'):.4g}" in reading
    assert "1 matrix has no power law and counts in no median: h.1.q_proj.weight" in reading
    assert "Shuffled" in reading


@pytest.mark.parametrize(("rows", "cols", "rank"), [(60, 40, None), (40, 60, 7), (30, 30, 99)])
def test_a_cosine_basis_is_held_against_as_many_singular_vectors(
    rows: int, cols: int, rank: int | None
) -> None:
    matrix = torch.randn(rows, cols, generator=torch.Generator().manual_seed(1)).double()
    found = Spectrum(metrics="dct", dct_rank=rank).measure(matrix_of(matrix)).values
    values = matrix.numpy() if rows >= cols else matrix.numpy().T
    count = min(rank or math.ceil(min(rows, cols) / 4), rows, cols)
    on = np.sort((fft.dct(values, type=3, norm="ortho", axis=1) ** 2).sum(axis=0))[::-1]
    best = np.linalg.svd(values, compute_uv=False) ** 2
    assert found["dct_rank"] == count
    assert found["dct_energy"] == pytest.approx(on[:count].sum() / on.sum())
    assert found["dct_ratio"] == pytest.approx(on[:count].sum() / best[:count].sum())
    assert found["dct_null"] != found["dct_energy"] or count == min(rows, cols)


def test_smooth_lines_lie_on_few_cosines_and_noise_does_not() -> None:
    """What lies on the basis holds its energy there and nowhere by chance; the reading says so."""
    from analyzers.subjects import row_of  # noqa: PLC0415 - this test alone

    steps = (torch.arange(64.0, dtype=torch.float64) + 0.25)[:, None] * (torch.arange(3.0) + 0.5)
    smooth = torch.randn(90, 3, dtype=torch.float64) @ torch.cos(math.pi * steps / 64).mT
    dct = Spectrum(metrics="dct", dct_rank=8)
    told, noise = (
        dct.measure(matrix_of(one)).values
        for one in (smooth, torch.randn(90, 64, generator=torch.Generator().manual_seed(0)))
    )
    assert float(str(told["dct_energy"])) > 0.99
    assert float(str(told["dct_null"])) < 0.4
    assert noise["dct_energy"] == pytest.approx(noise["dct_null"], abs=0.02)
    reading = str(dct.conclude([row_of(dct, matrix_of(smooth))])[1]["reading"])
    assert "A cosine basis holds" in reading
    assert "of a random basis" in reading


def test_a_cosine_basis_has_a_column_at_least() -> None:
    with pytest.raises(UsageError, match="--dct-rank 0 is too few"):
        Spectrum(metrics="dct", dct_rank=0)
    with pytest.raises(UsageError, match=r"--dct-rank 4 .* Add --metrics dct"):
        Spectrum(dct_rank=4)
    assert "dct_energy" in Spectrum(metrics="dct_energy", dct_rank=4).keys


def test_a_seed_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--seed 7 .* Add --metrics random or --metrics dct"):
        Spectrum(metrics="basic", seed=7)
    assert Spectrum(metrics="dct", seed=7).seed == 7


def test_what_makes_spikes_of_shuffled_entries_is_told() -> None:
    from analyzers.subjects import row_of  # noqa: PLC0415 - as above

    noise = torch.randn(60, 40, generator=torch.Generator().manual_seed(3))
    entry = noise.clone()
    entry[3, 4] = 60.0
    both = entry + 2.0
    analyzer = Spectrum(metrics="random")
    end = {
        "the mean of all entries makes them.": [noise + 1.0, noise - 0.5],
        "single entries make them.": [entry, noise],
        "in 2 single entries make some, in 2 the mean of all.": [entry, both, noise + 1.0],
    }
    for told, weights in end.items():
        rows = [row_of(analyzer, matrix_of(one, f"h.{at}.q_proj.weight"))
                for at, one in enumerate(weights)]  # fmt: skip
        assert told in str(analyzer.conclude(rows)[1]["reading"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_kappa_and_spectrum_say_alike_what_is_rounding(
    generator: torch.Generator, dtype: torch.dtype
) -> None:
    full = torch.randn(96, 64, generator=generator, dtype=torch.float64)
    cut = full[:, :20] @ full[:20]
    column = full.clone()
    column[:, 3] = column[:, 4]
    found = {}
    for name, values in {"full": full, "cut": cut, "column": column}.items():
        matrix = matrix_of(values.to(dtype), name)
        told = [(one, row_of(one, matrix)) for one in (Spectrum(metrics="kappa"), Kappa())]
        rows = [row.flat() for _, row in told]
        readings = [one.conclude([row])[1]["reading"] for one, row in told]
        assert len({"measures the rounding of what is stored" in str(one) for one in readings}) == 1
        assert rows[0]["kappa_resolved"] is rows[1]["kappa_resolved"] is (name == "full")
        assert rows[0]["status"] == rows[1]["status"]
        found[name] = cells.kappa(rows[0])
        assert found[name] == kind_of_kappa.COLUMNS[0].cell(rows[1])
    assert found["full"][0] != "*"
    # Float64 has none of the rounding of a product left: it is below the floor of a decomposition.
    assert found["cut"][:2] == ("si" if dtype == torch.float64 else "* ")
    assert found["column"] == "singular"
