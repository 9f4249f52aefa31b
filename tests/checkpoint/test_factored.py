"""Which stored tensors are factors of one weight, and what that weight is."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import spectra
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.codecs.composed import Product
from spectra.errors import CheckpointError

ROWS, COLS, RANK = 24, 20, 6


def write(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, object] | None = None,
    **beside: Mapping[str, object],
) -> Checkpoint:
    """Save and open a model, with JSON files beside it."""
    folder.mkdir(exist_ok=True)
    save_file({name: one.contiguous() for name, one in tensors.items()},
              folder / "model.safetensors")  # fmt: skip
    for name, told in {"config": config, **beside}.items():
        if told is not None:
            (folder / f"{name}.json").write_text(json.dumps(told))
    opened = spectra.open(folder)
    assert isinstance(opened, Checkpoint)
    return opened


def factors(
    generator: torch.Generator, rows: int = ROWS, cols: int = COLS
) -> tuple[Tensor, Tensor]:
    return (
        torch.randn(rows, RANK, generator=generator),
        torch.randn(RANK, cols, generator=generator),
    )


@pytest.mark.parametrize(
    ("left", "right", "whole"),
    [
        ("h.0.attn.q_u_proj", "h.0.attn.q_v_proj", "h.0.attn.q_proj"),
        ("h.0.attn.v_u_proj", "h.0.attn.v_v_proj", "h.0.attn.v_proj"),
        ("h.0.mlp.down_u_proj", "h.0.mlp.down_v_proj", "h.0.mlp.down_proj"),
        ("h.0.fc1_u_proj", "h.0.fc1_v_proj", "h.0.fc1"),
        ("h.0.q_proj.ALinear", "h.0.q_proj.BLinear", "h.0.q_proj"),
        ("h.0.anything.U", "h.0.anything.V", "h.0.anything"),
        ("h.0.query.1", "h.0.query.0", "h.0.query"),
        ("h.0.o_proj.up", "h.0.o_proj.down", "h.0.o_proj"),
    ],
)
def test_factors_are_one_weight_by_the_whole_ones_name(
    tmp_path: Path, generator: torch.Generator, left: str, right: str, whole: str
) -> None:
    up, down = factors(generator)
    model = write(tmp_path, {f"{left}.weight": up, f"{right}.weight": down})
    assert list(model.entries) == [f"{whole}.weight"]
    entry = model.entries[f"{whole}.weight"]
    assert entry.shape == (ROWS, COLS)
    assert entry.nbytes == 4 * RANK * (ROWS + COLS)
    torch.testing.assert_close(model.read(entry), (up.double() @ down.double()).float())
    torch.testing.assert_close(model.read(entry, (3, 9)), model.read(entry)[3:9])


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"mlp.up": (32, 8), "mlp.down": (8, 32)}, "a feed-forward's own two matrices"),
        ({"mlp.0": (32, 8), "mlp.1": (16, 32)}, "two layers"),
        ({"query.0": (4, 8), "query.1": (4, 4), "query.2": (8, 4)}, "three layers"),
        ({"q_proj.U": (24, 20), "q_proj.V": (20, 20)}, "nothing is shorter inside"),
        ({"q_proj.U": (24, 6), "q_proj.V": (5, 20)}, "sides differ"),
        ({"q_u_proj": (24, 6)}, "one of them"),
        ({"q_proj.U": (24, 6), "q_proj.V": (6, 20), "q_proj": (24, 20)}, "the whole is there too"),
    ],
)
def test_what_only_looks_like_factors_is_left_as_it_is(
    tmp_path: Path, tensors: Mapping[str, tuple[int, int]], why: str
) -> None:
    model = write(tmp_path, {f"h.0.{name}.weight": torch.ones(shape)
                             for name, shape in tensors.items()})  # fmt: skip
    assert {entry.shape for entry in model.entries.values()} == set(tensors.values()), why
    assert all(entry.codec is None for entry in model.entries.values())


def test_factors_of_a_layer_that_do_not_fit_are_told(
    tmp_path: Path, generator: torch.Generator
) -> None:
    up, down = factors(generator)
    names = {"h.0.q_u_proj.weight": up, "h.0.q_v_proj.weight": down[1:].clone(),
             "h.0.gram.U.weight": up.clone(), "h.0.gram.V.weight": down[2:].clone()}  # fmt: skip
    model = write(tmp_path, names)
    (skipped,) = model.skipped  # what no layer is called like may be anything
    assert skipped.tensor == "h.0.q_proj.weight"
    shapes = f"[{ROWS}, {RANK}] and h.0.q_v_proj.weight [{RANK - 1}, {COLS}]"
    assert skipped.reason == f"its factors h.0.q_u_proj.weight {shapes} do not fit each other"
    assert set(model.entries) == set(names)


def test_a_layer_that_its_family_holds_turned_is_turned(
    tmp_path: Path, generator: torch.Generator
) -> None:
    up, down = factors(generator, 60, 20)
    names = {"h.0.attn.c_attn.U.weight": up, "h.0.attn.c_attn.V.weight": down}
    told = {"model_type": "gpt2", "n_head": 2, "n_embd": 20}
    model = write(tmp_path, names, told)
    entry = model.entries["h.0.attn.c_attn.weight"]
    torch.testing.assert_close(model.read(entry), (up.double() @ down.double()).float().mT)
    rows = {row.matrix: row for row in spectra.spectrum(model).rows}
    assert len(rows) == 3
    for at, part in enumerate("qkv"):
        own = torch.linalg.svdvals(up[20 * at : 20 * at + 20].double() @ down.double())
        told_of = rows[f"h.0.attn.c_attn.weight[{part}]"]
        assert told_of.number("sigma_max") == pytest.approx(float(own[0]), rel=1e-12)
        assert told_of.number("sigma_min") == pytest.approx(float(own[RANK - 1]), rel=1e-9)


def test_groups_of_heads_share_a_projection_down(
    tmp_path: Path, generator: torch.Generator
) -> None:
    ups = [torch.randn(8, rank, generator=generator) for rank in (2, 3)]
    down = torch.randn(5, COLS, generator=generator)
    names = {f"k_proj.U.{at}.weight": up for at, up in enumerate(ups)} | {"k_proj.VT.weight": down}
    model = write(tmp_path, names)
    entry = model.entries["k_proj.weight"]
    expected = torch.cat([ups[0] @ down[:2], ups[1] @ down[2:]])
    torch.testing.assert_close(model.read(entry), expected)
    assert isinstance(entry.codec, Product)
    assert entry.codec.rank == 5


def sparse(generator: torch.Generator, **more: Tensor) -> dict[str, Tensor]:
    """A module of SLTrain's."""
    up, down = factors(generator)
    places = torch.randperm(ROWS * COLS, generator=generator)[:40].sort().values
    values = torch.randn(40, generator=generator)
    made = {"lora_A": down, "lora_B": up, "sparse_index": places, "sparse_value": values, **more}
    return {f"h.0.q_proj.{name}": one for name, one in made.items()}


