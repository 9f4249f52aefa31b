"""Which tuned name belongs to which base name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import PairingError
from spectra.matrices.pairing import match_names

SUBJECT = "tensor of runs/tuned"


def test_equal_names_belong_together() -> None:
    names = ["a.weight", "b.weight"]
    assert match_names(names, names, SUBJECT) == ({name: name for name in names}, [])


def test_a_prefix_that_the_base_lacks_is_ignored() -> None:
    found, unmatched = match_names(
        ["encoder.layer.0.weight"], ["bert.encoder.layer.0.weight"], SUBJECT
    )
    assert found == {"encoder.layer.0.weight": "bert.encoder.layer.0.weight"}
    assert unmatched == []


def test_a_prefix_that_the_tuned_model_lacks_is_ignored() -> None:
    found, unmatched = match_names(["model.layers.0.weight"], ["layers.0.weight"], SUBJECT)
    assert found == {"model.layers.0.weight": "layers.0.weight"}
    assert unmatched == []


def test_names_end_with_each_other_from_a_dot_on() -> None:
    found, unmatched = match_names(["head.weight"], ["lm_head.weight", "ead.weight"], SUBJECT)
    assert found == {}
    assert unmatched == ["lm_head.weight", "ead.weight"]


@pytest.mark.parametrize(
    "tuned",
    [["x.a.weight", "a.weight"], ["a.weight", "x.a.weight"]],
    ids=["exact last", "exact first"],
)
def test_an_exact_name_wins_over_a_longer_one(tuned: list[str]) -> None:
    found, unmatched = match_names(["a.weight"], tuned, SUBJECT)
    assert found == {"a.weight": "a.weight"}
    assert unmatched == ["x.a.weight"]


def test_an_exact_name_wins_over_a_shorter_one() -> None:
    found, unmatched = match_names(["m.a.weight"], ["m.a.weight", "a.weight"], SUBJECT)
    assert found == {"m.a.weight": "m.a.weight"}
    assert unmatched == ["a.weight"]


def test_the_longest_base_name_inside_is_meant() -> None:
    base = ["dense.weight", "pooler.dense.weight"]
    found, unmatched = match_names(base, ["bert.pooler.dense.weight"], SUBJECT)
    assert found == {"pooler.dense.weight": "bert.pooler.dense.weight"}
    assert unmatched == []


def test_what_matches_nothing_is_listed_in_order() -> None:
    found, unmatched = match_names(["a.weight"], ["z.bias", "a.weight", "b.weight"], SUBJECT)
    assert found == {"a.weight": "a.weight"}
    assert unmatched == ["z.bias", "b.weight"]


@pytest.mark.parametrize(("base", "tuned"), [([], []), (["a"], []), ([], ["a"])])
def test_nothing_matches_nothing(base: list[str], tuned: list[str]) -> None:
    assert match_names(base, tuned, SUBJECT) == ({}, tuned)


def test_a_short_name_inside_several_base_names_is_refused() -> None:
    base = [f"{side}.layers.0.weight" for side in ("encoder", "decoder", "vision", "text")]
    with pytest.raises(PairingError) as refusal:
        match_names(base, ["layers.0.weight"], SUBJECT)
    assert str(refusal.value) == (
        "tensor of runs/tuned 'layers.0.weight' matches several base tensors: "
        "'encoder.layers.0.weight', 'decoder.layers.0.weight', 'vision.layers.0.weight', .... "
        "Give the base it was trained on, or rename its tensors."
    )


def test_several_long_names_around_one_base_name_are_refused() -> None:
    tuned = ["text.layers.0.weight", "vision.layers.0.weight"]
    with pytest.raises(PairingError) as refusal:
        match_names(["layers.0.weight"], tuned, SUBJECT)
    assert str(refusal.value) == (
        "base tensor 'layers.0.weight' matches more than one tensor of runs/tuned: "
        "'text.layers.0.weight', 'vision.layers.0.weight'. "
        "Which one is meant is unknown; rename or remove the others."
    )


WORDS = st.sampled_from(["layers", "layer", "0", "1", "11", "attn", "mlp", "q", "weight", "bias"])
NAMES = st.lists(WORDS, min_size=1, max_size=5).map(".".join)
# Words that no base name has: a prefix that repeats the base's own words can make a tuned
# name equal to the name of another base tensor, and an exact name wins.
PREFIX = st.lists(st.sampled_from(["model", "bert", "base"]), min_size=1, max_size=3).map(".".join)


@given(st.sets(NAMES, min_size=1, max_size=30), PREFIX)
def test_any_prefix_on_all_tuned_names_still_matches_each(names: set[str], prefix: str) -> None:
    tuned = {f"{prefix}.{name}": name for name in names}
    found, unmatched = match_names(sorted(names), sorted(tuned), SUBJECT)
    assert found == {base: name for name, base in tuned.items()}
    assert unmatched == []


@given(st.sets(NAMES, max_size=30), st.sets(NAMES, max_size=30))
def test_each_tuned_name_is_matched_once_or_listed_or_refused(
    base: set[str], tuned: set[str]
) -> None:
    try:
        found, unmatched = match_names(sorted(base), sorted(tuned), SUBJECT)
    except PairingError:
        return
    assert set(found) <= base
    assert sorted([*found.values(), *unmatched]) == sorted(tuned)
    assert all(
        name == mine or name.endswith(f".{mine}") or mine.endswith(f".{name}")
        for mine, name in found.items()
    )
