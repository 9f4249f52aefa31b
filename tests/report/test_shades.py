"""What is coloured red is what rules would find, and nothing that passes."""

import pytest

from report.html import documents
from spectra.policy.policy import rules_of
from spectra.report.shades import conditioning, findings, foreignness, intruders


def alike(kappas: list[float | None], rows: int, cols: int) -> list[documents.Document]:
    return [
        documents.identity(f"layers.{layer}.up.weight", "mlp.up", layer, rows, cols)
        | {"kappa": kappa, "status": "singular" if kappa is None else "ok"}
        for layer, kappa in enumerate(kappas)
    ]


def test_of_kappas_only_what_stands_off_its_like_is_bad() -> None:
    found = conditioning(alike([9.0, 10.0, 11.0, 10.0, 25.0, 400.0, None], 64, 16))
    assert found == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]


def test_a_square_may_have_any_kappa_that_chance_gives_it() -> None:
    found = conditioning(alike([2e3, 8e3, 3e3, 9e4, 4e3], 384, 384))
    assert found == [0.0] * 5
    assert conditioning(alike([2e3, 2e3, 2e3, 2e9, 2e3], 384, 384))[3] == 1.0


def test_without_its_like_a_kappa_is_not_judged() -> None:
    assert conditioning(alike([3.0, 1e9], 64, 16)) == [0.0, 0.0]


def test_the_limits_are_those_of_the_policy_in_force() -> None:
    rows = alike([9.0, 10.0, 11.0, 10.0, 25.0, 60.0], 64, 16)
    assert conditioning(rows) == [0.0] * 5 + [pytest.approx(0.025, abs=0.001)]

    def by(**settings: object) -> list[float | None]:
        return list(conditioning(rows, rules_of(settings)))

    assert by(rules={"SPC202": {"outlier": 5.0}})[-1] == 1.0
    assert by(rules={"SPC202": {"max": 4.0, "outlier": None}}) == [0.0] * 4 + [1.0, 1.0]
    only = {"tensors": ["layers.5.*"], "rules": {"SPC202": {"outlier": 5.0}}}
    assert by(overrides=[only]) == [0.0] * 5 + [1.0]
    off = {"tensors": ["layers.5.*"], "off": ["SPC2"]}
    assert by(overrides=[off])[-1] == 0.0
    assert by(ignore=["SPC202"], rules={"SPC202": {"outlier": 5.0}}) == list(conditioning(rows))


@pytest.mark.parametrize("odd", [None, 3, "x", [3], {"SPC202": 3}, {"SPC202": {"outlier": "x"}}])
def test_settings_that_no_policy_has_tell_nothing(odd: object) -> None:
    rows = alike([9.0, 10.0, 11.0, 10.0, 25.0, 60.0], 64, 16)
    for key in ("rules", "overrides", "select"):
        assert len(conditioning(rows, rules_of({key: odd}))) == len(rows)


def test_counts_and_cosines_have_ends_of_their_own() -> None:
    assert findings([{"against": count} for count in (0, 1, 3, 9)]) == [0.0, 0.5, 1.0, 1.0]
    details = [{"max_cos": 0.9}] * 5
    assert intruders([{"intruders": 1, "intruder_detail": details}, {"intruders": 0}, {}]) == [
        0.2, 0.0, None,
    ]  # fmt: skip
    assert foreignness([{"worst_cos": 1.0}, {"worst_cos": 0.25}, {}]) == [0.0, 0.75, None]
