"""Parameters as they are in memory, told from the file alone: against the models themselves."""

from pathlib import Path

import pytest

from matrices.tiny import MODELS
from report.exports.subjects import named, tiny, view
from spectra.report.exports.parameters import parameters_of, targets_of


@pytest.mark.parametrize("family", MODELS)
def test_names_and_shapes_are_those_in_memory(family: str, tmp_path: Path) -> None:
    subject = tiny(family, tmp_path)
    in_memory = {
        name: tuple(parameter.shape)
        for name, parameter in subject.model.named_parameters(remove_duplicate=False)
    }
    found = parameters_of(subject.checkpoint)
    holding = {name: one.shape for name, one in found.items() if one.matrices}
    assert holding.items() <= in_memory.items()
    assert {name for one in found.values() for name in one.matrices} == set(subject.views)
    tied = {"head", "decoder", "embed_tokens"}  # stored once; the file has the other name
    for name in in_memory.keys() - found.keys():
        assert name.split(".")[-1] in {"e_score_correction_bias"} or any(
            word in name for word in tied
        ), name


def test_spans_that_touch_are_one_and_reach_over_the_whole() -> None:
    checkpoint = named(
        "m.0.attn.Wqkv.weight", shape=(12, 4), model_type="mpt", n_heads=2
    )  # thirds: q, k, v
    parameters = parameters_of(checkpoint)
    q, k, v = (view(checkpoint, f"m.0.attn.Wqkv.weight[{part}]") for part in "qkv")
    assert targets_of([q], parameters)[0].spans == ((0, 4),)
    assert targets_of([k, q], parameters)[0].spans == ((0, 8),)
    assert targets_of([v, q], parameters)[0].spans == ((0, 4), (8, 12))
    whole = targets_of([v, k, q], parameters)[0]
    assert whole.is_whole
    assert not whole.told()
    assert targets_of([k], parameters)[0].trained(spans=True) == [k.name]
    assert len(targets_of([k], parameters)[0].trained()) == 3


def test_experts_that_are_not_complete_stay_as_they_are_stored() -> None:
    names = [f"m.mlp.experts.{i}.down_proj.weight" for i in (0, 2)]
    assert set(parameters_of(named(*names))) == set(names)
