"""Slopes and their intervals: scipy, every draw counted, and how often the truth is inside."""

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from spectra.kernels.slope import (
    Bootstrap,
    Line,
    Scatter,
    fit_line,
    log_medians,
    paired_scatter,
    slope_interval,
    unpaired_scatter,
)

TRUE = 0.25
FEW = Bootstrap(draws=200)


def widths(count: int) -> Tensor:
    return torch.log(256.0 * 2.0 ** torch.arange(count, dtype=torch.float64))


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def family(
    generator: torch.Generator, models: int, layers: int, *, levels: float, runs: float = 0.0
) -> Tensor:
    """sigma of one role: exponent 0.25, layers that scatter by 10 % about their own levels."""
    apart = levels * normal(generator, 1, layers) + normal(generator, models, layers)
    apart += runs * normal(generator, models, 1)
    return (TRUE * widths(models)[:, None] + 0.1 * apart).exp()


def deviation(slopes: NDArray[np.float64]) -> float:
    """The normal distribution's standard deviation from several pairs of percentiles."""
    tails = np.array([0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25])
    low, high = np.quantile(slopes, tails), np.quantile(slopes, 1.0 - tails)
    return float(((high - low) / (stats.norm.ppf(1.0 - tails) - stats.norm.ppf(tails))).mean())


@pytest.mark.parametrize("count", [3, 4, 9])
def test_a_line_as_scipy_fits_it(count: int, generator: torch.Generator) -> None:
    x, y = widths(count), normal(generator, count)
    expected = stats.linregress(x.numpy(), y.numpy())
    line = fit_line(x, y)
    assert line.slope == pytest.approx(expected.slope, rel=1e-10)
    assert line.scatter is not None
    assert line.scatter.error == pytest.approx(expected.stderr, rel=1e-10)
    assert line.scatter.freedom == count - 2
    interval = slope_interval(line, None, 0.9)
    reach = expected.stderr * stats.t.ppf(0.95, count - 2)
    assert interval is not None
    assert interval.low == pytest.approx(expected.slope - reach, rel=1e-8)
    assert interval.high == pytest.approx(expected.slope + reach, rel=1e-8)
    assert interval.source == "models"


def test_intervals_of_one_degree_of_freedom_are_cauchys() -> None:
    found = slope_interval(Line(1.0, Scatter(0.2, 1.0)), None)
    assert found is not None
    assert found.high == pytest.approx(1.0 + 0.2 * math.tan(math.pi * 0.475), rel=1e-12)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1.5, math.nan])
def test_no_such_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0 and less than 1"):
        slope_interval(Line(1.0, None), Scatter(0.2, 3.0), confidence)


def test_equal_abscissas_count_once_each(generator: torch.Generator) -> None:
    x = widths(3)[torch.tensor([0, 0, 1, 2, 2])]
    y = normal(generator, 5)
    assert fit_line(x, y).slope == pytest.approx(stats.linregress(x.numpy(), y.numpy()).slope)


