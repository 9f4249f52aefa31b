"""What is said around tables and pictures."""

import pytest

from spectra.report.sentences import made_of, models_named

PLACES = [
    ("/a/llama-7b/", "/a/llama-7b/model.safetensors", "llama-7b"),
    (".", "/models/llama-7b", "llama-7b"),
    ("..", "/models/llama-7b", "llama-7b"),
    ("/a/llama-7b/model.safetensors", "", "llama-7b/model.safetensors"),
    ("model", "/x/model", "model"),
    ("/", "/", "/"),
]


@pytest.mark.parametrize("owners", [True, False])
@pytest.mark.parametrize(("spec", "resolved", "name"), PLACES)
def test_models_go_by_their_base_names(spec: str, resolved: str, name: str, owners: bool) -> None:
    base = {"spec": spec, "resolved": resolved, "part": "base"}
    tuned = {"spec": "b", "resolved": "b", "part": "tuned"}
    found = {"command": "diff", "models": [base, tuned]}
    assert models_named(found, owners=owners) == f"{name} → b"


@pytest.mark.parametrize(("owners", "name"), [(True, "org/name@main"), (False, "name@main")])
def test_a_repository_goes_by_its_owner_where_asked(owners: bool, name: str) -> None:
    model = {"spec": "org/name@main", "resolved": "/cache/x", "part": "model"}
    assert models_named({"command": "spectrum", "models": [model]}, owners=owners) == name


@pytest.mark.parametrize(
    ("names", "said"), [("ab", "a, b"), ("abcd", "a, b, c, d"), ("abcde", "a, b, …, e")]
)
def test_a_series_names_four_at_most(names: str, said: str) -> None:
    models = [
        {"model": name, "spec": f"run/{name}", "resolved": "", "part": "model"} for name in names
    ]
    assert models_named({"command": "width", "models": models}) == said


def test_what_two_comparisons_share_is_named_once() -> None:
    base, one, other = (
        {"part": part, "digest": f"whole:{digit * 16}", "spec": part, "resolved": part}
        for part, digit in (("base", "0"), ("tuned", "1"), ("tuned", "2"))
    )
    sides = {"before": {"models": [base, one]}, "after": {"models": [base, other]}}
    found = {"command": "compare", "spectra": "1", "models": [], "summary": {"sides": sides}}
    told = ", ".join(f"{part} whole:{digit * 12}" for part, digit in
                     (("base", "0"), ("before tuned", "1"), ("after tuned", "2")))  # fmt: skip
    assert made_of(found, date=False) == f"spectra 1 · weights {told}"
