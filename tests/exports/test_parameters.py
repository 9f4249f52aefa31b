"""Parameters as they are in memory, told from the file alone: against the models themselves."""

from pathlib import Path

import pytest

from exports.subjects import named, tiny, view
from matrices.tiny import MODELS
from spectra.architectures.table import USUAL, table
from spectra.checkpoint import Checkpoint
from spectra.errors import UsageError
from spectra.exports.installed import layers_of
from spectra.exports.memory import Memory, memory_of
from spectra.exports.parameters import Parameter, parameters_of, targets_of

SMALL_MPT = {
    "model_type": "mpt", "architectures": ["MptForCausalLM"], "d_model": 4, "n_heads": 2,
    "n_layers": 1, "vocab_size": 4,
}  # fmt: skip
TABLE_ALONE = pytest.mark.parametrize("told_by", ["installed", "table"])


def read(checkpoint: Checkpoint, told_by: str) -> tuple[Memory, dict[str, Parameter]]:
    """Return what the installed transformers tells, or the table where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        if told_by == "table":
            patch.setattr("spectra.exports.memory.installed", lambda *_: None)
        memory = memory_of(checkpoint)
    return memory, parameters_of(checkpoint, memory)


@TABLE_ALONE
@pytest.mark.parametrize("family", MODELS)
def test_names_and_shapes_are_those_in_memory(family: str, told_by: str, tmp_path: Path) -> None:
    subject = tiny(family, tmp_path)
    in_memory = {
        name: tuple(parameter.shape)
        for name, parameter in subject.model.named_parameters(remove_duplicate=False)
    }
    (kind,) = subject.checkpoint.config["architectures"]
    if told_by == "table" and kind not in table().kinds:  # no default configuration builds it
        with pytest.raises(UsageError, match=f"the class '{kind}' of model_type .* is not known"):
            read(subject.checkpoint, told_by)
        return
    memory, found = read(subject.checkpoint, told_by)
    holding = {name: one.shape for name, one in found.items() if one.matrices}
    assert holding.items() <= in_memory.items()
    assert {name for one in found.values() for name in one.matrices} == set(subject.views)
    layers = layers_of(subject.model)
    for name in (one for one in holding if one.endswith(".weight")):
        module = name.rpartition(".")[0]
        told, true = memory.layers[module].kind, layers[module].kind
        assert told == true or {told, true} <= USUAL, name


@TABLE_ALONE
def test_spans_that_touch_are_one_and_reach_over_the_whole(told_by: str) -> None:
    tensor = "transformer.blocks.0.attn.Wqkv.weight"
    checkpoint = named(tensor, shape=(12, 4), **SMALL_MPT)  # thirds: q, k, v
    _, parameters = read(checkpoint, told_by)
    q, k, v = (view(checkpoint, f"{tensor}[{part}]") for part in "qkv")
    assert targets_of([q], parameters)[0].spans == ((0, 4),)
    assert targets_of([k, q], parameters)[0].spans == ((0, 8),)
    assert targets_of([v, q], parameters)[0].spans == ((0, 4), (8, 12))
    whole = targets_of([v, k, q], parameters)[0]
    assert whole.is_whole
    assert not whole.told()
    assert targets_of([k], parameters)[0].trained(spans=True) == [k.name]
    assert len(targets_of([k], parameters)[0].trained()) == 3
