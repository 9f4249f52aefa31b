"""Which words name a repository of the Hub, a revision and a path in it."""

import re

import pytest
from huggingface_hub import parse_hf_uri
from huggingface_hub.errors import HfUriError
from hypothesis import given
from hypothesis import strategies as st

from spectra.checkpoint.hub.place import Place, place_of
from spectra.checkpoint.hub.repository import open_hub
from spectra.errors import CheckpointError

NAMES = {
    "org/name": ("org/name", None, ""),
    "org/name@main": ("org/name", "main", ""),
    "hf://org/name@v1.0": ("org/name", "v1.0", ""),
    "hf://models/org/name": ("org/name", None, ""),
    "hf://gpt2": ("gpt2", None, ""),
    "hf://gpt2@main": ("gpt2", "main", ""),
    "hf://gpt2@main/onnx/x.bin": ("gpt2", "main", "onnx/x.bin"),
    "org/name/model.gguf": ("org/name", None, "model.gguf"),
    "org/name/sub/file.gguf": ("org/name", None, "sub/file.gguf"),
    "org/name@v1/sub/file.gguf": ("org/name", "v1", "sub/file.gguf"),
    "hf://org/name@refs/pr/3": ("org/name", "refs/pr/3", ""),
    "hf://org/name@refs/pr/3/sub": ("org/name", "refs/pr/3", "sub"),
    "org/name@refs/convert/parquet-v2/x": ("org/name", "refs/convert/parquet-v2", "x"),
    "org/name/a b.safetensors": ("org/name", None, "a b.safetensors"),
    "org/name/ä": ("org/name", None, "ä"),
    "A.b_c-d/e.f": ("A.b_c-d/e.f", None, ""),
    "x" * 96 + "/y": ("x" * 96 + "/y", None, ""),
}

NO_NAMES = [
    "", ".", "..", "name", "name@main", "model.safetensors", "./x", "../x", "/abs", "/a/b", "~x/y",
    "~/x", "a\x00b", "a/b\x00", "a/b\n", "a/b\x1b[31m", "C:\\x", "C:/x", "a\\b/c", "org/", "/name",
    "org/name/", "org//name", "org/name//x", "org/name/.", "org/name/..", "org/name/../x",
    "org/name/a/./b", "org/..", "../name", "org/.name", "org/name.", "org/-name", "org/na--me",
    "org/na..me", "org/name.git", "or g/name", "örg/name", "org/name@", "org/name@/x",
    "org/name@a@b", "org/name@a..b", "org/name@..", "org/name@.", "org/name@a b",
    "org/name@refs/heads/main", "org/name@refs/pr/x", "org/name@refs/pr/3x",
    "org/name@refs/convert/..", "org/name@a:b",
    "org/name@a~1", "hf://", "hf:///x", "hf://gpt2/", "hf://../x", "hf://datasets/org/name",
    "datasets/org/name", "spaces/org", "http://org/name", "https://huggingface.co/org/name",
    "x" * 97 + "/y", "x/" + "y" * 97,
]  # fmt: skip


REPOSITORIES = re.compile(r"[aB0_.-]{1,4}/[aB0_.-]{1,4}(\.git)?", re.ASCII)
SPECS = re.compile(r"[aB]{1,2}/[a.-]{1,3}(@(refs/pr/3|[aB.-]{1,3}))?(/[aB.]{1,2}){0,2}", re.ASCII)


@pytest.mark.parametrize("spec", NAMES)
def test_words_of_the_grammar_are_read(spec: str) -> None:
    assert place_of(spec) == Place(*NAMES[spec])


@pytest.mark.parametrize("spec", NO_NAMES)
def test_other_words_are_no_name(spec: str) -> None:
    assert not place_of(spec)


def test_the_hubs_own_parser_reads_the_same() -> None:
    for spec, (repo, revision, path) in NAMES.items():
        if "/" in repo:
            twin = parse_hf_uri(f"hf://{spec.removeprefix('hf://')}")
            assert (twin.id, twin.revision, twin.path_in_repo) == (repo, revision, path)


@given(st.from_regex(SPECS, fullmatch=True))
def test_what_is_read_the_hubs_own_rules_read_alike(spec: str) -> None:
    found = place_of(spec)
    if found is not None:
        twin = parse_hf_uri(f"hf://{spec}")
        assert (twin.id, twin.revision, twin.path_in_repo) == (
            found.repo,
            found.revision,
            found.path,
        )


@given(st.from_regex(REPOSITORIES, fullmatch=True))
def test_every_repository_that_the_hub_allows_is_read_and_no_other(repo: str) -> None:
    try:
        parse_hf_uri(f"hf://{repo}")
    except HfUriError:
        assert not place_of(repo)
    else:
        assert place_of(repo) == Place(repo, None, "")


@pytest.mark.parametrize("spec", ["../x", "a\x1bb"])
def test_to_open_other_words_is_refused(spec: str) -> None:
    with pytest.raises(CheckpointError, match=r"Expected org/name") as caught:
        open_hub(spec, download=False)
    assert str(caught.value).isprintable()
