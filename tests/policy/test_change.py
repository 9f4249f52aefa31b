from dataclasses import replace

import pytest

from policy.subjects import Fixed, facts, matrix
from spectra.policy.facts import Facts
from spectra.policy.rules import RULES
from spectra.words import VECTOR


def found(code: str, model: Facts, **given: object) -> list[tuple[str | None, str]]:
    rule = RULES[code]
    return [(one.matrix, one.message) for one in rule.judge(model, Fixed(rule, given))]


def tuned(moved: list[bool]) -> Facts:
    base = facts(*(matrix(f"h.{i}.q", digest=f"d{i}") for i in range(len(moved))))
    return facts(
        *(matrix(f"h.{i}.q", delta_norm=float(m), delta_relative=m / 10, digest=f"t{i}")
          for i, m in enumerate(moved)),
        base=base,
    )  # fmt: skip


def test_an_untouched_matrix_among_changed_ones_is_found() -> None:
    told = found("SPC104", tuned([True, True, False, True]))
    assert told == [("h.2.q", "equals the base, though 75 % of attn.q changed")]


@pytest.mark.parametrize("moved", [[True] * 4, [False] * 4, [True, False, False, True]], ids=str)
def test_a_role_that_did_not_mostly_change_is_left_alone(moved: list[bool]) -> None:
    assert found("SPC104", tuned(moved)) == []


def test_too_few_matrices_tell_nothing_unless_the_policy_expects_a_change() -> None:
    assert found("SPC104", tuned([True, True, False])) == []
    told = found("SPC104", tuned([True, True, False]), expect=["*.q"])
    assert told == [("h.2.q", "equals the base, though the policy expects it to change")]


def test_only_allowed_tensors_may_change_vectors_included() -> None:
    base = facts(matrix("h.0.q", digest="a"), matrix("h.0.norm", VECTOR, digest="n"))
    model = facts(
        matrix("h.0.q", digest="b", delta_norm=1.0, delta_relative=0.05),
        matrix("h.0.norm", VECTOR, digest="m"),
        base=base,
    )
    assert found("SPC105", model) == []
    assert [name for name, _ in found("SPC105", model, allowed=["*.q"])] == ["h.0.norm"]
    told = dict(found("SPC105", model, allowed=["*.norm"]))
    assert told == {
        "h.0.q": "changed by 5 % of the base's norm, and is not among the modules allowed to"
    }
    assert found("SPC105", model, allowed=["*"]) == []


def test_a_lower_bound_of_a_rank_breaks_a_limit_or_is_said_to_be_one() -> None:
    model = facts(
        matrix("h.0.q", delta_rank=2458, delta_rank_status="at least"),
        matrix("h.1.q", delta_rank=16, delta_rank_status="ok"),
        matrix("h.2.q", delta_rank=30, delta_rank_status="ok"),
        base=facts(),
    )
    assert found("SPC103", model) == []
    assert found("SPC103", model, max=20) == [
        ("h.0.q", "rank of the update at least 2,458 > 20 allowed"),
        ("h.2.q", "rank of the update 30 > 20 allowed"),
    ]
    told = "rank of the update at least 2,458, which is a bound: whether it is above the 3,000 "
    assert found("SPC103", model, max=3000) == [("h.0.q", told + "allowed is not known")]


def test_values_under_another_name_are_misplaced() -> None:
    base = facts(matrix("h.0.q", digest="a"), matrix("h.0.k", "attn.k", digest="b"))
    swapped = facts(matrix("h.0.q", digest="b"), matrix("h.0.k", "attn.k", digest="a"), base=base)
    assert found("SPC106", swapped) == [
        ("h.0.q", "holds the values that the base has in h.0.k"),
        ("h.0.k", "holds the values that the base has in h.0.q"),
    ]


def test_equal_matrices_of_the_base_are_no_swap() -> None:
    base = facts(matrix("h.0.q", digest="a"), matrix("h.1.q", digest="a"))
    assert found("SPC106", facts(*base.subjects.values(), base=base)) == []


def test_another_dtype_does_not_tell_whether_a_vector_changed() -> None:
    base = facts(matrix("n", VECTOR, digest="a"))
    model = facts(matrix("n", VECTOR, digest="b"), base=base)
    other = replace(model.subjects["n"], dtype="BF16")
    assert found("SPC105", facts(other, base=base), allowed=["x"]) == []
    assert len(found("SPC105", model, allowed=["x"])) == 1


def test_a_glob_may_be_of_the_tensor_that_a_matrix_lies_in() -> None:
    base = facts(matrix("h.0.qkv[q]", digest="a"))
    model = facts(matrix("h.0.qkv[q]", digest="b"), base=base)
    assert found("SPC105", model, allowed=["*.qkv"]) == []
    assert found("SPC105", model, allowed=["*[[]q]"]) != []
    still = facts(*base.subjects.values(), base=base)
    assert len(found("SPC104", still, expect=["*.qkv"])) == 1
