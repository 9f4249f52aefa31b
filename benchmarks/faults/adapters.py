"""LoRA as others than PEFT write it, under names that wrappers leave, and not gathered."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.faults.fault import Fault, read, spectra

RANK, ALPHA = 4, 2.0
MODULES = [
    f"down_blocks.0.attentions.{i}.transformer_blocks.0.attn1.to_{p}" for i in (0, 1) for p in "qkv"
]
BASE_MODEL = "base_model.model."
Names = Callable[[str, str], str]  # of a factor, by its module and side


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(number: int) -> tuple[Tensor, Tensor]:
    """A [r, in] and B [out, r] of the module of that number."""
    return seeded(RANK, 32, seed=100 + number), seeded(32, RANK, seed=200 + number)


def unet(folder: Path, scale: float) -> None:
    """Write a part of a UNet, and what its LoRA makes of it."""
    base = {f"{name}.weight": seeded(32, 32, seed=i) for i, name in enumerate(MODULES)}
    tuned = {}
    for number, (name, weight) in enumerate(base.items()):
        a, b = pair(number)
        tuned[name] = weight + scale * (b @ a)
    for part, tensors in {"unet": base, "merged": tuned}.items():
        (folder / part).mkdir()
        save_file(tensors, folder / part / "diffusion_pytorch_model.safetensors")


def diffusion(
    name: str, names: Names, *, alpha: str = "", part: str = "adapter"
) -> Callable[[Path], None]:
    """Return what writes a UNet's LoRA under such names."""

    def make(folder: Path) -> None:
        unet(folder, ALPHA / RANK if alpha else 1.0)
        tensors = {}
        for number, module in enumerate(MODULES):
            a, b = pair(number)
            tensors |= {names(module, "A"): a, names(module, "B"): b}
            if alpha:
                tensors[alpha.format(module.replace(".", "_"))] = torch.tensor(ALPHA)
        (folder / part).mkdir()
        save_file(tensors, folder / part / name)

    return make


def other_method(parts: Mapping[str, tuple[int, ...]]) -> Callable[[Path], None]:
    """Return what writes an adapter that is no LoRA."""

    def make(folder: Path) -> None:
        unet(folder, 1.0)
        (folder / "adapter").mkdir()
        tensors = {
            f"lora_unet_{module.replace('.', '_')}.{part}": torch.ones(shape)
            for module in MODULES
            for part, shape in parts.items()
        }
        save_file(tensors, folder / "adapter" / "weights.safetensors")

    return make


LLAMA = [f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)]


def llama(folder: Path, scale: float) -> None:
    """Write a part of a Llama with what its LoRA makes of it."""
    base = {f"{name}.weight": seeded(32, 32, seed=i) for i, name in enumerate(LLAMA)}
    base["lm_head.weight"] = seeded(48, 32, seed=9)
    tuned = dict(base)
    for number, name in enumerate(LLAMA):
        a, b = pair(number)
        tuned[f"{name}.weight"] = base[f"{name}.weight"] + scale * (b @ a)
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 4}
    for part, tensors in {"unet": base, "merged": tuned}.items():
        (folder / part).mkdir()
        save_file(tensors, folder / part / "model.safetensors")
        (folder / part / "config.json").write_text(json.dumps(config))


def mlx(folder: Path) -> None:
    llama(folder, 20.0)
    tensors = {}
    for number, module in enumerate(LLAMA):
        a, b = pair(number)
        tensors |= {f"{module}.lora_a": a.T.contiguous(), f"{module}.lora_b": b.T.contiguous()}
    (folder / "adapter").mkdir()
    save_file(tensors, folder / "adapter" / "adapters.safetensors", {"format": "mlx"})
    told = {"fine_tune_type": "lora", "lora_parameters": {"rank": RANK, "scale": 20.0}}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(told))


def gguf_lora(folder: Path) -> None:
    llama(folder, ALPHA / RANK)
    (folder / "adapter").mkdir()
    writer = gguf.GGUFWriter(folder / "adapter" / "lora.gguf", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for number in range(len(LLAMA)):
        a, b = (np.asarray(one) for one in pair(number))
        rotated = b.reshape(4, 2, 4, RANK).swapaxes(1, 2).reshape(32, RANK)  # the converter's order
        stem = f"blk.{number}.attn_q.weight"
        writer.add_tensor(f"{stem}.lora_a", a)
        writer.add_tensor(f"{stem}.lora_b", np.ascontiguousarray(rotated))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def peft(
    rename: Callable[[str], str], *, settings: bool = True, change: str = ""
) -> Callable[[Path], None]:
    """Return what writes a PEFT adapter, its names or tensors changed.

    `change`: `all` and `head` leave tensors without elements, `none` leaves no tensor.
    """

    def make(folder: Path) -> None:
        llama(folder, ALPHA / RANK if settings else 1.0)
        tensors = {f"{BASE_MODEL}lm_head.weight": seeded(48, 32, seed=9)} if change else {}
        for number, module in enumerate(LLAMA):
            a, b = pair(number)
            tensors |= {f"{BASE_MODEL}{module}.lora_A.weight": a,
                        f"{BASE_MODEL}{module}.lora_B.weight": b}  # fmt: skip
        if change:
            gone = {"all": lambda _: True, "head": lambda name: "lm_head" in name}.get(change)
            tensors = {
                name: torch.zeros(0) if gone(name) else value
                for name, value in tensors.items()
                if gone is not None
            }
        (folder / "adapter").mkdir()
        named = {rename(name): value for name, value in tensors.items()}
        save_file(named, folder / "adapter" / "adapter_model.safetensors")
        if settings:
            told = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA,
                    "modules_to_save": ["lm_head"] if change else None}  # fmt: skip
            (folder / "adapter" / "adapter_config.json").write_text(json.dumps(told))

    return make


