"""What is said around tables and pictures."""

import pytest

from spectra.report.sentences import models_named

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
