"""Which matrices are compared, and which have nothing in common."""

from dataclasses import replace

import pytest

from policy.subjects import Fixed, facts, matrix
from spectra.policy.facts import Subject
from spectra.policy.peers import peers
from spectra.policy.rules import RULES


def shaped(name: str, role: str, rows: int, cols: int, **values: object) -> Subject:
    return replace(matrix(name, role, **values), rows=rows, cols=cols)


def groups(*subjects: Subject) -> list[list[str]]:
    """The names that share a key, largest group first."""
    found: dict[object, list[str]] = {}
    for name, key in peers(subjects).items():
        found.setdefault(key, []).append(name)
    return sorted(found.values(), key=lambda names: (-len(names), names))


def breaches(code: str, *subjects: Subject) -> list[str | None]:
    rule = RULES[code]
    return [one.matrix for one in rule.judge(facts(*subjects), Fixed(rule))]


def ctc(head: float) -> list[Subject]:
    """A recogniser of speech: four layers of LSTM and a head, none of a role that is known."""
    lstm = [
        shaped(f"rnn.weight_{part}_l{layer}", "other", 1024, 256, sigma_max=2.0 + 0.1 * layer,
               effective_share=0.8)
        for layer in range(4)
        for part in ("ih", "hh")
    ]  # fmt: skip
    return [*lstm, shaped("ctc.weight", "other", 29, 256, sigma_max=head, effective_share=0.15)]


@pytest.mark.parametrize("code", ["SPC204", "SPC301"])
def test_a_head_is_no_outlier_among_matrices_it_has_nothing_in_common_with(code: str) -> None:
    assert breaches(code, *ctc(head=25.0)) == []


@pytest.mark.parametrize("role", ["other", "conv", "embed"])
def test_outside_the_roles_that_say_something_one_name_and_one_shape_are_alike(role: str) -> None:
    blocks = [shaped(f"h.{i}.mix.weight", role, 64, 64, sigma_max=1.0) for i in range(5)]
    jumped = shaped("h.5.mix.weight", role, 64, 64, sigma_max=40.0)
    first = shaped("h.6.mix.weight", role, 64, 9, sigma_max=40.0)
    lone = shaped("stem.weight", role, 64, 64, sigma_max=40.0)
    assert breaches("SPC204", *blocks, jumped, first, lone) == ["h.5.mix.weight"]


def test_towers_of_one_model_are_apart() -> None:
    """Both halves of a model have an `attn.q`; ten times as strong is how one of them is."""
    text = [matrix(f"text.layers.{i}.q_proj", sigma_max=1.0) for i in range(12)]
    vision = [matrix(f"vision.layers.{i}.q_proj", sigma_max=20.0) for i in range(4)]
    assert breaches("SPC204", *text, *vision) == []
    sick = matrix("vision.layers.4.q_proj", sigma_max=400.0)
    assert breaches("SPC204", *text, *vision, sick) == [sick.name]


def test_few_of_a_name_are_compared_with_the_few_others_of_their_role() -> None:
    few = [matrix(f"h.{i}.{name}", sigma_max=1.0) for i in range(3) for name in ("q", "cross.q")]
    assert breaches("SPC204", *few, matrix("h.9.first.q", sigma_max=40.0)) == ["h.9.first.q"]


def test_the_few_of_another_stack_are_apart() -> None:
    text = [matrix(f"text.layers.{i}.q_proj", sigma_max=1.0) for i in range(3)]
    vision = [matrix(f"vision.layers.{i}.q_proj", sigma_max=40.0) for i in range(2)]
    assert breaches("SPC204", *text, *vision) == []


def test_experts_and_dense_layers_are_apart() -> None:
    dense = [matrix(f"h.{i}.up", "mlp.up") for i in range(3)]
    experts = [
        replace(matrix(f"h.{i}.experts.up[expert={e}]", "mlp.up"), layer=i, expert=e)
        for i in range(3, 5)
        for e in range(3)
    ]
    assert groups(*dense, *experts) == [[e.name for e in experts], [d.name for d in dense]]


def test_layers_and_listed_experts_are_one() -> None:
    listed = [matrix(f"h.{i}.experts.{e}.w1.weight", "mlp.gate") for i in range(2) for e in (0, 1)]
    assert groups(*listed) == [[one.name for one in listed]]


def test_a_list_of_different_layers_has_no_like() -> None:
    net = [shaped(f"net.{2 * i}.weight", "other", 8 << i, 4 << i) for i in range(5)]
    assert [len(group) for group in groups(*net)] == [1] * 5
