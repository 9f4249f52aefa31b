"""Adapters cut and summed: PEFT reads them, and merges what is stated."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra.lowrank
from spectra.errors import AdapterError, NonFiniteError, OutputError, PairingError, UsageError
from spectra.words import Stored

from .nets import adapter, config_of, merged, net, tensors_of, updates


def flat(update: Tensor, name: str) -> Tensor:
    return update.flatten(1) if "conv" in name else update


def module(name: str) -> str:
    return name.removesuffix(".weight")


CUTS: list[dict[str, Any]] = [
    {}, {"rank": 2}, {"energy": 0.8}, {"budget": "12KB"}, {"sv_ratio": 2.0},
    {"sv_cumulative": 0.6}, {"sv_fro": 0.8, "rank": 3}, {"rank": 3, "dtype": "bfloat16"},
]  # fmt: skip


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "rank_pattern": {"up_proj": 4}}])
def test_what_peft_merges_is_the_best_of_its_rank_and_the_stated_loss(
    tmp_path: Path, cut: dict[str, Any], settings: dict[str, Any]
) -> None:
    model = net()
    source = adapter(model, tmp_path / "a", **settings)
    found = spectra.lowrank.resize(source, tmp_path / "b", **cut)
    before, after = updates(model, source), updates(model, tmp_path / "b")
    rows = {row.matrix: row for row in found.rows}
    lost = whole = 0.0
    for name, update in before.items():
        if module(name) not in rows:
            assert torch.equal(after[name], update)
            continue
        row = rows[module(name)]
        exact = torch.linalg.svdvals(flat(update, name))
        rank, off = int(row.number("rank_kept") or 0), flat(update - after[name], name)
        norm = float(torch.linalg.vector_norm(exact))
        loss = float(torch.linalg.vector_norm(off)) / norm
        assert row.number("loss") == pytest.approx(loss, abs=3e-6)
        best = float(torch.linalg.vector_norm(exact[rank:])) / norm
        tolerance = 4e-3 if "dtype" in cut else 3e-6
        assert loss == pytest.approx(best, abs=tolerance)  # Eckart and Young
        spectral = float(torch.linalg.matrix_norm(off, 2) / exact[0])
        assert row.number("loss_spectral") == pytest.approx(spectral, abs=2 * tolerance)
        lost, whole = lost + (loss * norm) ** 2, whole + norm**2
    assert found.summary["loss"] == pytest.approx((lost / whole) ** 0.5, abs=3e-6)
    written = sum(one.stat().st_size for one in (tmp_path / "b").iterdir())
    assert found.summary["nbytes_written"] == written
    if "budget" in cut:
        assert 9000 < written <= 12_000


def test_a_planted_rank_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    source = adapter(net(), tmp_path / "a")
    tensors = tensors_of(source)
    for name in tensors:
        if "lora_A" in name:
            tensors[name][3:] = tensors[name][:3] * 0.5
        elif "lora_embedding_A" in name:
            tensors[name][1:] = 0.0
    save_file(tensors, source / "adapter_model.safetensors")
    found = spectra.lowrank.resize(source, tmp_path / "b")
    assert {row.number("rank_kept") for row in found.rows if row.matrix != "embed"} == {3.0}
    assert {row.number("rank_kept") for row in found.rows if row.matrix == "embed"} == {1.0}
    assert "Nothing is lost but rounding" in found.summary["reading"]
    config = config_of(tmp_path / "b")
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (3, 3, {"embed": 1})
    before, after = merged(net(), source), merged(net(), tmp_path / "b")
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, rtol=1e-5, atol=1e-5)


def test_a_module_without_an_update_is_left_out(tmp_path: Path) -> None:
    source = adapter(net(), tmp_path / "a")
    tensors = tensors_of(source)
    tensors["base_model.model.layers.1.q_proj.lora_B.weight"].zero_()
    save_file(tensors, source / "adapter_model.safetensors")
    found = spectra.lowrank.resize(source, tmp_path / "b", rank=2)
    assert found.summary["emptied"] == 1
    assert "1 of them is left out" in found.summary["reading"]
    assert not any("layers.1.q_proj" in name for name in tensors_of(tmp_path / "b"))
    assert "layers.1.q_proj" not in config_of(tmp_path / "b")["target_modules"]
    assert not updates(net(), tmp_path / "b")["layers.1.q_proj.weight"].any()


def test_what_is_no_factor_is_carried_over_and_named(tmp_path: Path) -> None:
    model = net()
    settings: dict[str, Any] = {
        "target_modules": ["q_proj", "up_proj"], "use_dora": True, "modules_to_save": ["head"],
        "trainable_token_indices": {"embed": [3, 5]},
    }  # fmt: skip
    source = adapter(model, tmp_path / "a", **settings)
    (source / "tokenizer.json").write_text('{"a": 1}')
    found = spectra.lowrank.resize(source, tmp_path / "b")
    before, after = merged(model, source), merged(model, tmp_path / "b")
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, rtol=1e-5, atol=1e-5)
    old, new = tensors_of(source), tensors_of(tmp_path / "b")
    told = {item.tensor: item.reason for item in found.skipped}
    carried = {name for name in old if "lora_A" not in name and "lora_B" not in name}
    assert told.keys() == carried
    assert all(torch.equal(old[name], new[name]) for name in carried)
    assert sorted(set(told.values())) == [
        "carried over as it is: DoRA's lengths",
        "carried over as it is: a whole tensor",
        "carried over as it is: rows of an embedding",
    ]
    assert "DoRA's lengths are kept" in found.summary["notes"][0]
    assert (tmp_path / "b" / "tokenizer.json").read_text() == '{"a": 1}'


def test_dora_without_an_update_keeps_its_lengths(tmp_path: Path) -> None:
    model = net()
    source = adapter(model, tmp_path / "a", target_modules=["q_proj"], use_dora=True)
    tensors = tensors_of(source)
    tensors["base_model.model.layers.0.q_proj.lora_B.weight"].zero_()
    save_file(tensors, source / "adapter_model.safetensors")
    spectra.lowrank.resize(source, tmp_path / "b")
    before, after = merged(model, source), merged(model, tmp_path / "b")
    torch.testing.assert_close(after["layers.0.q_proj.weight"], before["layers.0.q_proj.weight"])


def test_stacks_of_experts_are_carried_over(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM  # noqa: PLC0415 - slow to load

    config = MixtralConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3, vocab_size=32, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MixtralForCausalLM(config)
    source = adapter(
        model, tmp_path / "a", target_modules=["q_proj"], r=4, lora_alpha=6,
        target_parameters=["mlp.experts.gate_up_proj"],
    )  # fmt: skip
    found = spectra.lowrank.resize(source, tmp_path / "b", rank=1)
    assert any("factors of a stack of experts" in item.reason for item in found.skipped)
    before, after = updates(model, source), updates(model, tmp_path / "b")
    for name, update in before.items():
        if "experts" in name:
            torch.testing.assert_close(after[name], update)
        elif "q_proj" in name:
            assert torch.linalg.matrix_rank(after[name], atol=1e-5) == 1
    assert any("with base= they are cut" in note for note in found.summary["notes"])
    refused = r"in 1 module, e\.g\. '.*mlp\.experts.* no layout for them.*lowrank\.repair"
    for to in ("kohya", "diffusers"):
        with pytest.raises(AdapterError, match=refused):
            spectra.lowrank.convert(source, tmp_path / "c", to=to)
    with pytest.raises(UsageError, match="stacks of experts, whose names are known with the base"):
        spectra.lowrank.convert(source, tmp_path / "c", to="mlx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(tmp_path / "base")
    spectra.lowrank.repair(tmp_path / "base", source, tmp_path / "d", merged=True, scale=1)
    made = MixtralForCausalLM.from_pretrained(tmp_path / "d").state_dict()
    for name, values in merged(model, source).items():
        torch.testing.assert_close(made[name], values)


def test_factors_of_experts_under_other_names_need_their_base(tmp_path: Path) -> None:
    weights = {f"model.layers.0.mlp.switch_mlp.up_proj.lora_{side}": torch.randn(shape)
               for side, shape in (("a", (3, 2, 8)), ("b", (3, 6, 2)))}  # fmt: skip
    (tmp_path / "a").mkdir()
    save_file(weights, tmp_path / "a" / "adapters.safetensors")
    settings = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 2.0}}
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="has stacks of experts, whose names are known with the"):
        spectra.lowrank.convert(tmp_path / "a", tmp_path / "b")
    save_file({"model.layers.1.mlp.up_proj.weight": torch.ones(6, 8)}, tmp_path / "m.safetensors")
    with pytest.raises(PairingError, match=r"'model\.layers\.0.*Give the base it was trained on"):
        spectra.lowrank.convert(tmp_path / "a", tmp_path / "b", base=tmp_path / "m.safetensors")


def test_the_file_says_where_it_comes_from_and_is_the_same_again(tmp_path: Path) -> None:
    source = adapter(net(), tmp_path / "a")
    found = spectra.lowrank.resize(source, tmp_path / "b", energy=0.9)
    with safe_open(tmp_path / "b" / "adapter_model.safetensors", "pt") as file:
        told = file.metadata()
    assert told["spectra_command"] == "lowrank resize"
    (model,) = json.loads(told["spectra_sources"])
    assert model["digest"] == found.models[0].digest
    assert json.loads(told["spectra_settings"])["energy"] == 0.9
    assert str(tmp_path / "b") not in told["spectra_settings"]
    first = (tmp_path / "b" / "adapter_model.safetensors").read_bytes()
    spectra.lowrank.resize(source, tmp_path / "b", energy=0.9, force=True, workers=1)
    assert first == (tmp_path / "b" / "adapter_model.safetensors").read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {"a", "b"}


def test_an_adapter_may_replace_itself(tmp_path: Path) -> None:
    source = adapter(net(), tmp_path / "a")
    (source / "README.md").unlink()
    before = updates(net(), source)
    spectra.lowrank.resize(source, source, force=True)
    for name, update in updates(net(), source).items():
        torch.testing.assert_close(update, before[name], rtol=1e-4, atol=1e-5)


def test_nothing_is_written_where_something_is_wrong(tmp_path: Path) -> None:
    source = adapter(net(), tmp_path / "a")
    with pytest.raises(OutputError, match="nothing is overwritten without force"):
        spectra.lowrank.resize.plan(source, tmp_path / "a")
    with pytest.raises(UsageError, match=r"leaves nothing: .* one direction takes"):
        spectra.lowrank.resize.plan(source, tmp_path / "b", budget=100)
    spectra.lowrank.resize.plan(source, tmp_path / "b", budget=2e4)
    with pytest.raises(UsageError, match="'4 lots' is no size"):
        spectra.lowrank.resize.plan(source, tmp_path / "b", budget="4 lots")
    tensors = tensors_of(source)
    tensors["base_model.model.layers.0.q_proj.lora_A.weight"][1, 2] = torch.nan
    save_file(tensors, source / "adapter_model.safetensors")
    with pytest.raises(NonFiniteError, match=r"layers\.0\.q_proj cannot be written: 1 NaN"):
        spectra.lowrank.resize(source, tmp_path / "b")
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_what_is_no_number_beside_factors_is_refused_by_every_writer(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    model = net()
    source = adapter(
        model, tmp_path / "a", target_modules=["q_proj"], modules_to_save=["head"], bias="all"
    )
    sound = {name: value.to(dtype) for name, value in tensors_of(source).items()}
    save_file(model.state_dict(), tmp_path / "base.safetensors")
    other = adapter(model, tmp_path / "b", target_modules=["up_proj"])
    writers: tuple[Callable[[], object], ...] = (
        lambda: spectra.lowrank.resize(source, tmp_path / "out", rank=2),
        lambda: spectra.lowrank.convert(source, tmp_path / "out"),
        lambda: spectra.lowrank.merge([other, source], tmp_path / "out"),
        lambda: spectra.lowrank.repair(tmp_path / "base.safetensors", source, tmp_path / "out"),
    )
    head, bias = (next(name for name in sound if own in name and name.endswith(end))
                  for own, end in (("head", "weight"), ("q_proj", "bias")))  # fmt: skip
    for name, told in ((head, r"2 NaN and 1 Inf, the first at \[1, 3\]"), (bias, r"2 NaN")):
        broken = {**sound, name: sound[name].clone()}
        flat_values = broken[name].view(-1)
        start = 27 if name == head else 4
        flat_values[start], flat_values[-1] = torch.nan, torch.nan
        if name == head:
            flat_values[40] = -torch.inf
        save_file(broken, source / "adapter_model.safetensors")
        for write in writers:
            with pytest.raises(NonFiniteError, match=f"{name} cannot be written: {told}"):
                write()
            assert {one.name for one in tmp_path.iterdir()} == {"a", "b", "base.safetensors"}
    save_file(sound, source / "adapter_model.safetensors")
    for number, write in enumerate(writers):
        write()
        (tmp_path / "out").rename(tmp_path / str(number))


def test_a_model_and_other_names_are_refused(tmp_path: Path, minilm: Path) -> None:
    with pytest.raises(UsageError, match="is a model, expected a LoRA adapter"):
        spectra.lowrank.resize.plan(minilm, tmp_path / "b")
    kohya = {"lora_unet_a_b.lora_down.weight": torch.randn(2, 8),
             "lora_unet_a_b.lora_up.weight": torch.randn(8, 2),
             "lora_unet_a_b.alpha": torch.tensor(1.0)}  # fmt: skip
    save_file(kohya, tmp_path / "kohya.safetensors")
    with pytest.raises(UsageError, match="underscores for dots in its names, which are known with"):
        spectra.lowrank.resize.plan(tmp_path / "kohya.safetensors", tmp_path / "b")


def test_a_bias_that_is_scaled_with_its_factors_is_refused(tmp_path: Path) -> None:
    source = adapter(net(), tmp_path / "a", target_modules=["q_proj"])
    tensors, bias = tensors_of(source), "base_model.model.layers.0.q_proj.lora_B.bias"
    save_file(tensors | {bias: torch.randn(20)}, source / "adapter_model.safetensors")
    for to in ("peft", "kohya"):  # PEFT drops it, as settings do not ask for it
        place = tmp_path / ("peft" if to == "peft" else f"{to}.safetensors")
        found = spectra.lowrank.resize(source, place, to=to, part="unet")
        (left,) = found.skipped
        assert left.tensor == bias
        assert left.reason.startswith("not written: a bias of lora_B, which PEFT drops")
    assert set(tensors_of(tmp_path / "peft")) == set(tensors)
    file = source / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_bias": True}))
    with pytest.raises(AdapterError, match="a bias that is scaled with its factors"):
        spectra.lowrank.resize.plan(source, tmp_path / "b")


def test_factors_without_settings_get_settings(tmp_path: Path) -> None:
    source = adapter(net(), tmp_path / "a", lora_alpha=6)  # scale 1, as is assumed then
    bare = tmp_path / "bare.safetensors"
    (source / "adapter_model.safetensors").rename(bare)
    found = spectra.lowrank.resize(bare, tmp_path / "b")
    bare.rename(source / "adapter_model.safetensors")
    assert "alpha is not known" in found.summary["notes"][0]
    before, after = updates(net(), source), updates(net(), tmp_path / "b")
    for name, update in before.items():
        torch.testing.assert_close(after[name], update, rtol=1e-4, atol=1e-5)


WEIGHTS = (0.7, -1.3)


def both(folder: Path) -> tuple[Path, Path]:
    one = adapter(net(), folder / "one", seed=1)
    other = adapter(
        net(), folder / "other", seed=2, target_modules=["q_proj", "conv"], r=3, use_rslora=True
    )
    return one, other


def test_a_sum_is_that_of_the_updates(tmp_path: Path) -> None:
    one, other = both(tmp_path)
    found = spectra.lowrank.merge([one, other], tmp_path / "sum", weights=WEIGHTS)
    first, second = updates(net(), one), updates(net(), other)
    for name, update in updates(net(), tmp_path / "sum").items():
        expected = WEIGHTS[0] * first[name] + WEIGHTS[1] * second[name]
        torch.testing.assert_close(update, expected, rtol=1e-4, atol=2e-5)
    ranks = {row.matrix: row.number("rank_kept") for row in found.rows}
    assert ranks["layers.0.q_proj"] == 9.0
    assert ranks["layers.0.up_proj"] == 6.0
    assert "other has no update on 3 modules of 7" in found.summary["notes"][0]


@pytest.mark.parametrize("rank", [None, 4])
def test_pefts_own_sums_agree(tmp_path: Path, rank: int | None) -> None:
    one, other = adapter(net(), tmp_path / "one", seed=1), adapter(net(), tmp_path / "two", seed=2)
    twin: Any = peft.PeftModel.from_pretrained(net(), str(one), adapter_name="one")
    twin.load_adapter(str(other), adapter_name="other")
    kind = {"combination_type": "cat"} if rank is None else {
        "combination_type": "svd", "svd_rank": rank}  # fmt: skip
    twin.add_weighted_adapter(["one", "other"], [0.7, 0.4], "sum", **kind)
    twin.set_adapter("sum")
    with torch.no_grad():
        expected = twin.merge_and_unload(adapter_names=["sum"]).state_dict()
    spectra.lowrank.merge([one, other], tmp_path / "sum", weights=[0.7, 0.4], rank=rank)
    for name, values in merged(net(), tmp_path / "sum").items():
        torch.testing.assert_close(values, expected[name], rtol=1e-4, atol=1e-4)


def test_a_sum_is_the_same_file_again(tmp_path: Path) -> None:
    sources = both(tmp_path)
    for place, workers in (("b", 1), ("c", 4)):
        spectra.lowrank.merge(sources, tmp_path / place, rank=5, workers=workers)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_what_cancels_is_cut_to_what_is_left(tmp_path: Path) -> None:
    one, other = both(tmp_path)
    doubled = spectra.lowrank.merge([one, one], tmp_path / "double", weights=[0.5, 0.5])
    assert {row.number("rank_kept") for row in doubled.rows} == {6.0}
    back = spectra.lowrank.merge(
        [tmp_path / "double", one, other], tmp_path / "rest", weights=[1.0, -1.0, 1.0],
        energy=0.999999,
    )  # fmt: skip
    ranks = {row.matrix: row.number("rank_kept") for row in back.rows}
    assert ranks["layers.0.q_proj"] == 3.0
    with pytest.raises(UsageError, match="every update is 0: nothing is left to write"):
        spectra.lowrank.merge([one, one], tmp_path / "none", weights=[1, -1])
    cases: list[tuple[float, Stored]] = [(1e-300, "float32"), (1e-18, "float16")]
    for weight, dtype in cases:
        with pytest.raises(UsageError, match=f"every update is 0 as {dtype}, which holds"):
            spectra.lowrank.merge([one, one], tmp_path / "none", weights=[weight, 0], dtype=dtype)
    assert not (tmp_path / "none").exists()
    small = spectra.lowrank.merge([one, one], tmp_path / "small", weights=[1e-18, 0])
    assert float(small.summary["loss"]) < 1e-5
    assert all(bool(value.any()) for value in tensors_of(tmp_path / "small").values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_sum_with_its_own_cut_keeps_no_rounding(tmp_path: Path, dtype: Stored) -> None:
    """What is small and another's is no rounding, and comes through."""
    one, other = both(tmp_path)
    whole = spectra.lowrank.resize(one, tmp_path / "whole", dtype=dtype)
    spectra.lowrank.resize(tmp_path / "whole", tmp_path / "cut", rank=3, dtype=dtype)
    sum_of = [tmp_path / "whole", tmp_path / "cut"]
    found = spectra.lowrank.merge(sum_of, tmp_path / "sum", weights=[1.0, 0.5], dtype=dtype)
    before = {row.matrix: row.number("rank_kept") for row in whole.rows}
    assert {row.matrix: row.number("rank_kept") for row in found.rows} == before
    assert (
        float(found.summary["loss"]) < {"float32": 1e-6, "bfloat16": 6e-3, "float16": 1e-3}[dtype]
    )
    faint = spectra.lowrank.merge(
        [tmp_path / "whole", other], tmp_path / "faint", weights=[1.0, 1e-5], dtype=dtype
    )
    ranks = {row.matrix: row.number("rank_true") for row in faint.rows}
    assert ranks["layers.0.q_proj"] == 9.0


