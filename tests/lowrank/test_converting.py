"""Adapters in the names and files of others, and other methods as LoRA, against PEFT."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gguf
import peft
import pytest
import torch
import transformers
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import spectra
from adapters import method, pairs, planned, save
from lowrank.nets import adapter, config_of, merged, net, tensors_of
from spectra.checkpoint import Adapter, open_spec
from spectra.errors import SpectraError, UsageError
from spectra.lowrank import convert, extract, merge, repair, resize
from spectra.lowrank.naming import name_of
from spectra.words import To

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Specified to not save \\w+ and:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to:UserWarning"),
]
NAMED = ("kohya", "diffusers")
FIRST: tuple[To, To] = "mlx", "diffusers"
PLACES = {"kohya": "k.safetensors", "diffusers": "d.safetensors", "mlx": "m", "gguf": "g.gguf",
          "peft": "p"}  # fmt: skip
LINEAR = ["q_proj", "up_proj"]


def llama() -> nn.Module:
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=24, vocab_size=20, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def factors(spec: Path) -> dict[str, Tensor]:
    """Return every factor of an adapter of PEFT's, times nothing, and the scales."""
    found = open_spec(spec)
    assert isinstance(found, Adapter)
    told = {f"{name}.scale": torch.tensor(own.scale) for name, own in found.factors.items()}
    return told | {
        f"{name}.{side}": found.weights.read(entry)
        for name, own in found.factors.items() for side, entry in (("a", own.a), ("b", own.b))
    }  # fmt: skip


