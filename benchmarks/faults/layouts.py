"""Layouts, roles, layers and reasons: what names, shapes and settings tell of a tensor."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file

from benchmarks.faults.fault import Fault, read, spectra

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 96}
HEADS = {"num_attention_heads": 4, "intermediate_size": 48}
MISTRAL4 = {
    **SIZES, **HEADS, "moe_intermediate_size": 20, "num_key_value_heads": 4,
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "q_lora_rank": 12,
    "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 8,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "head_dim": 10,
}  # fmt: skip
XLNET = {"vocab_size": 96, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
       "patch_size": 8}  # fmt: skip
MUSICGEN = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "ffn_dim": 48, "num_codebooks": 2}  # fmt: skip
MAMBA = {**SIZES, "state_size": 8, "time_step_rank": 4}


def model(class_name: str, config_name: str, settings: Mapping[str, Any]) -> Callable[[Path], None]:
    """Return a maker that lets transformers write a tiny random model."""

    def make(folder: Path) -> None:
        hf.utils.logging.disable_progress_bar()
        torch.manual_seed(0)
        config = getattr(hf, config_name)(**settings)
        getattr(hf, class_name)(config).save_pretrained(folder / "model")

    return make


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> Callable[[Path], None]:
    """Return a maker of a file with random tensors of these names."""

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        values = {name: torch.randn(shape) for name, shape in shapes.items()}
        (folder / "model").mkdir()
        save_file(values, folder / "model" / "model.safetensors")

    return make


def dtypes(folder: Path) -> None:
    """Write a file whose tensors have dtypes that are floating and yet no weights."""
    bits = {"F4": 4, "F6_E2M3": 6, "F8_E8M0": 8, "C64": 64, "F32": 32}
    header, at = {}, 0
    for dtype, width in bits.items():
        size = 16 * width // 8
        header[f"{dtype.lower()}.weight"] = {
            "dtype": dtype,
            "shape": [4, 4],
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + bytes(at)
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(data)


def roles(*words: str) -> Callable[[Path], str]:
    """Return a question: the roles and shapes of the matrices whose names hold a word."""

    def ask(folder: Path) -> str:
        document = read(folder, "ls", "model").document
        rows = [row for row in document["rows"] if any(word in row["matrix"] for word in words)]
        said = sorted({f"{row['role']} {row['rows']}x{row['cols']}" for row in rows})
        return ", ".join(said) or "no row"

    return ask


def reasons(folder: Path) -> str:
    """Return why tensors are skipped."""
    skipped = read(folder, "ls", "model").document["skipped"]
    return "; ".join(sorted({f"{one['tensor']}: {one['reason']}" for one in skipped}))


def first_sentence(folder: Path) -> str:
    """Return the reading of `ls`."""
    return read(folder, "ls", "model").reading


def selected_first(folder: Path) -> str:
    """Return what `kappa` measures."""
    done = spectra(folder, "kappa", "model", "--format", "json", "-q")
    document = json.loads(done.out)
    return ", ".join(sorted({row["matrix"].rsplit(".", 2)[-2] for row in document["rows"]}))


def third_block(folder: Path) -> str:
    """Return what `--layers 2` selects."""
    done = spectra(folder, "ls", "model", "--layers", "2", "--format", "json", "-q")
    if done.code:
        return f"exit {done.code}"
    return ", ".join(row["matrix"] for row in json.loads(done.out)["rows"])


def four_commands(folder: Path) -> str:
    """Return the exit codes of four commands."""
    done = {name: spectra(folder, name, "model", "-q") for name in
            ("ls", "spectrum", "kappa", "check")}  # fmt: skip
    internal = any("internal" in ran.err for ran in done.values())
    return ", ".join(f"{name} {ran.code}" for name, ran in done.items()) + (
        ", internal" if internal else ""
    )


BLOCKS = {f"stages.{s}.blocks.{b}.fc1.weight": (8, 8) for s in range(2) for b in range(3)}
UNET = {f"down_blocks.{d}.attentions.0.transformer_blocks.{t}.attn1.to_q.weight": (8, 8)
        for d in (1, 2) for t in range(2)}  # fmt: skip

FAULTS: tuple[Fault, ...] = (
    Fault("layouts: experts of mistral4", "skipped", "a row for each expert",
          model("Mistral4ForCausalLM", "Mistral4Config", MISTRAL4), roles("experts.gate_up_proj"),
          lambda said: said == "mlp.gate 20x32, mlp.up 20x32"),
    Fault("layouts: MLA of mistral4", "kv_b_proj whole", "k and v, by the settings of its heads",
          model("Mistral4ForCausalLM", "Mistral4Config", MISTRAL4), roles("kv_"),
          lambda said: said == "attn.k 24x16, attn.k 4x32, attn.v 32x16, other 16x32"),
    Fault("layouts: attention of XLNet", "skipped", "q, k, v, o [32, 32]",
          model("XLNetLMHeadModel", "XLNetConfig", XLNET), roles("rel_attn"),
          lambda said: [word.split()[0] for word in said.split(", ")]
          == ["attn.k", "attn.o", "attn.q", "attn.v", "other"]),
    Fault("layouts: qkv of ViTDet", "whole", "q, k and v",
          model("VitDetModel", "VitDetConfig", VIT), roles("attention.qkv"),
          lambda said: said == "attn.k 32x32, attn.q 32x32, attn.v 32x32"),
    Fault("layouts: embeddings and heads of musicgen", "other", "embed and lm_head",
          model("MusicgenForCausalLM", "MusicgenDecoderConfig", MUSICGEN),
          roles("embed_tokens", "lm_heads"), lambda said: said == "embed 65x32, lm_head 64x32"),
    Fault("layouts: A_log of Mamba", "a matrix and a candidate", "a skip; conv1d only if asked for",
          model("MambaForCausalLM", "MambaConfig", MAMBA), selected_first,
          lambda said: "A_log" not in said and "conv1d" not in said),
    Fault("layouts: ConvTranspose2d of SAM", "rows are inputs", "turned: 32 inputs",
          tensors({"mask_decoder.upscale_conv1.weight": (32, 8, 2, 2)}), roles("upscale_conv1"),
          lambda said: said == "conv 32x32"),
    Fault("Conv1d under Sequential names", "skipped by name", "a convolution",
          tensors({"encoder.0.weight": (8, 4, 3), "net.2.weight": (6, 8, 5)}), roles("weight"),
          lambda said: said == "conv 6x40, conv 8x12"),
    Fault("share not read", "no word", "in the first sentence",
          tensors({"encoder.0.weight": (8, 8), "memory.bank": (8, 8, 7)}), first_sentence,
          lambda said: said.startswith("87.5 % of the parameters are in tensors that were not")),
    Fault("layer order: stages of blocks", "exit 3, none passes", "the third block",
          tensors(BLOCKS), third_block, lambda said: said == "stages.0.blocks.2.fc1.weight"),
    Fault("layer order: a U-Net", "the first number", "numbered through, outermost in",
          tensors(UNET), third_block,
          lambda said: said == "down_blocks.2.attentions.0.transformer_blocks.0.attn1.to_q.weight"),
    Fault("long name", "error: internal", "a row", tensors({"a." + "1" * 5000: (8, 8)}),
          four_commands, lambda said: "internal" not in said and "ls 0" in said),
    Fault("reasons: scales that scale no quantised weight", "scales of quantised weights",
          "a scale", tensors({"logit_scale.log_scale": (4, 3), "a.logit_scale": (4, 3),
                              "a.weight": (4, 4)}),
          reasons, lambda said: "quantised" not in said and said.count("a scale") == 2),
    Fault("reasons: floating dtypes that are no weights", "not floating point", "what they are",
          dtypes, reasons, lambda said: "not floating point" not in said and said.count(":") == 4),
)  # fmt: skip