def against_merged(folder: Path) -> str:
    """Say how far the adapter's diff is from that of the model with it merged."""
    found = read(folder, "diff", "unet", "adapter")
    if found.code:
        return found.err.strip()
    sizes = [
        {row["matrix"]: row["delta_norm"] or 0.0 for row in one.document["rows"]}
        for one in (found, read(folder, "diff", "unet", "merged"))
    ]
    changed = sum(size > 0 for size in sizes[0].values())
    worst = max(abs(sizes[0][name] - size) / (size or 1) for name, size in sizes[1].items())
    assumed = " (scale assumed, said)" if "is assumed" in found.reading else ""
    return f"{changed} matrices change, delta_norm off by {worst:.0e}{assumed}"


def merges(said: str) -> bool:
    found = re.match(r"(\d+) matrices change, delta_norm off by (\S+)", said)
    return bool(found) and int(found[1]) in {2, 6} and float(found[2]) < 1e-5


def checked(folder: Path) -> str:
    found = spectra(folder, "check", "adapter", "--base", "unet")
    return f"exit {found.code}: {(found.err or found.out).strip()}"


def compared(folder: Path) -> str:
    found = spectra(folder, "diff", "unet", "adapter")
    return f"exit {found.code}: {(found.err or found.out).strip()}"


def not_gathered(said: str) -> bool:
    return said.startswith("exit 2") and "DeepSpeed ZeRO-3" in said


LIKE_MERGED = "the diff of the model with it merged"
GIVE_BASE = "Give the base it was trained on"
SIDES = {"A": "down", "B": "up"}


def flat(module: str, side: str) -> str:
    return f"lora_unet_{module.replace('.', '_')}.lora_{SIDES[side]}.weight"


def processors(module: str, side: str) -> str:
    before, _, leaf = module.rpartition(".")
    return f"unet.{before}.processor.{leaf}_lora.{SIDES[side]}.weight"


WRITTEN = {
    "kohya": diffusion("k.safetensors", flat, alpha="lora_unet_{}.alpha"),
    "diffusers": diffusion("pytorch_lora_weights.safetensors",
                           lambda module, side: f"unet.{module}.lora_{side}.weight"),
    "old attention processors": diffusion("old.safetensors", processors),
}  # fmt: skip
WRAPPED: dict[str, Callable[[str], str]] = {
    "ad_compile": lambda name: f"_orig_mod.{name}",
    "ad_inner": lambda name: re.sub(r"(layers\.\d+\.)", r"\1_checkpoint_wrapped_module.", name),
    "ad_named": lambda name: name.replace(".weight", ".default.weight"),
    "ad_other_name": lambda name: name.replace(".weight", ".policy.weight"),
    "ad_twice": lambda name: BASE_MODEL + name,
    "ad_noprefix": lambda name: name.removeprefix(BASE_MODEL),
    "ad_one_model": lambda name: name.replace(f"{BASE_MODEL}model.", BASE_MODEL),
}
METHODS = {
    "LoHa": {
        "hada_w1_a": (32, 4),
        "hada_w1_b": (4, 32),
        "hada_w2_a": (32, 4),
        "hada_w2_b": (4, 32),
    },
    "LoKr": {"lokr_w1": (4, 4), "lokr_w2": (8, 8)},
}

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(f"adapter {kind}", GIVE_BASE, LIKE_MERGED, make, against_merged, merges)
        for kind, make in WRITTEN.items()
    ),
    *(
        Fault(f"adapter {kind}", GIVE_BASE, f"refused: it is {kind}", other_method(parts), compared,
              lambda said, kind=kind: said.startswith("exit 2") and f"holds {kind} (" in said)
        for kind, parts in METHODS.items()
    ),
    Fault("adapter mlx", "PEFT adapter of type None", LIKE_MERGED, mlx, against_merged, merges),
    Fault("adapter gguf lora", GIVE_BASE, LIKE_MERGED, gguf_lora, against_merged, merges),
    *(
        Fault(f"adapter wrapped {kind}", "no factors, or modules that match nothing", LIKE_MERGED,
              peft(rename), against_merged, merges)
        for kind, rename in WRAPPED.items()
    ),
    Fault("adapter wrapped ad_noconfig", GIVE_BASE, f"{LIKE_MERGED} at scale 1, said to be assumed",
          peft(lambda name: name, settings=False), against_merged,
          lambda said: merges(said) and "assumed" in said),
    *(
        Fault(f"adapter zero3 {kind}", "PASS, or factors that do not fit",
              "exit 2: parameters were not gathered", peft(lambda name: name, change=change),
              checked, not_gathered)
        for kind, change in {"empty": "all", "header_only": "none", "head_empty": "head"}.items()
    ),
)  # fmt: skip
