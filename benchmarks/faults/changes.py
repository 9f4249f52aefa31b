"""What `diff` and the merge rule conclude: rounding, outliers, both sides quantised, pairing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.faults.fault import Fault, read

SIZE = 512
BF16, F16 = torch.bfloat16, torch.float16
NAMES = [f"model.layers.{i}.self_attn.{kind}_proj" for i in (0, 1) for kind in ("q", "o")]


def base_of(seed: int, kind: str = "") -> Tensor:
    """Return a base as initialisation leaves it, or with an outlier."""
    base = 0.02 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    if kind == "row":
        base[7] *= 50.0
    return base


def factors_of(base: Tensor, relative: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return factors of rank 8 whose product has this share of the base's norm."""
    source = torch.Generator().manual_seed(100 + seed)
    up, down = torch.randn(SIZE, 8, generator=source), torch.randn(8, SIZE, generator=source)
    return up * (relative * base.norm() / (up @ down).norm()), down


def save(folder: Path, tensors: dict[str, Tensor], config: dict[str, object]) -> None:
    """Write a model."""
    folder.mkdir()
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))


def pair(change: Callable[[Tensor, int], tuple[Tensor, Tensor]], kind: str = "") -> (
    Callable[[Path], None]
):  # fmt: skip
    """Return a maker of a base and a tuned model."""

    def make(folder: Path) -> None:
        sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for seed, name in enumerate(NAMES):
            for side, values in zip(sides, change(base_of(seed, kind), seed), strict=True):
                side[f"{name}.weight"] = values
        save(folder / "base", sides[0], {})
        save(folder / "tuned", sides[1], {})

    return make


