"""The power-law fit against a naive double loop and the `powerlaw` package."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, optimize, stats
from torch import Tensor

from spectra.kernels.power_law import (
    PowerLaw,
    alpha_error,
    alpha_sigma,
    alternatives,
    fit_power_law,
)
from spectra.kernels.singular import singular_values

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import powerlaw


def pareto(alpha: float, count: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, generator=source, dtype=torch.float64)
    return (1 - uniform) ** (-1 / (alpha - 1))


def naive(values: Tensor) -> PowerLaw | None:
    """Clauset et al., eq. 3.1 and 3.9, one cut and one value at a time."""
    ordered = sorted(values.tolist())
    best = None
    for xmin in sorted(set(ordered))[:-1]:
        tail = [x for x in ordered if x >= xmin]
        alpha = 1 + len(tail) / sum(math.log(x / xmin) for x in tail)
        distance = max(
            abs(1 - (x / xmin) ** (1 - alpha) - sum(y < x for y in tail) / len(tail)) for x in tail
        )
        if best is None or distance < best.distance:
            best = PowerLaw(alpha, xmin, distance, len(tail))
    return best


def package(values: Tensor) -> PowerLaw:
    """The reference program, its default limit of alpha (at most 3) lifted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = powerlaw.Fit(
            values.numpy(), discrete=False, verbose=False, parameter_ranges={"alpha": [1, None]}
        )
        law = fit.power_law
        return PowerLaw(law.alpha, law.xmin, law.D, int((values >= law.xmin).sum()))


def same(found: PowerLaw | None, expected: PowerLaw | None) -> None:
    if found is None or expected is None:
        assert found is expected
        return
    assert found.tail == expected.tail
    assert found.xmin == pytest.approx(expected.xmin, rel=1e-12)
    assert found.alpha == pytest.approx(expected.alpha, rel=1e-9)
    assert found.distance == pytest.approx(expected.distance, abs=1e-10)


def found_in(values: Tensor) -> PowerLaw:
    found = fit_power_law(values)
    assert found is not None
    return found


@given(st.integers(2, 50), st.integers(0, 2**31), st.floats(1.2, 6.0))
def test_pareto_samples_as_the_naive_loop(count: int, seed: int, alpha: float) -> None:
    values = pareto(alpha, count, seed)
    same(fit_power_law(values), naive(values))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_ties_as_the_naive_loop(numbers: list[int]) -> None:
    values = torch.tensor(numbers, dtype=torch.float64)
    same(fit_power_law(values), naive(values))


@pytest.mark.parametrize("alpha", [1.5, 2.5, 4.0, 7.0])
def test_pareto_samples_as_the_package(alpha: float) -> None:
    values = pareto(alpha, 300, seed=4)
    same(fit_power_law(values), package(values))


def test_tied_samples_as_the_package() -> None:
    values = (10 * pareto(2.0, 300)).round()
    same(fit_power_law(values), package(values))


@pytest.mark.parametrize(
    "ending",
    [
        "layer.0.attention.self.query.weight",
        "layer.3.attention.output.dense.weight",
        "layer.0.intermediate.dense.weight",
        "word_embeddings.weight",
    ],
)
def test_real_spectra_as_the_package(ending: str, real: dict[str, Tensor]) -> None:
    (matrix,) = [matrix for name, matrix in real.items() if name.endswith(ending)]
    values = singular_values(matrix).square()
    same(fit_power_law(values), package(values))


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_pareto_tail_is_recovered_within_its_standard_error(alpha: float, seed: int) -> None:
    body = torch.linspace(0.05, 1, 500, dtype=torch.float64)
    found = found_in(torch.cat([body, pareto(alpha, 2000, seed)]))
    assert 0.3 < found.xmin < 2.5
    assert found.alpha == pytest.approx(alpha, abs=3.5 * (alpha - 1) / math.sqrt(found.tail))
    assert found.distance < 0.05


@given(st.integers(3, 40), st.integers(0, 2**31), st.integers(-30, 30))
def test_the_scale_moves_the_cut_only(count: int, seed: int, power: int) -> None:
    values = pareto(2.5, count, seed)
    found, scaled = found_in(values), found_in(values * 10.0**power)
    assert scaled.tail == found.tail
    assert scaled.alpha == pytest.approx(found.alpha, rel=1e-9)
    assert scaled.distance == pytest.approx(found.distance, abs=1e-9)
    assert scaled.xmin == pytest.approx(found.xmin * 10.0**power, rel=1e-12)


