"""Healthy models that the gate once failed, as they are published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.faults.fault import Fault, read

SMALL: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 48,
}  # fmt: skip


def sines(rows: int, cols: int) -> Tensor:
    """Tables of positions as the encoders of Whisper, Marian and Pegasus have them."""
    rates = torch.logspace(0, -4, cols // 2, dtype=torch.float64)
    angles = torch.arange(rows)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def positions(folder: Path) -> None:
    """Write the positions of Whisper tiny beside a layer."""
    (folder / "model").mkdir()
    save_file(
        {"model.encoder.embed_positions.weight": sines(1500, 384),
         "model.encoder.layers.0.fc1.weight": torch.randn(64, 64)},
        folder / "model" / "model.safetensors",
    )  # fmt: skip


def saved(
    body: str, config: str, said: str, settings: dict[str, Any], gone: str = " "
) -> Callable[[Path], None]:
    """Return what saves a model under a config.json that names another class of its family."""

    def make(folder: Path) -> None:
        import transformers  # noqa: PLC0415 - slow to load

        torch.manual_seed(0)
        made = getattr(transformers, body)(getattr(transformers, config)(**SMALL, **settings))
        made.save_pretrained(folder / "model")
        path, about = folder / "model" / "model.safetensors", folder / "model" / "config.json"
        kept = {name: value for name, value in load_file(path).items() if gone not in name}
        save_file(kept, path, {"format": "pt"})
        told = json.loads(about.read_text()) | {"architectures": [said]}
        about.write_text(json.dumps(told))

    return make


def levels(folder: Path) -> None:
    """Write the neck of Depth Anything: one of four levels keeps its size."""
    (folder / "model").mkdir()
    save_file(
        {f"neck.reassemble_stage.layers.{i}.{name}.{end}": torch.randn(*shape)
         for i in range(4) for name in ("projection", "resize")
         for end, shape in (("weight", (8, 8, 1, 1)), ("bias", (8,)))
         if (i, name) != (2, "resize")},
        folder / "model" / "model.safetensors",
    )  # fmt: skip


def verdict(folder: Path) -> str:
    """Ask the gate."""
    ran = read(folder, "check", "model", "--isolated")
    found = [f"{one['severity']} {one['rule']}" for one in ran.document["summary"]["findings"]]
    return f"exit {ran.code}; {', '.join(found) or 'no findings'}"


def is_silent(told: str) -> bool:
    """Say whether nothing was found."""
    return told == "exit 0; no findings"


def is_noted(told: str) -> bool:
    """Say whether it passes, with a note of what it is."""
    return told == "exit 0; note SPC004"


WAVE: dict[str, Any] = {
    "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3),
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip

FAULTS: tuple[Fault, ...] = (
    Fault(
        "gate sines",
        "error SPC301: rank above rounding 39.3 % < 50.0 % allowed, of every Whisper",
        "silent: sines that no training changed",
        positions, verdict, is_silent,
    ),
    Fault(
        "gate body all-mpnet-base-v2",
        "3 errors SPC004: lm_head.bias ... is held by every MPNetForMaskedLM and missing here",
        "a note: the body of the class that config.json names, without its head",
        saved("MPNetModel", "MPNetConfig", "MPNetForMaskedLM", {}), verdict, is_noted,
    ),
    Fault(
        "gate body Qwen3-Embedding-8B",
        "error SPC004: lm_head.weight is held by every Qwen3ForCausalLM and missing here",
        "a note: the body of the class that config.json names, without its head",
        saved("Qwen3Model", "Qwen3Config", "Qwen3ForCausalLM", {"tie_word_embeddings": False}),
        verdict, is_noted,
    ),
    Fault(
        "gate mask wav2vec2-base-960h",
        "error SPC004: wav2vec2.masked_spec_embed is held by every Wav2Vec2ForCTC and missing here",
        "a note: only training uses it",
        saved("Wav2Vec2ForCTC", "Wav2Vec2Config", "Wav2Vec2ForCTC", WAVE, "masked_spec_embed"),
        verdict, is_noted,
    ),
    Fault(
        "gate levels Depth-Anything",
        "2 errors SPC004: neck.reassemble_stage.layers.2.resize.weight is missing",
        "silent: the level that keeps its size does without",
        levels, verdict, is_silent,
    ),
)  # fmt: skip
