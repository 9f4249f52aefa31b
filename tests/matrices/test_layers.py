"""Which numbers of a name count layers, and the order of nested ones."""

import itertools

import pytest

from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.errors import UsageError
from spectra.matrices import Selection, views_of
from spectra.matrices.layers import expert_in, layers_of, place_in
from spectra.text import natural

PLACES = {
    "model.layers.7.self_attn.q_proj.weight": ("model.layers.", (7,)),
    "layers.3.weight": ("layers.", (3,)),
    "features.0.conv.weight": ("features.", (0,)),
    "mlp.2.weight": None,
    "layer10.weight": None,
    # Stages of blocks.
    "stages.1.blocks.2.attn.qkv.weight": ("stages.1.blocks.", (1, 2)),
    "swin.encoder.layers.0.blocks.5.attention.self.query.weight": (
        "swin.encoder.layers.0.blocks.", (0, 5),
    ),
    "swin.encoder.layers.0.downsample.reduction.weight": ("swin.encoder.layers.", (0,)),
    "down_blocks.1.attentions.0.transformer_blocks.2.attn1.to_q.weight": (
        "down_blocks.1.attentions.0.transformer_blocks.", (1, 0, 2),
    ),
    "down_blocks.1.resnets.0.conv1.weight": ("down_blocks.1.resnets.", (1, 0)),
    "encoder.layer.2.transformer.layer.0.output.dense.weight": (
        "encoder.layer.2.transformer.layer.", (2, 0),
    ),
    "encoder.blocks.0.1.attention.q_head.weight": ("encoder.blocks.0.", (0, 1)),
    "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": (
        "albert.encoder.albert_layer_groups.0.albert_layers.", (0, 0),
    ),
    # Steps of a layer, and the lists of its modules.
    "decoder.block.2.layer.0.SelfAttention.q.weight": ("decoder.block.", (2,)),
    "encoder.stages.0.layers.1.layer.0.convolution.weight": ("encoder.stages.0.layers.", (0, 1)),
    "model.layers.0.self_attn.1.q_a_proj.weight": ("model.layers.", (0,)),
    "layers.3.attn.to_out.0.weight": ("layers.", (3,)),
    "encoder.layers.3.mlp.layers.0.weight": ("encoder.layers.", (3,)),
    "mask_decoder.output_hypernetworks_mlps.0.layers.1.weight": (
        "mask_decoder.output_hypernetworks_mlps.", (0,),
    ),
    "model.layers.7.mlp.experts.127.up_proj.weight": ("model.layers.", (7,)),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_a_name_tells_its_layers(name: str) -> None:
    found = place_in(name)
    assert (found and (found.prefix, found.numbers)) == PLACES[name]
    if found is not None:
        assert name == f"{found.prefix}{found.numbers[-1]}.{found.rest}"


def blocks(*sizes: int) -> list[str]:
    return [f"stages.{s}.blocks.{b}.fc1.weight" for s, size in enumerate(sizes)
            for b in range(size)]  # fmt: skip


def test_nested_layers_are_numbered_through() -> None:
    names = blocks(2, 3, 1)
    assert [layers_of(names)[name] for name in names] == list(range(6))
    assert list(layers_of(sorted(names, key=natural)).values()) == list(range(6))


def test_a_block_that_is_not_there_still_counts() -> None:
    names = blocks(3, 3)
    assert layers_of([names[0], names[2], names[4]]) == {names[0]: 0, names[2]: 2, names[4]: 4}


def test_a_single_number_is_the_layer_whatever_else_is_there() -> None:
    assert layers_of(["layers.5.a.weight", "layers.7.a.weight"]) == {
        "layers.5.a.weight": 5,
        "layers.7.a.weight": 7,
    }


def test_encoder_decoder_and_towers_are_stacks_of_their_own() -> None:
    sides = ("encoder", "decoder", "model.vision_tower")
    names = [f"{side}.layers.{n}.fc1.weight" for side in sides for n in range(2)]
    assert list(layers_of(names).values()) == [0, 1] * 3


def test_what_lies_beside_the_blocks_has_the_number_of_its_stage() -> None:
    names = [*blocks(3, 3), "stages.1.downsample.weight"]
    assert layers_of(names)["stages.1.downsample.weight"] == 1


def test_a_u_net_is_numbered_from_the_outermost_in() -> None:
    names = [f"down_blocks.{d}.attentions.{a}.transformer_blocks.{t}.ff.net.2.weight"
             for d, a, t in itertools.product((1, 2), range(2), range(3))]  # fmt: skip
    assert list(layers_of(names).values()) == list(range(12))


def test_layers_selects_the_third_block() -> None:
    entries = {name: TensorEntry(name, "F32", (4, 4), "x", 0, 64) for name in blocks(3, 3)}
    views = views_of(Checkpoint("x", "x", entries, {}))[0]
    assert [view.name for view in Selection(layers="2").apply(views)] == [
        "stages.0.blocks.2.fc1.weight"
    ]
    assert [view.role.layer for view in views] == list(range(6))


LONG = "1" * 5000


@pytest.mark.parametrize("name", [f"a.{LONG}", f"{LONG}.a", f"layers.{LONG}.w.weight"])
def test_a_number_without_measure_counts_nothing(name: str) -> None:
    assert place_in(name) is None
    assert expert_in(f"experts.{LONG}.weight") is None
    assert sorted([name, "a.2", "a.10"], key=natural)


def test_a_layer_without_measure_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--layers .* cannot be read"):
        Selection(layers=LONG)