@given(st.integers(3, 40), st.integers(0, 2**31))
def test_the_order_does_not_matter(count: int, seed: int) -> None:
    values = pareto(2.5, count, seed)
    mixed = values[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
    assert fit_power_law(mixed) == fit_power_law(values)


def test_values_over_sixty_decades() -> None:
    values = torch.logspace(-30, 30, 200, dtype=torch.float64)
    same(fit_power_law(values), naive(values))


@pytest.mark.parametrize("numbers", [[], [2.0], [2.0, 2.0, 2.0]], ids=str)
def test_fewer_than_two_distinct_values_have_no_tail(numbers: list[float]) -> None:
    assert fit_power_law(torch.tensor(numbers, dtype=torch.float64)) is None


def test_values_equal_to_rounding_have_no_tail() -> None:
    """The spectrum of an orthogonal matrix: its differences are the arithmetic's."""
    source = torch.Generator().manual_seed(0)
    square = torch.randn(60, 60, generator=source, dtype=torch.float64)
    values = torch.linalg.svdvals(torch.linalg.qr(square).Q).square()
    assert len(values.unique()) > 1
    assert fit_power_law(values) is None


def test_a_cluster_at_the_top_is_one_cut() -> None:
    values = torch.tensor([1.0, 2.0, 5.0, 5.0 * (1 + 2.3e-16), 5.0 * (1 - 1.2e-16)])
    found = found_in(values.double())
    assert math.isfinite(found.alpha)
    assert found.tail in {4, 5}


def test_cuts_in_several_chunks_are_the_same() -> None:
    values = pareto(2.5, 200)
    assert fit_power_law(values, held=700) == fit_power_law(values)


def test_two_values_leave_one_cut() -> None:
    found = found_in(torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert found.xmin == 1.0
    assert found.tail == 2
    assert found.alpha == pytest.approx(1 + 2 / math.log(3))
    assert found.distance == pytest.approx(abs(1 - np.exp(-2) - 0.5))


def held_against(values: Tensor) -> dict[str, tuple[float, float]]:
    """The reference program's comparisons, with alpha let free as above."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = powerlaw.Fit(
            values.numpy(), discrete=False, verbose=False, parameter_ranges={"alpha": [1, None]}
        )
        return {
            name: fit.distribution_compare("power_law", name, nested=name.startswith("trunc"))
            for name in ("lognormal", "exponential", "truncated_power_law")
        }


def of_law(kind: str, count: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, generator=source, dtype=torch.float64)
    uniform = torch.rand(count, generator=source, dtype=torch.float64)
    return {
        "pareto": (1 - uniform) ** (-1 / 1.3),
        "lognormal": (0.4 * normal).exp(),
        "exponential": 1 - uniform.log(),
    }[kind]


@pytest.mark.parametrize("kind", ["pareto", "lognormal", "exponential"])
@pytest.mark.parametrize("seed", range(3))
def test_other_laws_as_the_package_has_them(kind: str, seed: int) -> None:
    """Its searches stop early and at alpha = 1 of the truncated law: ours is as likely or more."""
    values = of_law(kind, 300, seed)
    found, expected = alternatives(values, found_in(values)), held_against(values)
    lognormal, exponential, truncated = (expected[name] for name in expected)
    assert found.exponential == pytest.approx(exponential, abs=2e-3)
    for ours, theirs in ((found.lognormal, lognormal), (found.truncated, truncated)):
        assert ours.ratio <= theirs[0] + 1e-3
        if ours.ratio == pytest.approx(theirs[0], abs=1e-4):
            assert ours.p == pytest.approx(theirs[1], abs=1e-2)


def test_the_cut_off_laws_are_the_likeliest_of_their_kind() -> None:
    """Against a direct search of the likelihood, and integrals by an adaptive rule."""
    values = of_law("lognormal", 400, 7)
    law = found_in(values)
    tail = (values[values >= law.xmin] / law.xmin).numpy()
    logs, slope = np.log(tail), law.alpha - 1
    power = float((math.log(slope) - law.alpha * logs).sum())

    def normal(at: NDArray[np.float64]) -> float:
        own = stats.norm.logpdf(logs, at[0], np.exp(at[1])) - logs
        return -float((own - stats.norm.logsf(0.0, at[0], np.exp(at[1]))).sum())

    def cut(at: NDArray[np.float64]) -> float:
        a, b = np.exp(at)
        whole = integrate.quad(lambda y: y**-a * math.exp(-b * (y - 1)), 1, math.inf)[0]
        return float((a * logs + b * (tail - 1)).sum()) + len(tail) * math.log(whole)

    precise = {"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000}
    for name, missed, start in (("lognormal", normal, [0, 0]), ("truncated", cut, [0.5, -1])):
        best = optimize.minimize(missed, start, method="Nelder-Mead", options=precise).fun
        found = getattr(alternatives(values, law), name)
        assert found.ratio == pytest.approx(power + best, abs=1e-5)


def test_a_power_law_is_itself_of_the_laws_that_hold_it() -> None:
    """Where the tail bends up no cut-off and no lognormal is likelier: R is 0."""
    steps = torch.linspace(0.0, 1.0, 60, dtype=torch.float64)
    found, bent = (
        alternatives(logs.exp(), PowerLaw(1.0 + 60 / float(logs.sum()), 1.0, 0.0, 60))
        for logs in (steps.pow(3), steps.pow(0.2))
    )
    assert found.lognormal == found.truncated == (0.0, 1.0)
    assert bent.truncated.ratio < 0.0
    assert bent.lognormal.ratio < 0.0


def test_a_law_is_rejected_as_often_as_its_p_says() -> None:
    """Of power laws a tenth has p below 0.1 against the truncated one, half of them none at all."""
    p = []
    for seed in range(200):
        values = pareto(2.5, 80, seed)
        n = len(values)
        law = PowerLaw(1.0 + n / float(values.log().sum()), 1.0, 0.0, n)
        p.append(alternatives(values, law).truncated.p)
    assert sum(one < 0.1 for one in p) / 200 < 0.12


@pytest.mark.parametrize("count", [3, 10, 200])
def test_the_exponents_scatter_is_its_error(count: int) -> None:
    laws = []
    for seed in range(2000):
        values = pareto(3.0, count, seed)
        laws.append(1.0 + count / float(values.log().sum()))
    spread = float(np.std(laws))
    true = PowerLaw(3.0, 1.0, 0.0, count)
    error = alpha_error(true)
    if count > 3:  # of three values the scatter itself has no variance
        assert error is not None
        # The formula takes the estimate, which is biased by n / (n - 1), for the exponent.
        assert spread == pytest.approx(error, rel=0.1)
    assert alpha_sigma(true) == pytest.approx(2.0 / math.sqrt(count))


def test_too_few_values_have_no_error() -> None:
    assert alpha_error(PowerLaw(2.0, 1.0, 0.1, 2)) is None
