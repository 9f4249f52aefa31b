"""Adapters that others than PEFT wrote, against what their own libraries merge of them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import spectra
from adapters import matrices, pairs, save
from spectra.errors import PairingError
from spectra.matrices import Selection
from spectra.work import Plan, plan_pair

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)  # PEFT asks transformers for a deprecated name.

DATA = Path(__file__).parents[1] / "data"
LYCORIS, MLX = DATA / "lycoris", DATA / "mlx_lm"


def planned(base: Path, tuned: Path) -> Plan:
    return plan_pair(spectra.open(base), spectra.open(tuned), Selection())


def agrees(plan: Plan, merged: Mapping[str, Tensor], tolerance: float = 1e-6) -> set[str]:
    """Check every matrix against the merged ones; return the tensors that an update is for."""
    found = pairs(plan)
    for name, pair in found.items():
        expected = merged[name].double()
        torch.testing.assert_close(
            pair.tuned_exact().double(), expected, rtol=tolerance, atol=tolerance
        )
    return {pair.view.entry.name for pair in found.values() if pair.tuned is not None}


def lost(plan: Plan) -> dict[str, str]:
    return {item.tensor: item.reason for item in plan.skipped if "one-dimen" not in item.reason}


@pytest.mark.parametrize(
    "way",
    ["plain", "tucker", "dora", "rs", "loha", "loha_tucker", "lokr", "lokr_both", "lokr_whole"],
)
def test_kohya_names_against_lycoris(way: str) -> None:
    plan = planned(LYCORIS / "base.safetensors", LYCORIS / f"{way}.safetensors")
    changed = agrees(plan, matrices(LYCORIS / f"{way}_merged.safetensors"))
    assert len(changed) == 8
    assert not plan.warning


def test_mlx_against_mlx_lm(tmp_path: Path) -> None:
    for way in ("lora", "dora"):
        folder = tmp_path / way
        folder.mkdir()
        shutil.copy(MLX / f"{way}.safetensors", folder / "adapters.safetensors")
        told = {"fine_tune_type": way, "lora_parameters": {"rank": 2, "scale": 3.5}}
        (folder / "adapter_config.json").write_text(json.dumps(told))
        plan = planned(MLX / "base.safetensors", folder)
        changed = agrees(plan, matrices(MLX / f"{way}_fused.safetensors"), 1e-5)
        assert len(changed) == {"lora": 5, "dora": 2}[way]  # two of them stacks of experts
        assert not plan.warning


def test_mlx_experts_of_a_base_with_a_file_entry_for_each(tmp_path: Path) -> None:
    def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, value in tensors.items():
            before, switch, leaf = name.partition(".switch_mlp.")
            if switch:
                found |= {
                    f"{before}.experts.{i}.{leaf}": one.clone() for i, one in enumerate(value)
                }
            else:
                found[name] = value
        return found

    save_file(apart(load_file(MLX / "base.safetensors")), tmp_path / "base.safetensors")
    save_file(apart(load_file(MLX / "lora_fused.safetensors")), tmp_path / "fused.safetensors")
    (tmp_path / "adapter").mkdir()
    shutil.copy(MLX / "lora.safetensors", tmp_path / "adapter" / "adapters.safetensors")
    told = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 3.5}}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(told))
    plan = planned(tmp_path / "base.safetensors", tmp_path / "adapter")
    changed = agrees(plan, matrices(tmp_path / "fused.safetensors"), 1e-5)
    assert len(changed) == 3 + 2 * 3


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k = nn.Linear(8, 8), nn.Linear(6, 8)
        self.to_out = nn.ModuleList([nn.Linear(8, 8)])


class Unet(nn.Module):
    """Named as in diffusers: one attention and one residual block of each place."""

    def __init__(self) -> None:
        super().__init__()
        levels = [self._level(sampler) for sampler in ("downsamplers", "")]
        self.down_blocks = nn.ModuleList(levels)
        self.up_blocks = nn.ModuleList([self._level("upsamplers")])
        self.mid_block = nn.ModuleDict(
            {"attentions": nn.ModuleList([Attention()]),
             "resnets": nn.ModuleList([self._residual() for _ in range(2)])}
        )  # fmt: skip
        self.conv_in, self.conv_out = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3)

    @staticmethod
    def _residual() -> nn.ModuleDict:
        return nn.ModuleDict(
            {"conv1": nn.Conv2d(8, 8, 3), "time_emb_proj": nn.Linear(5, 8),
             "conv_shortcut": nn.Conv2d(8, 8, 1)}
        )  # fmt: skip

    def _level(self, sampler: str) -> nn.ModuleDict:
        made: dict[str, nn.Module] = {
            "attentions": nn.ModuleList([Attention() for _ in range(2)]),
            "resnets": nn.ModuleList([self._residual() for _ in range(2)]),
        }
        if sampler:
            made[sampler] = nn.ModuleList([nn.ModuleDict({"conv": nn.Conv2d(8, 8, 3)})])
        return nn.ModuleDict(made)


def weight_of(model: nn.Module, module: str) -> Tensor:
    return model.get_parameter(f"{module}.weight").detach()


PUBLISHED = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "down_blocks.0.attentions.1.to_q": "input_blocks.2.1.to_q",
    "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "down_blocks.1.attentions.0.to_out.0": "input_blocks.4.1.to_out.0",
    "down_blocks.1.resnets.1.time_emb_proj": "input_blocks.5.0.emb_layers.1",
    "mid_block.attentions.0.to_k": "middle_block.1.to_k",
    "mid_block.resnets.1.conv_shortcut": "middle_block.2.skip_connection",
    "up_blocks.0.attentions.1.to_q": "output_blocks.1.1.to_q",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
}
"""As `convert_ldm_unet_checkpoint` of diffusers has them, which took all 313 of a tiny SDXL."""


def merge_factors(model: nn.Module, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return random factors in kohya's form by prefix, after merging them by hand."""
    torch.manual_seed(5)
    found: dict[str, Tensor] = {}
    for name, prefix in names.items():
        weight = weight_of(model, name)
        down = torch.randn(3, *weight.shape[1:])
        up = torch.randn(len(weight), 3, *(1 for _ in weight.shape[2:]))
        found |= {f"{prefix}.lora_down.weight": down, f"{prefix}.lora_up.weight": up,
                  f"{prefix}.alpha": torch.tensor(1.5)}  # fmt: skip
        weight += 0.5 * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return found


