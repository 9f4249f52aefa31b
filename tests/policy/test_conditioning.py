from dataclasses import replace

from policy.subjects import Fixed, facts, matrix
from spectra.policy.facts import Facts, Subject
from spectra.policy.rules import RULES


def found(code: str, model: Facts, **given: object) -> list[str | None]:
    rule = RULES[code]
    return [one.matrix for one in rule.judge(model, Fixed(rule, given))]


def role(key: str, *values: float | None) -> list[Subject]:
    return [replace(matrix(f"h.{i}.q"), values={key: value}) for i, value in enumerate(values)]


def test_kappa_has_no_limit_until_a_policy_sets_one() -> None:
    model = facts(*role("kappa", 1e5, 1e9, None))
    assert found("SPC201", model) == []
    assert found("SPC201", model, warn=1e6) == ["h.1.q"]


def test_an_exact_zero_is_singular_and_zero_rows_have_a_rule_of_their_own() -> None:
    model = facts(
        matrix("h.0.q", sigma_max=2.0, sigma_min=0.0, resolved_rank=7),
        matrix("h.1.q", sigma_max=1.0, sigma_min=0.0, resolved_rank=7, zero_rows=1),
        matrix("h.2.q", sigma_max=2.0, sigma_min=1e-12, resolved_rank=8),
        matrix("h.3.q"),
    )
    assert found("SPC203", model) == ["h.0.q"]
    rule = RULES["SPC203"]
    message = next(iter(rule.judge(model, Fixed(rule)))).message
    assert message == "the smallest of its 8 singular values is 0 (resolved rank 7)"


def test_a_singular_matrix_of_full_resolved_rank_is_told_without_contradiction() -> None:
    rule = RULES["SPC203"]
    model = facts(matrix("h.0.q", sigma_max=1e30, sigma_min=0.0, resolved_rank=8))
    (breach,) = rule.judge(model, Fixed(rule))
    assert breach.message == (
        "the smallest of its 8 singular values is 0 beside the largest, 1e30: "
        "too far apart for float64"
    )
    unknown = facts(matrix("h.0.q", sigma_max=None, sigma_min=0.0, resolved_rank=None))
    (breach,) = rule.judge(unknown, Fixed(rule))
    assert breach.message == "the smallest of its 8 singular values is 0"


def test_the_largest_singular_value_is_judged_by_role_and_by_baseline() -> None:
    model = facts(*role("sigma_max", 1.0, 1.1, 0.9, 1.0, 40.0))
    assert found("SPC204", model) == ["h.4.q"]
    before = facts(*role("sigma_max", 1.0, 1.1, 0.4, 1.0, 39.0))
    assert found("SPC204", facts(*model.subjects.values(), baseline=before)) == ["h.2.q", "h.4.q"]


def test_a_kappa_far_off_its_role_is_found_and_squares_are_given_room() -> None:
    squares = role("kappa_excess", 1.2, 0.8, 1.1, 1.0, 1e4)
    assert found("SPC202", facts(*squares)) == []
    assert found("SPC202", facts(*squares), squares=1e3) == ["h.4.q"]
    long = [replace(one, rows=16) for one in squares]
    assert found("SPC202", facts(*long)) == ["h.4.q"]


def test_a_rank_is_exactly_or_in_effect_too_low_and_told_once() -> None:
    model = facts(
        matrix("h.0.q", resolved_share=0.1, effective_share=0.05),
        *(matrix(f"h.{i}.q", resolved_share=1.0, effective_share=0.6) for i in range(1, 6)),
        matrix("h.6.q", resolved_share=1.0, effective_share=0.15),
        matrix("h.7.q", resolved_share=1.0, effective_share=0.09),
        matrix("h.8.q", resolved_share=0.0, effective_share=0.0, sigma_max=0.0),
    )
    rule = RULES["SPC301"]
    told = {one.matrix: one.message for one in rule.judge(model, Fixed(rule))}
    assert list(told) == ["h.0.q", "h.6.q", "h.7.q"]
    assert told["h.0.q"] == "rank above rounding 10 % < 50 % allowed"
    assert "4 times below the median of its like" in told["h.6.q"]
    assert told["h.7.q"] == "effective rank 9 % < 10 % allowed"
    assert found("SPC301", model, rank=None, min=None, outlier=100) == []


def test_tables_may_be_smooth_unless_a_policy_says_otherwise() -> None:
    table = matrix("wpe", "embed", resolved_share=1.0, effective_share=0.04)
    assert found("SPC301", facts(table)) == []
    assert found("SPC301", facts(table), min=0.05) == ["wpe"]
    assert found("SPC301", facts(replace(table, role="attn.q"))) == ["wpe"]
    assert found("SPC301", facts(matrix("wte", "embed", resolved_share=0.2))) == ["wte"]


def test_alpha_has_a_range() -> None:
    model = facts(*role("alpha", 1.5, 3.0, 9.0, None))
    assert found("SPC302", model) == []
    assert found("SPC302", model, min=2, max=6) == ["h.0.q", "h.2.q"]
    assert found("SPC302", model, error=8, warn=2.5) == ["h.1.q", "h.2.q"]  # upwards alone


def test_spikes_may_not_grow_beyond_what_a_policy_allows() -> None:
    before = facts(*role("spikes", 10, 10))
    model = facts(*role("spikes", 14, 16), baseline=before)
    assert found("SPC303", model, **{"max-regression": 0.5}) == ["h.1.q"]


def test_each_role_that_does_not_match_the_proxy_is_found() -> None:
    rule = RULES["SPC401"]
    matching = [
        {"role": "attn.q", "ratio": 1.5, "ok": False},
        {"role": "attn.k", "ratio": 1.05, "ok": True},
        {"role": "attn.v", "ratio": None, "ok": None},
    ]
    told = list(rule.judge(Facts({}, proxy={"matching": matching}), Fixed(rule)))
    assert [(one.subject, one.value, one.matrix) for one in told] == [("attn.q", 1.5, None)]
    assert list(rule.judge(Facts({}), Fixed(rule))) == []
