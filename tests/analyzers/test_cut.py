"""How many directions are kept: each criterion by its own definition, a budget by brute force."""

import itertools

import pytest
import torch

from spectra.analyzers.cut import Cutting
from spectra.errors import UsageError

SIGMA = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
ENERGY = float(SIGMA.square().sum())


def count(**settings: float) -> int:
    return Cutting(**settings).count(SIGMA, ENERGY)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.9, 0.99, 1.0])
def test_shares_take_as_few_as_reach_them(share: float) -> None:
    for name, weights in (
        ("energy", SIGMA.square()),
        ("sv_cumulative", SIGMA),
    ):
        found = count(**{name: share})
        held = weights.cumsum(0) / weights.sum()
        assert held[found - 1] >= share - 1e-12
        assert found == 1 or held[found - 2] < share
    assert count(sv_fro=share) == count(energy=share * share)


def test_kohyas_criteria_are_without_its_off_by_one() -> None:
    # index_sv_cumulative: searchsorted + 1 is the count that is needed; rank_resize adds 1 again.
    target = 0.9
    index = int(torch.searchsorted(SIGMA.cumsum(0) / SIGMA.sum(), target)) + 1
    assert count(sv_cumulative=target) == index
    assert count(sv_ratio=4.0) == int((SIGMA[0] / 4.0 < SIGMA).sum())
    assert count(sv_ratio=1.0) == 1


def test_rank_is_the_most_beside_any_other() -> None:
    assert count() == 5
    assert count(rank=3) == 3
    assert count(rank=9) == 5
    assert count(rank=2, energy=0.9999) == 2
    assert Cutting(rank=2).count(SIGMA[:0], 0.0) == 0


@pytest.mark.parametrize("room", [0, 10, 37, 64, 150, 10_000])
def test_a_budget_goes_where_it_saves_most(room: int) -> None:
    generator = torch.Generator().manual_seed(room)
    spectra = [torch.rand(4, generator=generator).double().sort(descending=True).values
               for _ in range(3)]  # fmt: skip
    costs = [10, 13, 27]
    found = Cutting(budget=room + 5, reserved=5).counts(spectra, [1.0] * 3, costs, "abc")
    spent = sum(n * cost for n, cost in zip(found, costs, strict=True))
    assert spent <= room

    def saved(counts: tuple[int, ...]) -> float:
        return sum(float(s[:n].square().sum()) for s, n in zip(spectra, counts, strict=True))

    best = max(
        saved(counts)
        for counts in itertools.product(range(5), repeat=3)
        if sum(n * cost for n, cost in zip(counts, costs, strict=True)) <= room
    )
    # Whole directions leave a rest that a cleverer choice might use: less than one of them.
    assert saved(tuple(found)) >= best - max(float(s[0]) ** 2 for s in spectra)
    if room >= 200:
        assert found == [4, 4, 4]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rank": 0}, "--rank 0 is too small. Expected at least 1."),
        ({"energy": 0.0}, "--energy 0.0 is no share"),
        ({"energy": 1.5}, "--energy 1.5 is no share"),
        ({"sv_fro": -1.0}, "no share"),
        ({"sv_ratio": 0.5}, "--sv-ratio 0.5 is too small"),
        ({"energy": 0.9, "budget": 10}, "--energy and --budget each choose ranks"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, float], text: str) -> None:
    with pytest.raises(UsageError, match=text.replace(".", r"\.")):
        Cutting(**settings)  # type: ignore[arg-type]