def test_sums_that_are_none_are_refused(tmp_path: Path) -> None:
    one, _ = both(tmp_path)
    with pytest.raises(UsageError, match="two adapters or more, got 1"):
        spectra.lowrank.merge.plan([one], tmp_path / "sum")
    with pytest.raises(UsageError, match="are 3 for 2 adapters"):
        spectra.lowrank.merge.plan([one, one], tmp_path / "sum", weights=[1, 2, 3])
    for wrong in (float("nan"), 1e30):
        with pytest.raises(
            UsageError, match=r"is no weight\. Expected numbers between -1e9 and 1e9"
        ):
            spectra.lowrank.merge.plan([one, one], tmp_path / "sum", weights=wrong)
    strange = {name: {"base_model_name_or_path": name} for name in ("a", "b")}
    for name, modules in (("a", ["q_proj"]), ("b", ["conv"])):
        adapter(net(), tmp_path / name, target_modules=modules)
        settings = tmp_path / name / "adapter_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | strange[name]))
    with pytest.raises(AdapterError, match=r"they have no module in common\."):
        spectra.lowrank.merge.plan([tmp_path / "a", tmp_path / "b"], tmp_path / "sum")
    spectra.lowrank.merge.plan([one, tmp_path / "b"], tmp_path / "sum")
    saved = adapter(net(), tmp_path / "saved", modules_to_save=["head"])
    spectra.lowrank.merge([one, saved], tmp_path / "kept")
    torch.testing.assert_close(
        merged(net(), tmp_path / "kept")["head.weight"], merged(net(), saved)["head.weight"]
    )
    copied = shutil.copytree(saved, tmp_path / "copied")
    spectra.lowrank.merge([saved, copied], tmp_path / "equal", weights=[0.25, 0.25])
    torch.testing.assert_close(
        merged(net(), tmp_path / "equal")["head.weight"], merged(net(), saved)["head.weight"]
    )
    flipped = copied / "adapter_model.safetensors"
    tensors = load_file(flipped)
    tensors["base_model.model.head.bias"][-1] += 1.0
    save_file(tensors, flipped)
    with pytest.raises(
        AdapterError, match=r"both hold 'base_model.model.head.bias' whole, with other values"
    ):
        spectra.lowrank.merge.plan([saved, copied], tmp_path / "sum")
    dora = adapter(net(), tmp_path / "dora", target_modules=["q_proj"], use_dora=True)
    with pytest.raises(AdapterError, match="DoRA's lengths"):
        spectra.lowrank.merge.plan([one, dora], tmp_path / "sum")
