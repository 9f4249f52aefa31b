"""Known damage done to real models, and what of them stays healthy.

Every damage takes a healthy model and a folder to write to. All but `untied_head` work on a BERT
such as all-MiniLM-L6-v2, in one safetensors file; `untied_head` on what `tied_head` writes.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
from spectra.checkpoint import Checkpoint

ADAPTER = Path(__file__).parent / "data" / "minilm-lora-r8"
PREFIX = "base_model.model.bert."
ALPHA_OVER_R = 2.0  # of that adapter
WEIGHTS = "model.safetensors"
LAYER = "encoder.layer.{}."
QUERY, KEY, VALUE = (f"attention.self.{part}" for part in ("query", "key", "value"))
MIXER, UP, DOWN = "attention.output.dense", "intermediate.dense", "output.dense"
LINEAR = (QUERY, KEY, VALUE, MIXER, UP, DOWN)

Tensors: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Sick:
    """A damaged model, and what a check should say of it."""

    folder: Path
    base: Path  # what it was made from, healthy
    what: str
    matrices: tuple[str, ...]  # those that were damaged; of a cut file, the file's name


Damage: TypeAlias = Callable[..., Sick]


def matrix(layer: int, part: str) -> str:
    """Return the name of an encoder matrix."""
    return f"{LAYER.format(layer)}{part}.weight"


def read(source: Path) -> Tensors:
    return dict(load_file(source / WEIGHTS))


def write(source: Path, target: Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write the tensors beside the configuration of `source`."""
    target.mkdir(parents=True)
    shutil.copy(source / "config.json", target)
    save_file({key: value.contiguous() for key, value in tensors.items()}, target / WEIGHTS)
    return target


def reconfigured(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Healthy


def fewer_words(source: Path, target: Path, words: int = 1000) -> Path:
    """The same BERT with the first words alone: every encoder matrix, a tenth of the bytes."""
    tensors = read(source)
    name = "embeddings.word_embeddings.weight"
    tensors[name] = tensors[name][:words].clone()
    write(source, target, tensors)
    reconfigured(target, vocab_size=words)
    return target


def merged(source: Path, scale: float = 1.0) -> tuple[Tensors, tuple[str, ...]]:
    """The real adapter merged at a multiple of its own scale, and the matrices it changed."""
    tensors, factors = read(source), load_file(ADAPTER / "adapter_model.safetensors")
    changed = []
    for key, down in factors.items():
        if key.endswith(".lora_A.weight"):
            up = factors[key.replace(".lora_A.", ".lora_B.")]
            name = key.removeprefix(PREFIX).replace(".lora_A.weight", ".weight")
            tensors[name] = tensors[name] + scale * ALPHA_OVER_R * up @ down
            changed.append(name)
    return tensors, tuple(changed)


def tied_head(
    source: Path, target: Path, *, stored: bool = True, layers: int = 4, words: int = 2000
) -> Path:
    """The first layers and words of a Llama as transformers saves it in bfloat16, its head tied.

    Args:
        source: A Llama in any format.
        target: The folder to write to.
        stored: The head is in the file too, equal to the embeddings, as some tools save it.
        layers: How many to keep.
        words: How many to keep.
    """
    opened = spectra.open(source)
    assert isinstance(opened, Checkpoint)
    kept = [
        entry
        for name, entry in opened.entries.items()
        if ".layers." not in name or int(name.split(".")[2]) < layers
    ]
    tensors = {entry.name: opened.read(entry).to(torch.bfloat16) for entry in kept}
    embeddings = tensors["model.embed_tokens.weight"][:words].clone()
    tensors["model.embed_tokens.weight"] = embeddings
    if stored:
        tensors["lm_head.weight"] = embeddings.clone()
    target.mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, target / WEIGHTS)
    known = dict(opened.config)
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": known["hidden_size"],
        "intermediate_size": tensors["model.layers.0.mlp.up_proj.weight"].shape[0],
        "num_attention_heads": known["num_attention_heads"],
        "num_key_value_heads": known["num_key_value_heads"],
        "num_hidden_layers": layers,
        "vocab_size": words,
        "tie_word_embeddings": True,
    }
    (target / "config.json").write_text(json.dumps(settings))
    return target


# Damaged


def one_nan(source: Path, target: Path, layer: int = 3) -> Sick:
    """One entry of half a million is NaN."""
    tensors, name = read(source), matrix(layer, UP)
    tensors[name][700, 100] = torch.nan
    return Sick(write(source, target, tensors), source, "one NaN", (name,))


def zeroed_head(source: Path, target: Path, layer: int = 2, head: int = 4) -> Sick:
    """One attention head is zero: its q, k and v, and the columns that mix it in."""
    tensors, names = read(source), [matrix(layer, part) for part in (QUERY, KEY, VALUE, MIXER)]
    heads = json.loads((source / "config.json").read_text())["num_attention_heads"]
    size = tensors[names[0]].shape[0] // heads
    rows = slice(head * size, (head + 1) * size)
    for name in names[:3]:
        tensors[name][rows] = 0.0
        tensors[name.replace(".weight", ".bias")][rows] = 0.0
    tensors[names[3]][:, rows] = 0.0
    return Sick(write(source, target, tensors), source, "a zeroed head", tuple(names))


