"""Exports whose names were not those in memory, or that the consumer refuses."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers as hf

from benchmarks.families.outcome import FORMS, changed, differing, judged, loader
from benchmarks.faults.fault import Fault, read, spectra
from spectra.checkpoint import Checkpoint, open_spec
from spectra.matrices import views_of

TEXT: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
SOUND = {
    "encoder_layers": 1, "encoder_attention_heads": 4, "num_mel_bins": 8,
    "max_source_positions": 16, "d_model": 32, "encoder_ffn_dim": 64,
}  # fmt: skip
MAMBA = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}

MODELS: Mapping[str, Callable[[], Any]] = {
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(**MAMBA, time_step_rank=4)),
    "nemotron_h": lambda: hf.NemotronHForCausalLM(
        hf.NemotronHConfig(
            **TEXT, **TOKENS, layers_block_type=["mamba", "attention"], mamba_num_heads=8,
            mamba_head_dim=8, ssm_state_size=8, n_groups=1, head_dim=8,
        )
    ),
    "llava_next": lambda: hf.LlavaNextForConditionalGeneration(
        hf.LlavaNextConfig(
            text_config={"model_type": "llama", **TEXT},
            vision_config={"model_type": "clip_vision_model", **VISION}, image_token_index=90,
        )
    ),
    "qwen2_audio": lambda: hf.Qwen2AudioForConditionalGeneration(
        hf.Qwen2AudioConfig(
            text_config={"model_type": "qwen2", **TEXT}, audio_config=SOUND, audio_token_index=90,
        )
    ),
    "voxtral": lambda: hf.VoxtralForConditionalGeneration(
        hf.VoxtralConfig(
            text_config={"model_type": "llama", **TEXT},
            audio_config={
                "model_type": "voxtral_encoder", "hidden_size": 32, "intermediate_size": 128,
                "num_hidden_layers": 1, "num_attention_heads": 4, "num_mel_bins": 8,
                "max_source_positions": 16,
            },
            audio_token_id=90,
        )
    ),
    "swin": lambda: hf.SwinForImageClassification(
        hf.SwinConfig(
            image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2],
            window_size=4,
        )
    ),
    "mllama": lambda: hf.MllamaForConditionalGeneration(
        hf.MllamaConfig(
            text_config={**TEXT, "cross_attention_layers": [1], "pad_token_id": 0},
            vision_config={
                "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_global_layers": 1, "attention_heads": 4, "image_size": 32, "patch_size": 8,
                "vision_output_dim": 64, "intermediate_layers_indices": [0], "max_num_tiles": 1,
                "supported_aspect_ratios": [[1, 1]],
            },
        )
    ),
    "qwen3_next": lambda: hf.Qwen3NextForCausalLM(
        hf.Qwen3NextConfig(
            **TEXT, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
            shared_expert_intermediate_size=16, linear_num_key_heads=2, linear_num_value_heads=4,
            linear_key_head_dim=8, linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention"],
        )
    ),
    "jamba": lambda: hf.JambaForCausalLM(
        hf.JambaConfig(
            **TEXT, num_experts=2, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
            expert_layer_offset=1, mamba_d_state=8, mamba_dt_rank=4, use_mamba_kernels=False,
        )
    ),
    "depth_anything": lambda: hf.DepthAnythingForDepthEstimation(
        hf.DepthAnythingConfig(
            backbone_config=hf.Dinov2Config(
                **VISION, out_indices=[0, 1], reshape_hidden_states=False, apply_layernorm=False
            ),
            reassemble_hidden_size=32, patch_size=8, neck_hidden_sizes=[8, 16],
            reassemble_factors=[2, 1], fusion_hidden_size=8,
        )
    ),
}  # fmt: skip
"""Tiny models of families that transformers renames, or whose layers a LoRA does not fit."""


def make(family: str, folder: Path) -> None:
    """Save a tiny model."""
    torch.manual_seed(0)
    MODELS[family]().float().save_pretrained(folder / "model")


def chosen(folder: Path, select: str, *words: str) -> list[str]:
    """Return the names of the selected matrices."""
    names: list[str] = read(folder, "kappa", "model", "--select", select, *words).document[
        "summary"
    ]["selected"]
    return names


def ask(folder: Path, *words: str, select: str = "40%") -> str:
    """Export a selection in every form, and say what each consumer makes of it."""
    place = folder / "model"
    names = set(chosen(folder, select, *words))
    checkpoint = open_spec(place)
    assert isinstance(checkpoint, Checkpoint)
    views = [view for view in views_of(checkpoint)[0] if view.name in names]
    load = loader(getattr(hf, checkpoint.config["architectures"][0]))
    model = load(place)
    truth = differing(model, load(changed(place, views)))
    said = []
    for form in FORMS:
        ran = spectra(
            folder, "kappa", "model", "--select", select, *words, "--export", form, "-q"
        )  # fmt: skip
        told = (
            judged(form, ran.out, model, truth) if ran.code == 0 else f"exit {ran.code}: {ran.err}"
        )
        said.append(f"{form} {told.strip()}")
    return "; ".join(said)


def exact(said: str) -> bool:
    """Say whether every form selects exactly what was selected, or is refused with a reason."""
    return "WRONG" not in said and "exit 1" not in said and said.count("exact") >= len(FORMS) - 1


def projector(folder: Path) -> None:
    """Write the GGUF file of a vision tower and its projector."""
    writer = gguf.GGUFWriter(folder / "mmproj.gguf", "clip")
    writer.add_uint32("clip.vision.block_count", 1)
    random = np.random.default_rng(0)
    for name in ("v.blk.0.attn_q.weight", "v.blk.0.ffn_up.weight", "mm.0.weight", "mm.2.weight"):
        writer.add_tensor(name, random.standard_normal((16, 16)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def refused(folder: Path) -> str:
    """Export from it."""
    ran = spectra(folder, "kappa", "mmproj.gguf", "--select", "1", "--export", "peft", "-q")
    return f"exit {ran.code}: {ran.out or ran.err}".strip()


RENAMED = ("llava_next", "qwen2_audio", "voxtral", "swin", "mllama")
FAULTS: tuple[Fault, ...] = (
    *(
        Fault(
            f"exports of {family}",
            "exit 0 with the file's names: PEFT wraps some of them, axolotl hits none",
            "exact in every form, or exit 2",
            partial(make, family),
            ask,
            exact,
        )
        for family in RENAMED
    ),
    *(
        Fault(
            f"exports of {family}",
            "modules that PEFT refuses: out_proj, conv1d",
            "exact where the consumer takes it; PEFT refused before writing",
            partial(make, family),
            ask,
            exact,
        )
        for family in ("mamba", "nemotron_h")
    ),
    *(
        Fault(
            f"kappa --select of the hybrid {family}",
            "the depthwise conv1d first, always",
            "no convolution is a candidate; exact in every form",
            partial(make, family),
            lambda folder: f"{ask(folder, select='10%')}; selected {chosen(folder, '10%')}",
            lambda said: exact(said) and "conv1d" not in said.partition("; selected")[2],
        )
        for family in ("qwen3_next", "jamba")
    ),
    Fault(
        "ConvTranspose2d (Depth-Anything)",
        "exported, PEFT refuses",
        "PEFT refused before writing, by name",
        partial(make, "depth_anything"),
        lambda folder: ask(folder, "--role", "conv", select="100%"),
        lambda said: exact(said) and "transposed convolution" in said,
    ),
    Fault(
        "mmproj.gguf exported",
        "GGUF's own names as target_modules",
        "exit 2",
        projector,
        refused,
        lambda said: said.startswith("exit 2") and "GGUF's own name" in said,
    ),
)
