"""Masks of principal weights: LIFT's rule in float64, and PEFT's SHiRA."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

import spectra.lowrank
from examples import write_model
from spectra.errors import NothingToAnalyseError, OutputError, UsageError
from spectra.words import Filter

from .nets import config_of, tensors_of
from .test_extracting import llama


def saved(model: LlamaForCausalLM | GPT2LMHeadModel, folder: Path) -> Path:
    model.save_pretrained(folder / "model")
    return folder / "model"


def twin(weight: Tensor, count: int, components: list[int]) -> Tensor:
    """Return the mask of the published script, in float64."""
    left, sigma, right = torch.linalg.svd(weight.double(), full_matrices=False)
    part = (left[:, components] * sigma[components] @ right[components]).abs().reshape(-1)
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[part.topk(count).indices] = True
    return mask.reshape(weight.shape)


@pytest.mark.parametrize(
    ("which", "components"),
    [
        ("largest", lambda short: list(range(5))),
        ("smallest", lambda short: list(range(short - 5, short))),
        ("hybrid", lambda short: [0, 1, short - 3, short - 2, short - 1]),
    ],
    ids=["largest", "smallest", "hybrid"],
)
def test_masks_are_those_of_the_published_script(
    tmp_path: Path, which: Filter, components: Callable[[int], list[int]]
) -> None:
    model = llama()
    place = tmp_path / "made"
    found = spectra.lowrank.mask(saved(model, tmp_path), place, rank=3, filter=which, filter_rank=5)
    weights, masks = model.state_dict(), load_file(place / "masks.safetensors")
    assert masks.keys() == {row.matrix for row in found.rows}
    assert len(masks) == 14
    assert not any("lm_head" in name or "embed" in name for name in masks)
    for name, mask in masks.items():
        weight = weights[name]
        rows, cols = weight.shape
        count = min((rows + cols) * 3, rows * cols)
        assert mask.dtype == torch.bool
        assert torch.equal(mask, twin(weight, count, components(min(weight.shape))))
        row = next(row for row in found.rows if row.matrix == name)
        assert row.number("mask_entries") == count == int(mask.sum())
        largest = torch.zeros(weight.numel(), dtype=torch.bool)
        largest[weight.abs().reshape(-1).topk(count).indices] = True
        overlap = int((largest.reshape(mask.shape) & mask).sum()) / count
        assert row.number("mask_overlap") == pytest.approx(overlap)


def test_random_directions_are_those_of_a_seed(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path)
    made = []
    for number, seed in enumerate((1, 1, 2)):
        place = tmp_path / str(number)
        spectra.lowrank.mask(base, place, rank=2, filter="random", filter_rank=4, seed=seed)
        made.append((place / "masks.safetensors").read_bytes())
    assert made[0] == made[1] != made[2]


def test_indices_are_those_of_the_mask(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=2, vocab_size=30))
    base = saved(model, tmp_path)
    for form in ("masks", "indices"):
        spectra.lowrank.mask(base, tmp_path / form, density=0.1, filter_rank=4, form=form)
    masks, places = (
        load_file(tmp_path / form / "masks.safetensors") for form in ("masks", "indices")
    )
    assert masks.keys() == places.keys()
    for name, mask in masks.items():
        assert torch.equal(mask.nonzero().mT, places[name].long())
        key = name.removeprefix("transformer.")
        weight = model.transformer.state_dict()[key]  # stored [in, out], and so is its mask
        assert mask.shape == weight.shape
        assert torch.equal(mask, twin(weight, round(0.1 * weight.numel()), [0, 1, 2, 3]))


def test_peft_reads_a_shira_adapter_that_changes_nothing_yet(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.mask(base, place, rank=2, filter_rank=4, form="shira")
    config = config_of(place)
    assert (config["peft_type"], config["r"]) == ("SHIRA", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        loaded: Any = peft.PeftModel.from_pretrained(
            copy.deepcopy(model), str(place), is_trainable=True
        )
    trained = {name for name, values in loaded.named_parameters() if values.requires_grad}
    assert len(trained) == len(found.rows) == 14
    weights = model.state_dict()
    for name, module in loaded.named_modules():
        if "shira_indices" not in vars(module):
            continue
        inner = name.removeprefix("base_model.model.")
        weight = weights[f"{inner}.weight"]
        rows, cols = module.shira_indices["default"].long()
        mask = torch.zeros_like(weight, dtype=torch.bool)
        mask[rows, cols] = True
        assert torch.equal(mask, twin(weight, 2 * sum(weight.shape), [0, 1, 2, 3]))
        assert not bool(module.shira_weight["default"].any())
    words = torch.arange(6)[None]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse invariant")
        torch.testing.assert_close(loaded(words).logits, model(words).logits)
    assert len(tensors_of(place)) == 28


def test_how_much_of_an_update_lies_in_a_mask(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    spectra.lowrank.mask(base, place, rank=3, filter_rank=5)
    masks = load_file(place / "masks.safetensors")
    tuned = copy.deepcopy(model)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, values in tuned.named_parameters():
            if "q_proj.weight" in name:  # all of it in the mask
                values.add_(0.1 * masks[name] * torch.randn(values.shape, generator=source))
            elif "up_proj.weight" in name:  # all of it elsewhere
                values.add_(0.1 * ~masks[name])
            elif "o_proj.weight" in name:
                values.add_(0.01 * torch.randn(values.shape, generator=source))
    tuned.save_pretrained(tmp_path / "tuned")
    found = spectra.lowrank.mask(
        base, tmp_path / "again", tuned=tmp_path / "tuned", rank=3, filter_rank=5
    )
    inside, total = 0.0, 0.0
    for row in found.rows:
        share = row.number("update_share")
        change = (tuned.state_dict()[row.matrix] - model.state_dict()[row.matrix]).double()
        if not bool(change.any()):
            assert share is None
            continue
        part = float(change[masks[row.matrix]].square().sum())
        assert share == pytest.approx(part / float(change.square().sum()), abs=1e-9)
        best = change.abs().reshape(-1).topk(int(masks[row.matrix].sum())).values.square().sum()
        assert row.number("update_best") == pytest.approx(
            float(best / change.square().sum()), rel=1e-5
        )
        inside, total = inside + part, total + float(change.square().sum())
    assert found.summary["update_share"] == pytest.approx(inside / total, rel=1e-6)
    assert "of the update's Σδ²" in str(found.summary["reading"])


def test_an_adapter_is_an_update_too(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "adapter"
    spectra.lowrank.init("pissa", base, place, rank=2, form="bare", role="attn.q,mlp")
    found = spectra.lowrank.mask(base, tmp_path / "made", tuned=place, rank=2, filter_rank=2)
    told = {row.place.role: row.number("update_share") for row in found.rows}
    assert told["attn.k"] is None
    # The update is what the mask was chosen by: no entries hold more.
    best = {row.place.role: row.number("update_best") for row in found.rows}
    assert told["attn.q"] == pytest.approx(best["attn.q"])
    assert any("no update" in note for note in found.summary["notes"])


def test_ties_are_told(tmp_path: Path) -> None:
    model = llama()
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.fill_(0.5)
    found = spectra.lowrank.mask(saved(model, tmp_path), tmp_path / "made", rank=2)
    row = next(row for row in found.rows if row.matrix.endswith("0.self_attn.q_proj.weight"))
    mask = load_file(tmp_path / "made" / "masks.safetensors")[row.matrix]
    assert int(mask.sum()) == 128
    assert bool(mask[:4].all())  # those that lie first
    assert row.number("mask_ties") == 32 * 32 - 128
    assert "entries tie at the cut" in str(found.summary["reading"])
    assert found.summary["undetermined"] == 0


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"density": 0.0}, "density=0.0 is no share"),
        ({"density": 0.1, "form": "shira"}, "goes with no SHiRA adapter"),
        ({"filter_rank": 0}, "filter_rank=0 is too small"),
        ({"rank": 0}, "rank=0 is too small"),
        ({"filter": "least"}, "filter='least' is not known."),
        ({"form": "mask"}, "Did you mean 'masks'?"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as refused:
        spectra.lowrank.mask.plan(tmp_path, tmp_path / "made", **given)
    assert text in str(refused.value)


def test_what_peft_would_refuse_is_left_out(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path)
    found = spectra.lowrank.mask(base, tmp_path / "made", rank=11, filter_rank=2, form="shira")
    told = {item.tensor: item.reason for item in found.skipped}
    assert "fewer entries" in told["model.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(NothingToAnalyseError, match="fewer entries"):
        spectra.lowrank.mask.plan(base, tmp_path / "no", rank=100, form="shira")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    base, place = saved(llama(), tmp_path), tmp_path / "made"
    spectra.lowrank.mask(base, place, rank=2)
    before = (place / "masks.safetensors").read_bytes()
    with pytest.raises(OutputError, match="nothing is overwritten"):
        spectra.lowrank.mask.plan(base, place, rank=3)
    spectra.lowrank.mask(base, place, rank=3, force=True)
    assert (place / "masks.safetensors").read_bytes() != before
    (place / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="was not written here"):
        spectra.lowrank.mask.plan(base, place, rank=3, force=True)
    assert json.loads(
        _metadata(place / "masks.safetensors")["spectra_sources"]
    )[0]["digest"].startswith("sha256:")  # fmt: skip


def _metadata(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    told: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    found: dict[str, str] = told["__metadata__"]
    return found


def test_a_rank_beside_a_density_is_told_to_do_nothing(tmp_path: Path) -> None:
    model = write_model(tmp_path / "base", {"model.layers.0.mlp.up_proj.weight": torch.eye(8)})
    done = spectra.lowrank.mask(model, tmp_path / "masks", rank=4, density=0.1, seed=3)
    assert done.summary["notes"][-2:] == [
        "seed= does nothing without filter= random",
        "rank= does nothing beside density=, which sets how many entries",
    ]