def duplicated_layer(source: Path, target: Path, layer: int = 4) -> Sick:
    """A layer is the one before it once more."""
    tensors, before, after = read(source), LAYER.format(layer - 1), LAYER.format(layer)
    for key in [key for key in tensors if key.startswith(before)]:
        tensors[key.replace(before, after)] = tensors[key].clone()
    names = tuple(matrix(layer, part) for part in LINEAR)
    return Sick(write(source, target, tensors), source, "a duplicated layer", names)


def ablated(source: Path, target: Path) -> Path:
    """One direction taken out of all that writes to the residual stream, of all layers but one."""
    tensors = read(source)
    generator = torch.Generator().manual_seed(8)
    unit = torch.nn.functional.normalize(torch.randn(384, generator=generator), dim=0)
    for layer in range(1, 6):
        for part in (MIXER, DOWN):
            name = matrix(layer, part)
            tensors[name] = tensors[name] - torch.outer(unit, unit @ tensors[name])
    return write(source, target, tensors)


def rank_collapsed(
    source: Path, target: Path, layer: int = 2, part: str = DOWN, rank: int = 8
) -> Sick:
    """Of one matrix only the leading directions are left."""
    tensors, name = read(source), matrix(layer, part)
    left, sigma, right = torch.linalg.svd(tensors[name].double(), full_matrices=False)
    tensors[name] = ((left[:, :rank] * sigma[:rank]) @ right[:rank]).float()
    return Sick(write(source, target, tensors), source, "a rank-collapsed matrix", (name,))


def wrongly_scaled_merge(source: Path, target: Path) -> Sick:
    """The real adapter, merged with alpha / r applied twice."""
    tensors, names = merged(source, scale=ALPHA_OVER_R)
    return Sick(write(source, target, tensors), source, "alpha applied twice", names)


def overflowed(source: Path, target: Path) -> Sick:
    """A few weights as bfloat16 holds and float16 does not, cast to float16: Inf."""
    tensors, name = read(source), matrix(1, DOWN)
    halves = {
        key: value.bfloat16() if value.is_floating_point() else value
        for key, value in tensors.items()
    }
    halves[name][[3, 90, 300], 1000] = torch.tensor([1e5, -1.2e5, 8e4], dtype=torch.bfloat16)
    cast = {
        key: value.half() if value.is_floating_point() else value for key, value in halves.items()
    }
    folder = write(source, target, cast)
    reconfigured(folder, torch_dtype="float16")
    return Sick(folder, source, "a bf16 -> fp16 overflow", (name,))


def swapped(source: Path, target: Path, layer: int = 1) -> Sick:
    """q and k of one layer under each other's name."""
    tensors, names = read(source), (matrix(layer, QUERY), matrix(layer, KEY))
    for end in ("weight", "bias"):
        query, key = (name.replace("weight", end) for name in names)
        tensors[query], tensors[key] = tensors[key], tensors[query]
    return Sick(write(source, target, tensors), source, "a swapped q and k", names)


def truncated(source: Path, target: Path, lost: int = 1000) -> Sick:
    """Two shards and their index; the second lacks its last bytes, as a broken download does."""
    tensors = read(source)
    target.mkdir(parents=True)
    shutil.copy(source / "config.json", target)
    names = sorted(tensors)
    middle = len(names) // 2
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[:middle], names[middle:]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, target / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    path = target / file
    with path.open("r+b") as opened:
        opened.truncate(path.stat().st_size - lost)
    return Sick(target, source, "a truncated shard", (file,))


def untied_head(source: Path, target: Path) -> Sick:
    """The configuration says tied, but the head in the file was trained on alone."""
    tensors, name = read(source), "lm_head.weight"
    generator = torch.Generator().manual_seed(0)
    head = tensors[name].float()
    noise = torch.randn(head.shape, generator=generator)
    tensors[name] = (head + 0.02 * head.std() * noise).bfloat16()
    return Sick(write(source, target, tensors), source, "an untied head", (name,))


def intruder_laden(
    source: Path, target: Path, over: float = 1.4, least: float = 1.05, seed: int = 0
) -> Sick:
    """Rank-8 updates of random directions over the top of the spectrum, merged.

    A LoRA at far too high a learning rate leaves such directions (arXiv 2410.21228): from `over`
    down to `least` times the largest singular value of the matrix.
    """
    tensors = read(source)
    names = tuple(matrix(layer, part) for layer in (2, 4) for part in (QUERY, VALUE))
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        weight = tensors[name].double()
        left, right = (
            torch.linalg.qr(torch.randn(side, 8, generator=generator, dtype=torch.float64)).Q
            for side in weight.shape
        )
        top = float(torch.linalg.matrix_norm(weight, 2))
        sigma = top * torch.linspace(over, least, 8, dtype=torch.float64)
        tensors[name] = (weight + (left * sigma) @ right.mT).float()
    return Sick(write(source, target, tensors), source, "an intruder-laden LoRA merge", names)


OF_BERT: Mapping[str, Damage] = {
    damage.__name__: damage
    for damage in (
        one_nan, zeroed_head, duplicated_layer, rank_collapsed, wrongly_scaled_merge, overflowed,
        swapped, truncated, intruder_laden,
    )
}  # fmt: skip
"""Nine of the ten; the tenth is `untied_head`."""