def merge(relative: float, dtype: torch.dtype, wide: bool = False) -> (
    Callable[[Tensor, int], tuple[Tensor, Tensor]]
):  # fmt: skip
    """Return how a rank-8 update is merged into a base of this dtype."""

    def change(base: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        up, down = factors_of(base, relative, seed)
        sides = base.to(dtype), (base.to(dtype).float() + up @ down).to(dtype)
        return (sides[0].float(), sides[1].float()) if wide else sides

    return change


def whole(relative: float) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """Return a full update in bfloat16."""

    def change(base: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        update = relative * base_of(50 + seed)
        return base.to(BF16), (base.to(BF16).float() + update).to(BF16)

    return change


def float8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise to F8_E4M3 in blocks of 128 x 128, as DeepSeek does."""
    blocks = tensor.reshape(SIZE // 128, 128, SIZE // 128, 128)
    scale = blocks.abs().amax(dim=(1, 3)) / 448.0
    coded = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
    return coded.reshape(SIZE, SIZE), scale


def decoded(coded: Tensor, scale: Tensor) -> Tensor:
    """Undo it."""
    return coded.float() * scale.repeat_interleave(128, 0).repeat_interleave(128, 1)


def make_float8(folder: Path) -> None:
    """Write an FP8 base, and it plus rank 8 quantised again."""
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for seed, name in enumerate(NAMES):
        base = float8(base_of(seed))
        up, down = factors_of(base_of(seed), 0.3, seed)
        for side, values in zip(sides, (base, float8(decoded(*base) + up @ down)), strict=True):
            side[f"{name}.weight"], side[f"{name}.weight_scale_inv"] = values
    save(folder / "base", sides[0], config)
    save(folder / "tuned", sides[1], config)


def make_merge(relative: float, dtype: torch.dtype) -> Callable[[Path], None]:
    """Return a maker of a base, an adapter and the right merge of both."""

    def make(folder: Path) -> None:
        pair(merge(relative, dtype))(folder)
        adapter: dict[str, Tensor] = {}
        for seed, name in enumerate(NAMES):
            up, down = factors_of(base_of(seed), relative, seed)
            adapter[f"base_model.model.{name}.lora_B.weight"] = up
            adapter[f"base_model.model.{name}.lora_A.weight"] = down
        save(folder / "adapter", adapter, {})
        weights = folder / "adapter" / "model.safetensors"
        shutil.move(weights, weights.with_name("adapter_model.safetensors"))
        settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 8,
                    "target_modules": ["q_proj", "o_proj"]}  # fmt: skip
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))

    return make


def make_packed(folder: Path) -> None:
    """Write a tuned model whose packed weights nothing explains."""
    pair(merge(0.1, BF16))(folder)
    shutil.rmtree(folder / "tuned")
    tuned = {f"{NAMES[0]}.weight": base_of(0).to(F16)}
    for name in NAMES[1:]:
        tuned[f"{name}.qweight"] = torch.ones(SIZE // 8, SIZE, dtype=torch.int32)
        tuned[f"{name}.scales"] = torch.ones(1, SIZE)
    save(folder / "tuned", tuned, {})


def make_wrapped(folder: Path) -> None:
    """Write a tuned model with a strange part in most names."""
    pair(merge(0.1, BF16))(folder)
    shutil.rmtree(folder / "tuned")
    tuned = {f"{NAMES[0]}.weight": base_of(0).to(BF16)}
    for seed, name in enumerate(NAMES[1:]):
        tuned[f"{name.replace('self_attn', 'strange.self_attn')}.weight"] = base_of(seed).to(BF16)
    save(folder / "tuned", tuned, {})


def diff(folder: Path) -> str:
    """Ask what changed."""
    return read(folder, "diff", "base", "tuned").reading


def check(folder: Path) -> str:
    """Ask whether the adapter is in the merge once."""
    ran = read(folder, "check", "tuned", "--base", "base", "--adapter", "adapter",
               "--select", "SPC107")  # fmt: skip
    found = ran.document["summary"]["findings"]
    return found[0]["message"] if found else "silent"


def is_rank_8(said: str) -> bool:
    """Judge a reading."""
    return said.startswith("The change looks like a rank-8 LoRA on attention")


def _merged(relative: float, dtype: torch.dtype, times: str) -> Fault:
    """Return a right merge that once failed."""
    return Fault(
        kind=f"merge {dtype} {relative}".replace("torch.", ""),
        was=f"the adapter's update is in it {times} times, expected once",
        right="silent",
        make=make_merge(relative, dtype),
        ask=check,
        holds=lambda said: said == "silent",
    )


FAULTS = (
    _merged(0.003, BF16, "0.927"),
    _merged(0.002, BF16, "0.821"),
    _merged(0.001, BF16, "0.546"),
    _merged(0.0003, F16, "0.9"),
    Fault(
        kind="bf16 merge stored as F32",
        was="delta_rank 512, full fine-tuning",
        right="rank 8",
        make=pair(merge(0.01, BF16, wide=True)),
        ask=diff,
        holds=is_rank_8,
    ),
    Fault(
        kind="FP8 on both sides",
        was="delta_rank 512, full fine-tuning, no word on quantising",
        right="rank 8 above the rounding of both, said so",
        make=make_float8,
        ask=diff,
        holds=lambda said: is_rank_8(said) and "above the rounding of" in said,
    ),
    *(
        Fault(
            kind=f"a full update of {relative} in bf16",
            was="The change is rounding alone",
            right="a change whose rank rounding hides, and how many entries moved",
            make=pair(whole(relative)),
            ask=diff,
            holds=lambda said: (
                "by less than the rounding of BF16 can resolve in rank: " in said
                and "entries moved" in said
            ),
        )
        for relative in (0.001, 0.003)
    ),
    *(
        Fault(
            kind=f"an outlier row, rank 8 at {relative}",
            was=was,
            right="rank 8",
            make=pair(merge(relative, BF16), "row"),
            ask=diff,
            holds=is_rank_8,
        )
        for relative, was in ((0.01, "a rank-2 LoRA"), (0.003, "rounding alone"))
    ),
    Fault(
        kind="unread weights and pairing",
        was="rounding alone (2 of 2); no counterpart in the tuned model",
        right="how many found no partner, and that they were not read",
        make=make_packed,
        ask=diff,
        holds=lambda said: "3 of 4" in said and "not read in the tuned model: " in said,
    ),
    Fault(
        kind="names that do not pair",
        was="full fine-tuning on head and embeddings (2 of 2)",
        right="how many of either side found no partner",
        make=make_wrapped,
        ask=diff,
        holds=lambda said: "3 of 4 matrices of the base and 3 of 4 of the tuned model" in said,
    ),
)
