"""What moved is written once: values, their difference, and the least that it can be."""

import pytest

from spectra.numbers import at_least
from spectra.report.changes import beyond_text, sentence, values_text

MOVE = {"index": None, "was": None, "now": None}


@pytest.mark.parametrize(
    ("key", "before", "after", "beyond", "text"),
    [
        ("energy_rank", 258, 0, -246.792, "-247"),  # counts move by whole ones
        ("delta_rank", 0, 36, 34.7072, "+35"),
        ("numerical_rank", 384, 383, -1.0, "-1"),
        ("sigma_max", 3.0, 3.9, 0.8999, "+29.9 %"),  # rounded up it would be no bound
        ("sigma_max", 4.788, 0.0, -4.78799, "-99.9 %"),
        ("kappa", 34.71, 1.384e10, 1.3776e10, "× 3.96e8"),
        ("kappa", 28900.0, None, 5.8639e12, "× 2.02e8"),  # singular, or known by a bound
        ("kappa", None, 28900.0, -5.8639e12, "÷ 2.02e8"),
        ("kappa", None, 30.0, -6.0, "-16.6 %"),
        ("kappa", 30.0, None, 6.0, "+20 %"),
        ("worst_cos", 0.5, None, -0.375, "÷ 4"),
        ("worst_cos", None, 0.5, 0.375, "× 4"),
        ("delta_rank", None, 9, -3.2, "-4"),
        ("sigma_max", 3.0, None, None, "—"),
    ],
)
def test_the_least_of_a_move_is_a_bound(
    key: str, before: float, after: float | None, beyond: float | None, text: str
) -> None:
    assert beyond_text(
        {**MOVE, "key": key, "before": before, "after": after, "beyond": beyond}
    ) == (text)


def test_a_bound_is_rounded_to_where_it_still_is_one() -> None:
    assert [at_least(value) for value in (1.2399, -1.2399, 0.0, float("inf"))] == [
        1.23, -1.23, 0.0, float("inf"),
    ]  # fmt: skip


def test_a_quantity_is_named_once() -> None:
    move = {**MOVE, "key": "kappa", "before": 3260.0, "after": 81800.0}
    assert values_text(move) == "3,260 → 81,800 (× 25.09)"
    assert sentence(move) == "kappa 3,260 → 81,800 (× 25.09)"
    inside = {**MOVE, "key": "sigma_profile", "index": 6, "before": 2.0, "after": 1.0}
    assert sentence(inside) == values_text(inside) == "sigma_7 2 → 1 (÷ 2)"
