"""The generated table is that of the installed transformers."""

import json
from importlib.resources import files

import pytest
import transformers

from benchmarks.parameters.family import causal, entries
from spectra.architectures.parameters import class_of, holds, setting, table


def test_the_table_is_of_this_version_of_transformers() -> None:
    """Else: PYTHONPATH=tests python -m benchmarks.parameters."""
    assert table()["transformers"] == transformers.__version__
    assert len(table()["classes"]) > 250
    assert causal(table()["classes"]) == table()["causal"]


def test_the_table_is_small() -> None:
    path = files("spectra.architectures").joinpath("parameters.json")
    assert len(path.read_bytes()) < 2_000_000


@pytest.mark.parametrize("model_type", ["gpt2", "mixtral"])
def test_made_again_it_is_the_same(model_type: str) -> None:
    found = entries(model_type)
    known = table()["classes"]
    assert found
    assert json.loads(json.dumps(found)) == {name: known[name] for name in found}


def test_the_class_is_told_by_architectures_or_by_the_family_of_a_gguf_file() -> None:
    assert class_of({"architectures": ["BertModel"]}) == "BertModel"
    for config in (
        {},
        {"model_type": "bert"},
        {"architectures": ["MyModel"]},
        {"architectures": "BertModel"},
        {"architectures": ["BertModel", "BertForMaskedLM"]},
    ):
        assert class_of(config) is None
    assert class_of({"model_type": "llama"}, gguf=True) == "LlamaForCausalLM"
    assert class_of({"model_type": "gguf"}, gguf=True) is None


def test_a_setting_that_is_not_told_decides_nothing() -> None:
    assert holds({"a": True}, {"a": [True]}, {})
    assert not holds({"a": 1}, {"a": [True]}, {})
    assert not holds({}, {"a": [True]}, {})
    assert holds({"rank": 16}, {"rank": ["+"]}, {})
    assert holds({"rank": None}, {"rank": ["-"]}, {})
    assert not holds({"rank": 0}, {"rank": ["+"]}, {})
    assert not holds({"kind": "-"}, {"kind": ["+"]}, {})
    assert holds({"part": {"a": 0}}, {"part.a": ["-"]}, {})
    assert holds({"old": 3}, {"new": ["+"]}, {"new": ["old"]})
    assert setting({"part": 1}, "part.a", {}) == (False, None)