def test_two_points_say_nothing_of_their_line() -> None:
    line = fit_line(widths(2), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert line.slope == pytest.approx(1.0 / math.log(2.0))
    assert line.scatter is None
    assert slope_interval(line, None) is None


def test_one_abscissa_has_no_slope() -> None:
    with pytest.raises(ValueError, match="two distinct abscissas"):
        fit_line(widths(1).repeat(3), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("layers", [1, 2, 5, 6])
def test_medians(layers: int, generator: torch.Generator) -> None:
    values = [normal(generator, layers).exp(), normal(generator, layers + 1).exp()]
    expected = [math.log(float(np.median(own.numpy()))) for own in values]
    assert log_medians(values).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("layers", [2, 3, 4, 5])
def test_paired_layers_against_every_possible_draw(layers: int, generator: torch.Generator) -> None:
    sigma, x = family(generator, 3, layers, levels=2.0), widths(3)
    draws = np.array(list(itertools.product(range(layers), repeat=layers)))
    medians = np.log(np.median(sigma.numpy()[:, draws], axis=-1))
    slopes = np.polyfit(x.numpy(), medians, 1)[0]
    found = paired_scatter(x, sigma)
    assert found is not None
    assert found.freedom == layers - 1
    assert found.error == pytest.approx(deviation(slopes.repeat(1000)), rel=0.05)


@pytest.mark.parametrize("layers", [3, 5, 9])
def test_unpaired_layers_against_the_order_statistics(
    layers: int, generator: torch.Generator
) -> None:
    # A draw's median is at most the k-th smallest value where more than half are among k.
    own = normal(generator, layers).exp().sort().values
    chances = np.diff([stats.binom.sf(layers // 2, layers, k / layers) for k in range(layers + 1)])
    medians = own.log().numpy().repeat(np.round(1e5 * chances).astype(int))
    same = torch.full((4,), 3.0, dtype=torch.float64)  # adds no error
    found = unpaired_scatter(widths(2), [own, same])
    assert found is not None
    assert found.error == pytest.approx(deviation(medians) / math.log(2.0), rel=0.1)
    assert found.freedom == pytest.approx(layers - 1)


def test_unpaired_degrees_of_freedom_by_welch(generator: torch.Generator) -> None:
    own = [normal(generator, count).exp() for count in (4, 9, 15)]
    alone = [torch.full((2,), 1.0, dtype=torch.float64)] * 3
    parts = []
    for i, values in enumerate(own):
        found = unpaired_scatter(widths(3), [*alone[:i], values, *alone[i + 1 :]])
        assert found is not None
        parts.append(found.error**2)
    whole = unpaired_scatter(widths(3), own)
    assert whole is not None
    # The middle width weighs nothing; the others' draws are not the same numbers as alone.
    assert whole.error == pytest.approx(math.sqrt(sum(parts)), rel=0.05)
    square = sum(part**2 / count for part, count in zip(parts, (3, 8, 14), strict=True))
    assert whole.freedom == pytest.approx(sum(parts) ** 2 / square, rel=0.1)


def test_one_layer_says_nothing(generator: torch.Generator) -> None:
    assert paired_scatter(widths(2), family(generator, 2, 1, levels=1.0)) is None
    own = [normal(generator, 5).exp(), normal(generator, 1).exp()]
    assert unpaired_scatter(widths(2), own) is None
    same = torch.ones(3, dtype=torch.float64)
    assert unpaired_scatter(widths(2), [same, torch.ones(7, dtype=torch.float64)]) == (0.0, 2.0)


def test_sources_are_pooled_by_their_degrees_of_freedom() -> None:
    line = Line(1.0, Scatter(0.3, 2.0))
    found = slope_interval(line, Scatter(0.2, 6.0))
    reach = math.sqrt((2.0 * 0.09 + 6.0 * 0.04) / 8.0) * float(stats.t.ppf(0.975, 8.0))
    assert found is not None
    assert found.low == pytest.approx(1.0 - reach)
    assert found.high == pytest.approx(1.0 + reach)
    assert found.source == "both"


def test_models_alone_count_where_they_scatter_by_more_than_layers_explain() -> None:
    edge = math.sqrt(float(stats.f.ppf(0.95, 2.0, 6.0)))
    for ratio, source in ((0.999 * edge, "both"), (1.001 * edge, "models")):
        found = slope_interval(Line(0.0, Scatter(ratio, 2.0)), Scatter(1.0, 6.0))
        assert found is not None
        assert found.source == source
    assert found is not None
    assert found.high == pytest.approx(1.001 * edge * float(stats.t.ppf(0.975, 2.0)))


@pytest.mark.parametrize("layers", [5, 6, 12])
@pytest.mark.parametrize("models", [2, 3])
def test_one_odd_layer_hardly_matters(models: int, layers: int, generator: torch.Generator) -> None:
    x, sigma = widths(models), family(generator, models, layers, levels=0.0)
    odd = sigma.clone()
    odd[-1, 0] *= 100.0
    slopes, errors = [], []
    for values in (sigma, odd):
        scatter = paired_scatter(x, values)
        assert scatter is not None
        slopes.append(fit_line(x, log_medians(list(values))).slope)
        errors.append(scatter.error)
    assert abs(slopes[1] - slopes[0]) < 0.1
    assert errors[1] < 2.0 * errors[0]
    mean = [fit_line(x, values.mean(dim=1).log()).slope for values in (sigma, odd)]
    assert abs(mean[1] - mean[0]) > 1.0  # which the median spares us


def test_units_do_not_matter(generator: torch.Generator) -> None:
    x, sigma = widths(3), family(generator, 3, 7, levels=1.0)
    one, other = paired_scatter(x, sigma), paired_scatter(x, 1e-9 * sigma)
    assert one is not None
    assert other is not None
    assert one.error == pytest.approx(other.error, rel=1e-9)


@pytest.mark.parametrize("levels", [0.0, 10.0], ids=["alike", "levels apart"])
@pytest.mark.parametrize(("models", "layers"), [(2, 3), (2, 6), (2, 24), (3, 6), (4, 6)])
def test_how_often_the_truth_is_inside(
    models: int,
    layers: int,
    levels: float,
    generator: torch.Generator,
) -> None:
    x, inside = widths(models), 0
    for _ in range(300):
        sigma = family(generator, models, layers, levels=levels)
        line = fit_line(x, log_medians(list(sigma)))
        interval = slope_interval(line, paired_scatter(x, sigma, FEW))
        assert interval is not None
        inside += interval.low <= TRUE <= interval.high
    assert 0.9 <= inside / 300 <= 0.99


@pytest.mark.parametrize("depths", [(6, 8), (4, 8, 12), (6, 12, 18, 24)], ids=str)
def test_how_often_with_different_depths(
    depths: tuple[int, ...], generator: torch.Generator
) -> None:
    x, inside = widths(len(depths)), 0
    for _ in range(200):
        own = [
            (TRUE * at + 0.1 * normal(generator, depth)).exp()
            for at, depth in zip(x, depths, strict=True)
        ]
        interval = slope_interval(fit_line(x, log_medians(own)), unpaired_scatter(x, own, FEW))
        assert interval is not None
        inside += interval.low <= TRUE <= interval.high
    assert 0.9 <= inside / 200 <= 0.99


def test_runs_that_differ_by_chance_are_seen_from_three_models_on(
    generator: torch.Generator,
) -> None:
    """Noise that all layers of a model share: two models cannot see it, four widen by it."""
    share = {}
    for models in (2, 4):
        x, inside = widths(models), 0
        for _ in range(200):
            sigma = family(generator, models, 24, levels=0.0, runs=2.0)
            interval = slope_interval(
                fit_line(x, log_medians(list(sigma))), paired_scatter(x, sigma, FEW)
            )
            assert interval is not None
            inside += interval.low <= TRUE <= interval.high
        share[models] = inside / 200
    assert share[2] < 0.5
    assert share[4] > 0.85