def flat(name: str) -> str:
    return f"lora_unet_{name.replace('.', '_')}"


@pytest.mark.parametrize(
    ("single", "named"),
    [(False, flat), (False, lambda name: flat(PUBLISHED[name])),
     (True, flat), (True, lambda name: flat(PUBLISHED[name])),
     (False, lambda name: f"unet.{name}"), (True, lambda name: f"unet.{name}")],
    ids=["folder", "folder-published", "single", "single-published", "folder-dotted",
         "single-dotted"],
)  # fmt: skip
def test_names_of_a_unet(tmp_path: Path, single: bool, named: Callable[[str], str]) -> None:
    model = Unet()

    def stored() -> dict[str, Tensor]:
        if not single:
            return {name: value.clone() for name, value in model.state_dict().items()}
        return {
            f"model.diffusion_model.{theirs}.weight": weight_of(model, ours).clone()
            for ours, theirs in PUBLISHED.items()
        }

    save_file(stored(), tmp_path / "base.safetensors")
    tensors = merge_factors(model, {name: named(name) for name in PUBLISHED})
    save_file(stored(), tmp_path / "merged.safetensors")
    save_file(tensors, tmp_path / "lora.safetensors")
    plan = planned(tmp_path / "base.safetensors", tmp_path / "lora.safetensors")
    assert len(agrees(plan, matrices(tmp_path / "merged.safetensors"), 1e-5)) == len(PUBLISHED)
    assert not plan.warning