def same(one: Path, other: Path) -> None:
    first, second = factors(one), factors(other)
    assert set(first) == set(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def product_of(spec: Path) -> dict[str, Tensor]:
    """Return the update of every module, in float64, from the factors that are read."""
    found = open_spec(spec)
    assert isinstance(found, Adapter)
    read = found.weights.read
    return {
        name: own.scale * read(own.b).flatten(1).double() @ read(own.a).flatten(1).double()
        for name, own in found.factors.items()
    }


@pytest.mark.parametrize(
    ("to", "targets", "settings"),
    [
        (
            "kohya",
            [*LINEAR, "conv"],
            {"alpha_pattern": {"up_proj": 7}, "rank_pattern": {"conv": 3}},
        ),
        ("kohya", LINEAR, {"use_dora": True}),
        ("kohya", ["conv"], {"use_dora": True}),
        ("diffusers", [*LINEAR, "conv"], {"lora_alpha": 12}),
        ("diffusers", [*LINEAR, "conv"], {"lora_alpha": 6, "use_dora": True}),
        ("mlx", [*LINEAR, "embed"], {"lora_alpha": 5}),
        ("mlx", LINEAR, {"use_dora": True}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_bit_for_bit(
    to: To, targets: list[str], settings: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    model = net()
    first = adapter(model, tmp_path / "first", target_modules=targets, **settings)
    file = first / "adapter_model.safetensors"
    save_file({name: value.to(dtype) for name, value in load_file(file).items()}, file)
    base = save(model, tmp_path / "base")
    place = tmp_path / PLACES[to]
    there = convert(first, place, to=to, base=base, part="unet" if to in NAMED else "")
    if to != "diffusers":
        assert "Nothing is lost. " in str(there.summary["reading"])
    convert(place, tmp_path / "back", base=base)
    if to == "diffusers" and settings["lora_alpha"] == 12:  # 12 / 6: the scale is in the factors
        one, other = product_of(first), product_of(tmp_path / "back")
        assert all(torch.equal(one[name], other[name]) for name in one)
    else:
        same(first, tmp_path / "back")
    lengths = {name: value for name, value in tensors_of(first).items() if "magnitude" in name}
    again = tensors_of(tmp_path / "back")
    assert all(torch.equal(value, again[name]) for name, value in lengths.items())
    if dtype == torch.float32:
        found, expected = merged(model, tmp_path / "back"), merged(model, first)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)


def test_scales_that_one_number_cannot_tell_are_in_the_factors(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "target_modules": LINEAR,
        "alpha_pattern": {"layers.0.q_proj": 5, "up_proj": 9},
    }
    first = adapter(net(), tmp_path / "first", **settings)
    for to in FIRST:
        part = "unet" if to == "diffusers" else ""
        result = convert(first, tmp_path / PLACES[to], to=to, part=part)
        if to == "mlx":
            told = json.loads((tmp_path / "m" / "adapter_config.json").read_text())
            assert told["lora_parameters"]["scale"] == 1.5
            assert told["lora_parameters"]["keys"] == ["q_proj", "up_proj"]
            assert told["num_layers"] == -1
        one, other = product_of(first), product_of(tmp_path / PLACES[to])
        for name, value in one.items():
            key = name if to == "mlx" else f"unet.{name}"
            torch.testing.assert_close(other[key], value, rtol=1e-6, atol=1e-7)
        row = next(row for row in result.rows if row.matrix == "layers.0.q_proj")
        assert 0 < (row.number("rounding") or 0.0) < 1e-6


class TestGguf:
    def test_there_and_back_of_a_rotated_family(self, tmp_path: Path) -> None:
        base = save(llama(), tmp_path / "base")
        targets = ["q_proj", "k_proj", "v_proj", "down_proj", "embed_tokens"]
        first = adapter(llama(), tmp_path / "first", target_modules=targets)
        convert(first, tmp_path / "g.gguf", to="gguf", base=base)
        convert(tmp_path / "g.gguf", tmp_path / "back", base=base)
        same(first, tmp_path / "back")

    def test_as_its_own_library_reads_it(self, tmp_path: Path) -> None:
        base = save(llama(), tmp_path / "base")
        first = adapter(llama(), tmp_path / "first", target_modules=["q_proj", "embed_tokens"])
        convert(first, tmp_path / "g.gguf", to="gguf", base=base)
        reader = gguf.GGUFReader(tmp_path / "g.gguf")
        fields = {name: field.contents() for name, field in reader.fields.items()}
        assert (fields["general.architecture"], fields["general.type"], fields["adapter.type"],
                fields["adapter.lora.alpha"]) == ("llama", "adapter", "lora", 9.0)  # fmt: skip
        tensors = {one.name: torch.from_numpy(one.data.copy()) for one in reader.tensors}
        stored = tensors_of(first)
        module = "base_model.model.model.layers.1.self_attn.q_proj"
        b = stored[f"{module}.lora_B.weight"]
        rotated = b.view(4, 2, 4, -1).swapaxes(1, 2).reshape(b.shape)  # llama.cpp's `permute`
        assert torch.equal(tensors["blk.1.attn_q.weight.lora_b"], rotated)
        assert torch.equal(tensors["blk.1.attn_q.weight.lora_a"], stored[f"{module}.lora_A.weight"])
        table = "base_model.model.model.embed_tokens.lora_embedding_"
        assert torch.equal(tensors["token_embd.weight.lora_a"], stored[f"{table}A"].mT)
        assert torch.equal(tensors["token_embd.weight.lora_b"], stored[f"{table}B"])

    def test_ranks_that_one_alpha_does_not_fit(self, tmp_path: Path) -> None:
        base = save(llama(), tmp_path / "base")
        settings: dict[str, Any] = {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"v_proj": 3},
        }
        first = adapter(llama(), tmp_path / "first", lora_alpha=8, use_rslora=True, **settings)
        convert(first, tmp_path / "g.gguf", to="gguf", base=base)
        convert(tmp_path / "g.gguf", tmp_path / "back", base=base)
        one, other = product_of(first), product_of(tmp_path / "back")
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-6, atol=1e-6)

    def test_dora_has_a_way_there(self, tmp_path: Path) -> None:
        base = save(llama(), tmp_path / "base")
        first = adapter(llama(), tmp_path / "first", target_modules=["q_proj"], use_dora=True)
        place = tmp_path / "g.gguf"
        way = rf"repair\(BASE, '{first}', MERGED, scale=1, merged=True\)"
        with pytest.raises(SpectraError, match=way):
            convert(first, place, to="gguf", base=base)
        repair(base, first, tmp_path / "merged", scale=1, merged=True)
        whole = merged(llama(), first)
        own = load_file(tmp_path / "merged" / "model.safetensors")
        names = [name for name in own if name.endswith("q_proj.weight")]
        for name in names:
            torch.testing.assert_close(own[name], whole[name], rtol=1e-6, atol=1e-7)
        found = extract(base, tmp_path / "merged", place, energy=1.0, to="gguf")
        assert len(names) == sum(bool(row.number("rank_kept")) for row in found.rows) > 0
        assert found.summary["loss"] < 1e-5

    def test_what_needs_a_base_or_has_no_name(self, tmp_path: Path) -> None:
        first = adapter(net(), tmp_path / "first", target_modules=LINEAR)
        with pytest.raises(SpectraError, match=r"GGUF needs the base's config\.json"):
            convert(first, tmp_path / "g.gguf", to="gguf")
        base = save(net(), tmp_path / "base")
        with pytest.raises(SpectraError, match="GGUF has no word for the family None"):
            convert(first, tmp_path / "g.gguf", to="gguf", base=base)
        (base / "config.json").write_text(json.dumps({"model_type": "llama"}))
        with pytest.raises(
            SpectraError, match=r"4 of 4 modules cannot be written as GGUF, e\.g\. 'layers\.0"
        ):
            convert(first, tmp_path / "g.gguf", to="gguf", base=base)


@pytest.mark.parametrize(
    ("to", "settings", "words"),
    [
        ("mlx", {"target_modules": ["embed"], "use_dora": True}, "other lengths for embeddings"),
        ("mlx", {"target_modules": ["conv"]}, "mlx-lm has no LoRA of convolutions"),
        ("diffusers", {"target_modules": ["head"]}, "which one has 'head' is not told"),
        ("plain", {"target_modules": ["head"]}, "'plain' is not known. Expected one of peft"),
    ],
)  # fmt: skip
def test_what_cannot_be_written(
    to: To, settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    first = adapter(net(), tmp_path / "first", **settings)
    with pytest.raises(SpectraError, match=words):
        convert(first, tmp_path / "place", to=to)
    assert [one.name for one in tmp_path.iterdir()] == ["first"]


def test_whole_tensors_that_have_no_place_are_told(tmp_path: Path) -> None:
    first = adapter(net(), tmp_path / "first", target_modules=LINEAR, modules_to_save=["head"])
    result = convert(first, tmp_path / "m", to="mlx")
    assert "2 tensors beside the factors are not written: see skipped." in result.summary["reading"]
    assert not any("not written" in note for note in result.summary.get("notes", ()))  # told once
    whole = {item.tensor: item.reason for item in result.skipped}
    assert whole == dict.fromkeys(
        ("base_model.model.head.bias", "base_model.model.head.weight"),
        "not written: mlx has no place for a whole tensor",
    )
    both = merge([first, first], tmp_path / "both", to="mlx")
    assert {item.tensor: item.reason for item in both.skipped} == whole
    assert len(both.skipped) == 2
    assert set(load_file(tmp_path / "m" / "adapters.safetensors")) == {
        f"layers.{n}.{name}.lora_{side}" for n in (0, 1) for name in LINEAR for side in "ab"
    }
    convert(first, tmp_path / "p")
    assert "base_model.model.head.weight" in tensors_of(tmp_path / "p")


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    first = adapter(net(), tmp_path / "first", target_modules=LINEAR)
    place = tmp_path / "k.safetensors"
    place.write_text("mine")
    with pytest.raises(SpectraError, match="nothing is overwritten without force=True"):
        convert(first, place, to="kohya", part="unet")
    with pytest.raises(SpectraError, match=r"to='kohya' writes a \.safetensors file"):
        convert(first, tmp_path / "k", to="kohya", part="unet")
    assert place.read_text() == "mine"
    convert(first, place, to="kohya", part="unet", force=True)
    with safe_open(place, "pt") as file:
        told = file.metadata()
        assert file.get_tensor("lora_unet_layers_0_q_proj.alpha") == 9
    assert told["spectra_command"] == "lowrank convert"
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("6", "9")
    assert "sha256:" in told["spectra_sources"]


def test_parts_of_a_pipeline(tmp_path: Path) -> None:
    model = net()
    for part in ("unet", "text_encoder"):
        adapter(model, tmp_path / part, target_modules=LINEAR)
        convert(tmp_path / part, tmp_path / f"{part}.safetensors", to="diffusers", part=part)
    both = {name: value for part in ("unet", "text_encoder")
            for name, value in load_file(tmp_path / f"{part}.safetensors").items()}  # fmt: skip
    save_file(both, tmp_path / "both.safetensors")
    with pytest.raises(SpectraError, match=r"several parts of a pipeline \(text_encoder, unet\)"):
        convert(tmp_path / "both.safetensors", tmp_path / "p")
    convert(tmp_path / "both.safetensors", tmp_path / "p", part="unet")
    assert set(product_of(tmp_path / "p")) == set(product_of(tmp_path / "unet"))
    convert(tmp_path / "both.safetensors", tmp_path / "k.safetensors", to="kohya")
    prefixes = {name.partition("_layers")[0] for name in load_file(tmp_path / "k.safetensors")}
    assert prefixes == {"lora_unet", "lora_te"}


@pytest.mark.parametrize("to", ["kohya", "diffusers"])
def test_a_part_that_no_reader_knows_is_refused_before_anything_is_written(
    tmp_path: Path, to: To
) -> None:
    source = adapter(net(), tmp_path / "one", target_modules=LINEAR)
    for part, near in (("foo", ""), ("unett", r" Did you mean 'unet'\?"), ("unet_x", "")):
        with pytest.raises(UsageError, match=f"'{part}' is no part .*Expected one of.*{near}$"):
            convert.plan(source, tmp_path / "a.safetensors", to=to, part=part)
    for part in ("text_encoder_3", "transformer", "prior"):
        convert(source, tmp_path / f"{part}.safetensors", to=to, part=part)
        found = open_spec(tmp_path / f"{part}.safetensors")
        assert isinstance(found, Adapter)
        assert {name_of(key, found.naming).part for key in found.factors} == {part}


class Flat(nn.Module):
    """Linear layers of unlike shape, as other methods take them."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(40, 48), nn.Linear(48, 40, bias=False)


NAMES = ["up", "down"]
METHODS: list[tuple[str, Callable[..., peft.PeftConfig], dict[str, Any]]] = [
    ("loha", peft.LoHaConfig, {"r": 3, "alpha": 5}),
    ("lokr", peft.LoKrConfig, {"r": 2, "alpha": 3, "decompose_both": True, "decompose_factor": 4}),
    ("vera", peft.VeraConfig, {"r": 6, "save_projection": False}),
    ("delora", peft.DeloraConfig, {"r": 4}),
    ("gralora", peft.GraloraConfig, {"r": 4}),
    ("miss", peft.MissConfig, {"r": 5}),
]


@pytest.mark.parametrize(("name", "make", "settings"), METHODS, ids=[one[0] for one in METHODS])
def test_products_become_lora_without_loss(
    name: str, make: Callable[..., peft.PeftConfig], settings: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    model = Flat()
    method(model, make(target_modules=NAMES, **settings), tmp_path)
    base = tmp_path / "base" if name in ("vera", "miss") else None
    result = convert(tmp_path / "adapter", tmp_path / "lora", base=base)
    assert str(result.summary["reading"]).count("Nothing is lost but rounding")
    expected = load_file(tmp_path / "merged" / "model.safetensors")
    found = merged(model_of(tmp_path / "base"), tmp_path / "lora")
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


def model_of(folder: Path) -> nn.Module:
    model = Flat()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


@pytest.mark.parametrize("how", [{"rank": 7}, {"energy": 0.8}], ids=str)
@pytest.mark.parametrize(
    ("make", "settings"),
    [(peft.LoHaConfig, {"r": 6}), (peft.FourierFTConfig, {"n_frequency": 300}),
     (peft.UniLoraConfig, {"r": 30, "save_indices": True}), (peft.RandLoraConfig, {"r": 5})],
    ids=["loha", "fourierft", "unilora", "randlora"],
)  # fmt: skip
def test_against_pefts_own_conversion(
    make: Callable[..., peft.PeftConfig], settings: dict[str, Any], how: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    torch.manual_seed(4)
    model = Flat()
    method(model, make(target_modules=NAMES, **settings), tmp_path)
    convert(tmp_path / "adapter", tmp_path / "lora", base=tmp_path / "base", **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = peft.PeftModel.from_pretrained(model_of(tmp_path / "base"),
                                                 str(tmp_path / "adapter"))  # fmt: skip
        config, state = peft.convert_to_lora(trained, rank=next(iter(how.values())))
    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    ours = tensors_of(tmp_path / "lora")
    for name in NAMES:
        stem = f"base_model.model.{name}.lora_"
        theirs = state[f"{stem}B.weight"].double() @ state[f"{stem}A.weight"].double()
        rank = ranks.get(name, config.r)
        theirs *= alphas.get(name, config.lora_alpha) / rank
        own = ours[f"{stem}B.weight"].double() @ ours[f"{stem}A.weight"].double()
        assert ours[f"{stem}A.weight"].shape[0] == rank
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("make", "settings"),
    [(peft.OFTConfig, {"oft_block_size": 8}), (peft.IA3Config, {"feedforward_modules": ["down"]}),
     (peft.HRAConfig, {"r": 4}), (peft.RoadConfig, {"group_size": 8})],
    ids=["oft", "ia3", "hra", "road"],
)  # fmt: skip
def test_what_is_made_of_the_base_is_the_best_of_its_rank(
    make: Callable[..., peft.PeftConfig], settings: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    method(Flat(), make(target_modules=NAMES, **settings), tmp_path)
    with pytest.raises(SpectraError, match=r"known with the base alone\. Expected base="):
        convert(tmp_path / "adapter", tmp_path / "lora", rank=4)
    with pytest.raises(SpectraError, match="an update of full rank has no end of directions"):
        convert(tmp_path / "adapter", tmp_path / "lora", base=tmp_path / "base")
    result = convert(tmp_path / "adapter", tmp_path / "lora", base=tmp_path / "base", rank=4)
    found = {name: merged(model_of(tmp_path / "base"), tmp_path / "lora")[f"{name}.weight"]
             for name in NAMES}  # fmt: skip
    for row in result.rows:
        name = row.matrix
        after = load_file(tmp_path / "merged" / "model.safetensors")[f"{name}.weight"].double()
        before = load_file(tmp_path / "base" / "model.safetensors")[f"{name}.weight"].double()
        sigma = torch.linalg.svdvals(after - before)
        least = float(sigma[4:].square().sum().sqrt() / sigma.norm())
        assert row.number("loss") == pytest.approx(least, abs=2e-5)
        off = (after - found[name].double()).norm() / (after - before).norm()
        assert float(off) == pytest.approx(least, abs=2e-5)
    if make in (peft.IA3Config, peft.RoadConfig):
        assert any("bias changes too" in note for note in result.summary["notes"])


def test_a_budget_is_shared_out_among_whole_updates(tmp_path: Path) -> None:
    torch.manual_seed(5)
    method(Flat(), peft.OFTConfig(target_modules=NAMES, oft_block_size=8), tmp_path)
    convert(tmp_path / "adapter", tmp_path / "lora", base=tmp_path / "base", budget=9000)
    held = sum(one.stat().st_size for one in (tmp_path / "lora").iterdir())
    assert 7000 < held <= 9000


def test_other_methods_are_not_resized(tmp_path: Path) -> None:
    method(Flat(), peft.OFTConfig(target_modules=NAMES, oft_block_size=8), tmp_path)
    with pytest.raises(SpectraError, match=r"lowrank.convert.* makes a LoRA of it"):
        resize(tmp_path / "adapter", tmp_path / "lora", rank=2, base=tmp_path / "base")


def test_resize_merge_and_extract_write_other_forms(tmp_path: Path) -> None:
    model = net()
    base = save(model, tmp_path / "base")
    one = adapter(model, tmp_path / "one", target_modules=LINEAR)
    two = adapter(model, tmp_path / "two", seed=1, target_modules=LINEAR)
    resize(one, tmp_path / "m", rank=3, to="mlx")
    resize(one, tmp_path / "r", rank=3)
    want = product_of(tmp_path / "r")
    for name, value in product_of(tmp_path / "m").items():
        torch.testing.assert_close(value, want[name])
    merge([one, two], tmp_path / "k.safetensors", to="kohya", part="unet")
    summed = {name: product_of(one)[name] + product_of(two)[name] for name in want}
    changed = pairs(planned(tmp_path, "base", "k.safetensors"))
    for name, value in summed.items():
        torch.testing.assert_close(changed[f"{name}.weight"].delta().double(), value,
                                   rtol=1e-4, atol=1e-5)  # fmt: skip
    tuned = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in summed.items():
        tuned[f"{name}.weight"] += value.float()
    tuned["head.bias"] += 1
    (tmp_path / "tuned").mkdir()
    save_file(tuned, tmp_path / "tuned" / "model.safetensors")
    result = extract(base, tmp_path / "tuned", tmp_path / "e.safetensors", rank=12,
                     to="diffusers", part="unet")  # fmt: skip
    assert not [name for name in load_file(tmp_path / "e.safetensors") if "head" in name]
    for name, value in product_of(tmp_path / "e.safetensors").items():
        torch.testing.assert_close(value, summed[name.removeprefix("unet.")], rtol=1e-3, atol=1e-4)
    assert result.summary["rank_kept"] == 48


@pytest.mark.parametrize("start", ["pissa", "olora", "corda"])
def test_difference_adapters_of_inits_that_move_the_base(
    start: Literal["pissa", "olora", "corda"], tmp_path: Path
) -> None:
    """PEFT writes [B, -B0], [A; A0] of rank 2r; its true rank may be less."""
    model = Flat()
    save(model, tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = peft.LoraConfig(r=4, lora_alpha=4, target_modules=NAMES, init_lora_weights=start)
        if start == "corda":  # which takes what layers get as inputs
            settings.corda_config = CordaConfig(corda_method="kpm")
            preprocess_corda(model, settings, run_model=lambda: _run(model))
        trained: Any = peft.get_peft_model(model, settings)
        trained.peft_config["default"].init_lora_weights = True
        trained.save_pretrained(str(tmp_path / "init"))
        trained.peft_config["default"].init_lora_weights = start
        with torch.no_grad():
            for name, value in trained.named_parameters():
                if "lora_B" in name:  # B alone was trained: the difference has rank r
                    value.add_(torch.randn_like(value) * 0.1)
        trained.save_pretrained(
            str(tmp_path / "difference"),
            path_initial_model_for_weight_conversion=str(tmp_path / "init"),
        )
    assert config_of(tmp_path / "difference")["r"] == 8
    resize(tmp_path / "difference", tmp_path / "small")
    assert config_of(tmp_path / "small")["r"] == 4
    one, other = product_of(tmp_path / "difference"), product_of(tmp_path / "small")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


def _run(model: nn.Module) -> None:
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer(torch.randn(64, layer.in_features))


class Kinds(nn.Module):
    """A convolution and a table, as other methods take them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(4, 12, (2, 2)), nn.Embedding(14, 8)


@pytest.mark.parametrize(
    ("make", "settings", "targets"),
    [(peft.LoHaConfig, {"r": 2}, ["conv"]),
     (peft.LoHaConfig, {"r": 2, "use_effective_conv2d": True}, ["conv"]),
     (peft.OFTConfig, {"oft_block_size": 4}, ["conv", "table"]),
     (peft.HiraConfig, {"r": 2}, ["table"])],
    ids=["loha-flat", "loha", "oft", "hira"],
)  # fmt: skip
def test_convolutions_and_embeddings_of_other_methods(
    make: Callable[..., peft.PeftConfig], settings: dict[str, Any], targets: list[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    torch.manual_seed(6)
    method(Kinds(), make(target_modules=targets, **settings), tmp_path)
    convert(tmp_path / "adapter", tmp_path / "lora", base=tmp_path / "base", rank=14)
    model = Kinds()
    model.load_state_dict(load_file(tmp_path / "base" / "model.safetensors"))
    found = merged(model, tmp_path / "lora")
    for name, value in load_file(tmp_path / "merged" / "model.safetensors").items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_of_a_base_that_stores_its_inputs_first(tmp_path: Path) -> None:
    torch.manual_seed(6)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=24, n_positions=8, tie_word_embeddings=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = peft.IA3Config(target_modules=["c_attn", "c_fc"], feedforward_modules=["c_fc"])
        method(transformers.GPT2Model(config), settings, tmp_path)
    convert(tmp_path / "adapter", tmp_path / "lora", base=tmp_path / "base", rank=16)
    assert config_of(tmp_path / "lora")["fan_in_fan_out"] is True
    made, meant = pairs(planned(tmp_path, tuned="lora")), pairs(planned(tmp_path))
    changed = [name for name, pair in meant.items() if pair.tuned is not None]
    assert changed
    for name in changed:
        torch.testing.assert_close(
            made[name].delta().double(), meant[name].delta().double(), rtol=1e-4, atol=1e-5
        )


def test_a_diff_says_which_method_it_is(tmp_path: Path) -> None:
    method(Flat(), peft.RoadConfig(target_modules=NAMES, group_size=8), tmp_path)
    result = spectra.diff(tmp_path / "base", tmp_path / "adapter")
    told = [text for text in result.summary["notes"] if "adapter" in text]
    assert told[0].endswith("is an adapter (RoAd): the change is what it makes of the base")
    assert "also brings" in told[1]
    with pytest.raises(SpectraError, match=r"is an adapter \(RoAd\): as BASE give the model"):
        spectra.diff(tmp_path / "adapter", tmp_path / "base")


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are:UserWarning")
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (peft.FourierFTConfig(target_modules=LINEAR, n_frequency=20), "a FourierFT adapter"),
        (peft.ShiraConfig(target_modules=LINEAR, r=2), "a SHiRA adapter"),
        (peft.LoHaConfig(target_modules=LINEAR, r=2), "a LoHa adapter"),
        (peft.OFTConfig(target_modules=LINEAR, oft_block_size=4), "an OFT adapter"),
    ],
    ids=["fourier", "shira", "loha", "oft"],
)  # fmt: skip
def test_a_diff_guesses_no_method_that_the_settings_name(
    settings: peft.PeftConfig, told: str, tmp_path: Path
) -> None:
    method(llama(), settings, tmp_path)
    result = spectra.diff(tmp_path / "base", tmp_path / "adapter")
    text = result.summary["reading"]
    assert text.startswith(f"The change is that of {told} on MLP and attention of 2 layers (4 of ")
    assert "LoRA" not in text
    assert "fine-tuning" not in text
    merged = spectra.diff(tmp_path / "base", tmp_path / "merged")
    assert "adapter" not in merged.summary["reading"]  # nothing there says what it was
    pair = tmp_path / "adapter", tmp_path / "merged"
    for trend in (False, True):
        several: Any = spectra.diff(tmp_path / "base", pair, trend=trend)
        first, second = several.summary["checkpoints" if trend else "updates"]
        assert first["reading"].startswith(f"The change is that of {told} on")
        assert "adapter" not in second["reading"]
        assert list(several.settings["methods"]) == [result.settings["method"], ""]
    held = [note for note in result.summary["notes"] if "of the entries of its matrices" in note]
    assert bool(held) == ("SHiRA" in told)
    if held:  # (32 + 32) 2 of 1,024 entries, (32 + 24) 2 of 768
        assert "it holds 13.4 % of the entries" in held[0]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_names_that_mlx_lm_has_otherwise(family: str, tmp_path: Path) -> None:
    """As the models of mlx-lm 0.32 have them, which refuses others."""
    torch.manual_seed(0)
    model: nn.Module
    if family == "gpt2":
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=30)
        )
        targets, names = ["c_attn", "wpe"], {"model.h.0.attn.c_attn", "model.wpe"}
    else:
        model = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            vocab_size=30,
        ))  # fmt: skip
        targets = ["query_key_value", "embed_in", "lm_head"]
        names = {"model.h.0.attention.query_key_value", "model.embed_in", "model.embed_out"}
    flag = {"fan_in_fan_out": family == "gpt2"}
    first = adapter(model, tmp_path / "first", target_modules=targets, **flag)
    base = save(model, tmp_path / "base")
    with pytest.raises(SpectraError, match=r"hangs on the family of the base\. Expected base="):
        convert(first, tmp_path / "m", to="mlx")
    convert(first, tmp_path / "m", to="mlx", base=base)
    written = load_file(tmp_path / "m" / "adapters.safetensors")
    assert {name.rpartition(".lora_")[0] for name in written} == names
    convert(tmp_path / "m", tmp_path / "back", base=base)
    same(first, tmp_path / "back")
    factored = {name for name in tensors_of(first) if ".lora_" in name}
    assert tensors_of(tmp_path / "back").keys() == factored
    assert config_of(tmp_path / "back")["fan_in_fan_out"] == (family == "gpt2")


def test_names_are_those_that_the_class_of_the_base_has(tmp_path: Path) -> None:
    """GGUF and kohya tell a module of BERT alike, with a head before it or none."""
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        vocab_size=30,
    )  # fmt: skip
    for make in (transformers.BertModel, transformers.BertForSequenceClassification):
        torch.manual_seed(0)
        model, place = make(config), tmp_path / make.__name__
        place.mkdir()
        base = save(model, place / "base")
        first = adapter(model, place / "first", target_modules=["query", "word_embeddings"])
        convert(first, place / "g.gguf", to="gguf", base=base)
        convert(place / "g.gguf", place / "back", base=base)
        same(first, place / "back")