def summed(tensors: Mapping[str, Tensor], scale: float) -> Tensor:
    """Return what SLTrain's layer multiplies with."""
    own = {name.rpartition(".")[2]: one for name, one in tensors.items()}
    whole = scale * own["lora_B"] @ own["lora_A"]
    whole.view(-1)[own["sparse_index"]] += own["sparse_value"]
    return whole


def test_low_rank_plus_sparse_is_one_weight(tmp_path: Path, generator: torch.Generator) -> None:
    tensors = sparse(generator)
    model = write(tmp_path, tensors, splora_config={"r": RANK, "lora_alpha": 15})
    assert list(model.entries) == ["h.0.q_proj.weight"]
    torch.testing.assert_close(
        model.read(model.entries["h.0.q_proj.weight"]), summed(tensors, 15 / RANK)
    )


def test_a_learnt_scale_goes_by_its_tanh(tmp_path: Path, generator: torch.Generator) -> None:
    tensors = sparse(generator, scaling=torch.tensor([0.7]))
    model = write(tmp_path, tensors)
    expected = summed(tensors, float(torch.tensor(0.7).tanh()))
    torch.testing.assert_close(model.read(model.entries["h.0.q_proj.weight"]), expected)


@pytest.mark.parametrize(("told", "why"), [
    (None, "'splora_config.json', which SLTrain saves, is not beside the weights. Write it there:"),
    ({"r": 4, "lora_alpha": 8}, """'splora_config.json' has "lora_alpha": 8, "r": 4, expected"""),
    ({"r": RANK}, f"""'splora_config.json' has "r": {RANK}, expected"""),
    ({"alpha": 8}, "'splora_config.json' has neither, expected"),
])  # fmt: skip
def test_a_scale_that_nothing_tells_is_not_guessed(
    tmp_path: Path, generator: torch.Generator, told: Mapping[str, object] | None, why: str
) -> None:
    model = write(tmp_path, sparse(generator), **({"splora_config": told} if told else {}))
    (skipped,) = model.skipped
    assert skipped.tensor == "h.0.q_proj.weight"
    assert "lora_alpha / r is not known" in skipped.reason
    assert skipped.reason.endswith(f'{why} {{"lora_alpha": ..., "r": {RANK}}}')
    left = {"h.0.q_proj.weight[sparse]", "h.0.q_proj.lora_A", "h.0.q_proj.lora_B"}
    assert set(model.entries) == left


def test_places_outside_the_matrix_are_refused(tmp_path: Path, generator: torch.Generator) -> None:
    tensors = sparse(generator)
    tensors["h.0.q_proj.sparse_index"][-1] = ROWS * COLS
    model = write(tmp_path, tensors, splora_config={"r": RANK, "lora_alpha": 6})
    with pytest.raises(CheckpointError, match=r"sparse_index.*expected 0 to 479"):
        model.read(model.entries["h.0.q_proj.weight"])