def write(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.manual_seed(len(path.name))
    save_file({name: torch.randn(shape) for name, shape in shapes.items()}, path)
    return path


def lora(prefix: str, out: int, into: int, rank: int = 2) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.lora_down.weight": (rank, into), f"{prefix}.lora_up.weight": (out, rank)}


class TestPartsOfAPipeline:
    CLIP = "text_model.encoder.layers.0.self_attn.q_proj"

    def test_a_part_alone_is_told_from_what_the_base_lacks(self, tmp_path: Path) -> None:
        base = write(tmp_path / "unet" / "model.safetensors", {"down.to_q.weight": (6, 6)})
        both = {**lora("unet.down.to_q", 6, 6), **lora(f"text_encoder.{self.CLIP}", 4, 4)}
        plan = planned(base.parent, write(tmp_path / "lora.safetensors", both))
        assert lost(plan) == {
            f"text_encoder.{self.CLIP}": "a module of text_encoder, which the base does not hold"
        }
        assert plan.unpaired is not None
        assert plan.unpaired.plain()["adapter"] == {"modules": 2, "unpaired": 1}
        assert plan.warning == (
            "1 of the adapter's 2 modules match no tensor of the base, and what they change is "
            "not seen here."
        )

    @pytest.mark.parametrize("style", ["text_encoder{}.", "lora_te{}_"])
    def test_of_two_text_encoders_the_one_of_the_bases_size(
        self, tmp_path: Path, style: str
    ) -> None:
        base = write(tmp_path / "te" / "model.safetensors", {f"{self.CLIP}.weight": (6, 6)})
        first, second = ("", "_2") if "." in style else ("1", "2")
        name = self.CLIP if "." in style else self.CLIP.replace(".", "_")
        one, other = (f"{style.format(part)}{name}" for part in (first, second))
        adapter = write(tmp_path / "a.safetensors", {**lora(one, 4, 4), **lora(other, 6, 6)})
        plan = planned(base.parent, adapter)
        assert len([pair for pair in pairs(plan).values() if pair.tuned is not None]) == 1
        assert list(lost(plan)) == [one]
        assert "which the base does not hold" in lost(plan)[one]

    def test_of_two_alike_the_folder_tells(self, tmp_path: Path) -> None:
        shapes = {"blocks.0.q.weight": (6, 6)}
        both = {**lora("transformer.blocks.0.q", 6, 6), **lora("transformer_2.blocks.0.q", 6, 6)}
        adapter = write(tmp_path / "a.safetensors", both)
        named = write(tmp_path / "transformer_2" / "model.safetensors", shapes)
        assert list(lost(planned(named.parent, adapter))) == ["transformer.blocks.0.q"]
        other = write(tmp_path / "other" / "model.safetensors", shapes)
        with pytest.raises(PairingError, match="fits both transformer and transformer_2"):
            planned(other.parent, adapter)

    def test_a_single_file_of_the_whole_pipeline(self, tmp_path: Path) -> None:
        places = ("text_encoders.clip_l.transformer", "text_encoders.clip_g.transformer")
        base = write(
            tmp_path / "base.safetensors",
            {f"{place}.{self.CLIP}.weight": (6, 6) for place in places},
        )
        name = self.CLIP.replace(".", "_")
        both = {**lora(f"lora_te1_{name}", 6, 6), **lora(f"lora_te2_{name}", 6, 6)}
        adapter = write(tmp_path / "a.safetensors", both)
        found, factors = pairs(planned(base, adapter)), load_file(adapter)
        for number, place in enumerate(places, 1):
            down, up = (factors[f"lora_te{number}_{name}.lora_{side}.weight"]
                        for side in ("down", "up"))  # fmt: skip
            torch.testing.assert_close(found[f"{place}.{self.CLIP}.weight"].delta(), up @ down)

    def test_a_name_that_may_be_several(self, tmp_path: Path) -> None:
        base = write(tmp_path / "b.safetensors", {"a.b_c.weight": (6, 6), "a_b.c.weight": (6, 6),
                                                  "q.weight": (6, 6)})  # fmt: skip
        adapter = write(
            tmp_path / "a.safetensors",
            {**lora("lora_unet_a_b_c", 6, 6), **lora("lora_unet_q", 6, 6)},
        )
        assert lost(planned(base, adapter)) == {
            "lora_unet_a_b_c": "its name may stand for several tensors of the base: "
            "'a.b_c.weight', 'a_b.c.weight'"
        }

    def test_two_modules_that_may_be_one_tensor(self, tmp_path: Path) -> None:
        base = write(tmp_path / "b.safetensors", {"q.weight": (6, 6), "k.weight": (6, 6)})
        several = {
            **lora("lora_te1_q", 6, 6),
            **lora("lora_te2_q", 6, 6),
            **lora("lora_te1_k", 6, 6),
        }
        found = lost(planned(base, write(tmp_path / "a.safetensors", several)))
        assert found == dict.fromkeys(
            ["lora_te1_q", "lora_te2_q"], "2 modules of the adapter may be 'q.weight'"
        )

    def test_a_text_encoder_saved_without_its_first_name(self, tmp_path: Path) -> None:
        bare = self.CLIP.removeprefix("text_model.")
        base = write(tmp_path / "b.safetensors", {f"{bare}.weight": (6, 6)})
        key = f"lora_te_{self.CLIP.replace('.', '_')}"
        assert not lost(planned(base, write(tmp_path / "a.safetensors", lora(key, 6, 6))))


def test_fused_modules_of_flux_on_diffusers_own(tmp_path: Path) -> None:
    start = "transformer_blocks.3.attn"
    shapes = {f"{start}.{leaf}.weight": (6, 6) for leaf in ("to_q", "to_k", "to_v")}
    single = "single_transformer_blocks.0"
    shapes |= {f"{single}.attn.{leaf}.weight": (6, 6) for leaf in ("to_q", "to_k", "to_v")}
    shapes |= {f"{single}.proj_mlp.weight": (24, 6), f"{start}.to_out.0.weight": (6, 6)}
    base = write(tmp_path / "base.safetensors", shapes)
    keys = {"lora_unet_double_blocks_3_img_attn_qkv": 18, "lora_unet_single_blocks_0_linear1": 42,
            "lora_unet_double_blocks_3_img_attn_proj": 6}  # fmt: skip
    tensors = {
        name: shape for key, out in keys.items() for name, shape in lora(key, out, 6).items()
    }
    adapter = write(tmp_path / "lora.safetensors", tensors)
    plan, stored = planned(base, adapter), load_file(adapter)
    assert not lost(plan)
    found = pairs(plan)
    for key, names in {
        "lora_unet_double_blocks_3_img_attn_qkv":
            [f"{start}.{q}" for q in ("to_q", "to_k", "to_v")],
        "lora_unet_single_blocks_0_linear1":
            [*(f"{single}.attn.{q}" for q in ("to_q", "to_k", "to_v")), f"{single}.proj_mlp"],
        "lora_unet_double_blocks_3_img_attn_proj": [f"{start}.to_out.0"],
    }.items():  # fmt: skip
        whole = stored[f"{key}.lora_up.weight"] @ stored[f"{key}.lora_down.weight"]
        deltas = [found[f"{name}.weight"].delta() for name in names]
        torch.testing.assert_close(torch.cat(deltas), whole)


def test_a_fused_module_of_which_the_base_lacks_a_part(tmp_path: Path) -> None:
    start = "transformer_blocks.0.attn"
    shapes = {f"{start}.{leaf}.weight": (6, 6) for leaf in ("to_q", "to_v", "to_out.0")}
    keys = {"lora_unet_double_blocks_0_img_attn_qkv": 18,
            "lora_unet_double_blocks_0_img_attn_proj": 6}  # fmt: skip
    tensors = {
        name: shape for key, out in keys.items() for name, shape in lora(key, out, 6).items()
    }
    plan = planned(
        write(tmp_path / "base.safetensors", shapes), write(tmp_path / "a.safetensors", tensors)
    )
    assert lost(plan) == {"lora_unet_double_blocks_0_img_attn_qkv": "no counterpart in the base"}


HEADS, KEY_HEADS = 4, 2


def paired(rows: Tensor, heads: int) -> Tensor:
    """Put rows of rotary queries or keys in GGUF's order: neighbours, where halves were."""
    half = len(rows) // heads // 2
    return rows.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(path: Path, tensors: Mapping[str, Tensor], *, adapter: bool) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if adapter:
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 6.0)
    else:
        writer.add_uint32("llama.attention.head_count", HEADS)
        writer.add_uint32("llama.attention.head_count_kv", KEY_HEADS)
        writer.add_uint32("llama.block_count", 1)
    for name, value in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(value.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("base", ["base", "base.gguf"])
def test_gguf_lora_against_peft(tmp_path: Path, base: str) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=24, num_hidden_layers=1, num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS, vocab_size=20, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    save(model, tmp_path / "base")
    words = {"model.layers.0.self_attn.q_proj": "blk.0.attn_q", "model.embed_tokens": "token_embd",
             "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
             "model.layers.0.mlp.down_proj": "blk.0.ffn_down"}  # fmt: skip
    heads = {"blk.0.attn_q": HEADS, "blk.0.attn_k": KEY_HEADS}
    stored = {f"{theirs}.weight": weight_of(model, ours) for ours, theirs in words.items()}
    ordered = {
        name: paired(value, heads[stem])
        if (stem := name.removesuffix(".weight")) in heads
        else value
        for name, value in stored.items()
    }
    write_gguf(tmp_path / "base.gguf", ordered, adapter=False)
    targets = ["q_proj", "k_proj", "down_proj", "embed_tokens"]
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets))
    with torch.no_grad():
        for key, value in wrapped.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn_like(value))
    tensors: dict[str, Tensor] = {}
    for ours, theirs in words.items():
        layer: Any = wrapped.get_base_model().get_submodule(ours)
        if theirs == "token_embd":  # whose lora_a is turned by the converter
            a, b = layer.lora_embedding_A["default"].T, layer.lora_embedding_B["default"]
        else:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        b = paired(b, heads[theirs]) if theirs in heads else b
        tensors |= {f"{theirs}.weight.lora_a": a.detach(), f"{theirs}.weight.lora_b": b.detach()}
    adapter = write_gguf(tmp_path / "lora.gguf", tensors, adapter=True)
    plan = planned(tmp_path / base, adapter)
    save(wrapped.merge_and_unload(), tmp_path / "merged")
    changed = agrees(plan, matrices(tmp_path / "merged"), 1e-5)
    assert changed == {f"{name}.weight" for name in words}
    assert not plan.warning


def test_gguf_rows_whose_order_is_not_known_are_left_out(tmp_path: Path) -> None:
    """The base says nothing of its heads."""
    names = (f"model.layers.0.self_attn.{word}_proj.weight" for word in "qv")
    base = write(tmp_path / "base.safetensors", dict.fromkeys(names, (8, 8)))
    tensors = {f"blk.0.attn_{word}.weight.lora_{side}": torch.ones(shape)
               for word in "qv" for side, shape in (("a", (2, 8)), ("b", (8, 2)))}  # fmt: skip
    plan = planned(base, write_gguf(tmp_path / "lora.gguf", tensors, adapter=True))
    assert "the order of its rows cannot be undone" in lost(plan)["blk.0.attn_q.weight"]
    changed = [name for name, pair in pairs(plan).items() if pair.tuned is not None]
    assert changed == ["model.layers.0.self_attn.v_proj.weight"]
    assert "1 of the adapter's 2 modules" in plan.warning


def test_gguf_lora_of_eight_bits(tmp_path: Path) -> None:
    base = write(tmp_path / "base" / "model.safetensors", {
        "model.layers.0.self_attn.q_proj.weight": (64, 64)})  # fmt: skip
    (base.parent / "config.json").write_text(json.dumps({"num_attention_heads": HEADS}))
    kind = gguf.GGMLQuantizationType.Q8_0
    torch.manual_seed(2)
    a, b = torch.randn(32, 64), torch.randn(64, 32)
    packed = [gguf.quants.quantize(one.numpy(), kind) for one in (a, paired(b, HEADS))]
    writer = gguf.GGUFWriter(tmp_path / "lora.gguf", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    for side, values in zip("ab", packed, strict=True):
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{side}", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (found,) = pairs(planned(base.parent, tmp_path / "lora.gguf")).values()
    torch.testing.assert_close(found.delta(), 0.5 * b @ a, atol=0.6, rtol=0.02)
    wrong = 0.5 * paired(b, HEADS) @ a
    assert (found.delta() - wrong).norm() > 10 * (found.delta() - 0.5 * b @ a).norm()


def test_gguf_stacks_of_experts(tmp_path: Path) -> None:
    name = "model.layers.0.block_sparse_moe.experts.{}.w1.weight"
    base = write(tmp_path / "base.safetensors", {name.format(i): (6, 5) for i in range(3)})
    torch.manual_seed(1)
    a, b = torch.randn(3, 2, 5), torch.randn(3, 6, 2)
    stem = "blk.0.ffn_gate_exps.weight"
    tensors = {f"{stem}.lora_a": a, f"{stem}.lora_b": b}
    plan = planned(base, write_gguf(tmp_path / "lora.gguf", tensors, adapter=True))
    found = pairs(plan)
    for number in range(3):
        torch.testing.assert_close(found[name.format(number)].delta(), 3 * b[number] @ a[number])
