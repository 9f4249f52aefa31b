"""What a file says about its own values: marks, settings, rotations, shapes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from compressed_tensors.transform import (
    TransformArgs,
    TransformConfig,
    TransformScheme,
    apply_transform_config,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.faults.fault import Fault, read, spectra

GRID = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E4M3 = torch.float8_e4m3fn


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def save(folder: Path, name: str, tensors: Mapping[str, Tensor], **config: object) -> None:
    (folder / name).mkdir(parents=True)
    whole = {key: value.contiguous() for key, value in tensors.items()}
    save_file(whole, folder / name / "model.safetensors")
    if config:
        (folder / name / "config.json").write_text(json.dumps(config))


def compared(base: str = "dense", tuned: str = "packed") -> Callable[[Path], str]:
    """Ask for the difference of two models: the sentence on top, and why others are left out."""

    def ask(folder: Path) -> str:
        ran = read(folder, "diff", base, tuned)
        if ran.code:
            return f"exit {ran.code}: {ran.reading}"
        reasons = {item["reason"] for item in ran.document["skipped"]}
        changes = [row["delta_relative"] or 0.0 for row in ran.document["rows"]]
        return " | ".join([ran.reading, f"largest change {max(changes):.1g}", *sorted(reasons)])

    return ask


def listed(name: str = "packed") -> Callable[[Path], str]:
    """Ask what a model holds, and why not more."""

    def ask(folder: Path) -> str:
        ran = read(folder, "ls", name)
        if ran.code:
            return f"exit {ran.code}: {ran.reading}"
        held = [f"{row['matrix']} {row['rows']} x {row['cols']}" for row in ran.document["rows"]]
        reasons = [f"{item['tensor']}: {item['reason']}" for item in ran.document["skipped"]]
        return " | ".join([*held, *reasons])

    return ask


def words(codes: Tensor, bits: int) -> Tensor:
    """Pack codes [rows, n] from the lowest bit on into 32-bit words."""
    rows = []
    for row in codes.tolist():
        number = sum(code << bits * place for place, code in enumerate(row))
        count = len(row) * bits // 32
        rows.append([number >> 32 * place & (2**32 - 1) for place in range(count)])
    return torch.tensor(rows, dtype=torch.int64).to(torch.uint32)


def mlx(folder: Path, *, config: dict[str, Any], bits: int = 4) -> None:
    """MLX's affine quantisation, and the values it means."""
    dense, packed = {}, {}
    for name in ("model.embed_tokens", "model.layers.0.mlp.up_proj"):
        weight = normal(8, 128, seed=len(name)).view(8, 2, 64)
        low = weight.amin(dim=2, keepdim=True)
        scale = (weight.amax(dim=2, keepdim=True) - low) / (2**bits - 1)
        codes = ((weight - low) / scale).round().int()
        dense[f"{name}.weight"] = (codes * scale + low).view(8, 128)
        packed |= {f"{name}.weight": words(codes.view(8, 128), bits),
                   f"{name}.scales": scale[..., 0], f"{name}.biases": low[..., 0]}  # fmt: skip
    save(folder, "dense", dense)
    save(folder, "packed", packed, **config)


def nvfp4(folder: Path) -> None:
    """ComfyUI's NVFP4: high bits first, scales in tiles."""
    weight = normal(256, 128) * torch.linspace(0.1, 3, 256)[:, None]
    runs = weight.view(256, 8, 16)
    factor = weight.abs().max() / (6 * 448)
    scale = (runs.abs().amax(dim=2) / 6 / factor).to(E4M3)
    step = (scale.float() * factor)[..., None]
    codes = ((runs / step).abs()[..., None] - GRID).abs().argmin(dim=-1)
    values = (GRID[codes] * runs.sign() * step).view(256, 128)
    codes = (codes + 8 * (runs < 0)).view(256, 128).to(torch.uint8)
    tiles = scale.view(torch.uint8).view(2, 4, 32, 2, 4).permute(0, 3, 2, 1, 4).reshape(256, 8)
    mark = torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    save(folder, "dense", {"blocks.0.mlp.weight": values})
    save(folder, "packed", {
        "blocks.0.mlp.weight": codes[:, ::2] << 4 | codes[:, 1::2],
        "blocks.0.mlp.weight_scale": tiles.view(E4M3), "blocks.0.mlp.weight_scale_2": factor,
        "blocks.0.mlp.comfy_quant": mark})  # fmt: skip


def marked(folder: Path, told: dict[str, Any]) -> None:
    """ComfyUI's int8 with ConvRot in groups of four, or with a mark that nobody knows."""
    turn = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1.0]]) / 2
    codes = (normal(16, 64) * 30).round().clamp(-127, 127)
    scale = torch.full((16, 1), 0.03125)
    values = ((codes * scale).view(16, 16, 4) @ turn).view(16, 64)
    mark = torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)
    save(folder, "dense", {"blocks.0.mlp.weight": values})
    save(folder, "packed", {
        "blocks.0.mlp.weight": codes.to(torch.int8), "blocks.0.mlp.weight_scale": scale,
        "blocks.0.mlp.comfy_quant": mark})  # fmt: skip


def scaled(folder: Path) -> None:
    """ComfyUI's float8 before weights were marked."""
    values = normal(16, 32).to(E4M3)
    save(folder, "dense", {"blocks.0.mlp.weight": values.float() / 8})
    save(folder, "packed", {
        "blocks.0.mlp.weight": values, "blocks.0.mlp.scale_weight": torch.tensor(0.125),
        "scaled_fp8": torch.empty(0).to(E4M3)})  # fmt: skip


def write_gguf(
    path: Path, word: str, tensors: Mapping[str, Any], keys: Mapping[str, Any] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, word)
    for key, value in (keys or {}).items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, tuple):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def relaid(folder: Path) -> None:
    """A square matrix as ComfyUI's converter lays it out."""
    value = np.random.default_rng(0).standard_normal((320, 320)).astype(np.float32)
    save(folder, "dense", {"proj_in.weight": torch.from_numpy(value)})
    keys = {"comfy.gguf.orig_shape.proj_in.weight": (320, 320)}
    write_gguf(
        folder / "packed" / "m.gguf", "sdxl", {"proj_in.weight": value.reshape(-1, 256)}, keys
    )


class Layer(nn.Module):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.down_proj = nn.Linear(64, 16, bias=False)


def rotated(folder: Path, kind: str) -> None:
    """A layer that compressed-tensors itself has rotated, its own matrices left out."""
    model = Layer()
    model.down_proj.weight.data = normal(16, 64)
    save(folder, "dense", {"down_proj.weight": model.down_proj.weight.detach().clone()})
    sides = (("input", False), ("weight_input", True))
    apply = [TransformArgs(targets=["down_proj"], location=place, inverse=inverse)  # type: ignore[arg-type]
             for place, inverse in sides]  # fmt: skip
    config = TransformConfig(config_groups={"R4": TransformScheme(type=kind, apply=apply)})
    apply_transform_config(model, config)
    told = {"quant_method": "compressed-tensors",
            "transform_config": config.model_dump(mode="json")}  # fmt: skip
    save(folder, "packed", {"down_proj.weight": model.down_proj.weight.detach()},
         quantization_config=told)  # fmt: skip


def strange(folder: Path) -> None:
    """FP8 under a key that nobody knows."""
    values = normal(16, 32).to(E4M3)
    save(folder, "dense", {"a.weight": values.float() / 2, "b.weight": normal(4, 4)})
    save(folder, "packed", {"a.weight": values, "a.weight_scale_inv": torch.tensor([[0.5]]),
                            "b.weight": normal(4, 4)},
         quantization_config={"quant_method": "fp8", "rotation": "quarot"})  # fmt: skip


def gptq(folder: Path, *, told: bool) -> None:
    """GPTQ whose settings stand in quantize_config.json only, or nowhere."""
    inputs, outputs = 32, 16
    codes = (normal(inputs, outputs) * 3 + 8).round().clamp(0, 15).int()
    scale = torch.full((1, outputs), 0.0625).half()
    dense = {"a.weight": ((codes - 8) * scale.float()).T, "b.weight": normal(4, 4)}
    packed = {"a.qweight": words(codes.T, 4).T.view(torch.int32), "a.scales": scale,
              "a.qzeros": words(torch.full((1, outputs), 7), 4).view(torch.int32),
              "a.g_idx": torch.zeros(inputs).int(), "b.weight": dense["b.weight"]}  # fmt: skip
    save(folder, "dense", dense)
    save(folder, "packed", packed, model_type="llama")
    if told:
        settings = {"bits": 4, "group_size": 32, "desc_act": True, "sym": False}
        (folder / "packed" / "quantize_config.json").write_text(json.dumps(settings))


def unnamed(folder: Path) -> None:
    """Integers with parts beside them, and powers of two."""
    powers = torch.ones(4, 4).to(torch.float8_e8m0fnu)
    save(folder, "packed", {"a.weight": normal(8, 8).char(), "a.biases": normal(8, 8),
                            "a.zeros": normal(8, 8), "b.weight": normal(8, 8),
                            "c.steps": powers})  # fmt: skip


BLOCKS = {f"blk.{i}.ffn_up.weight": np.ones((8, 8), np.float32) for i in range(3)}


def future(folder: Path) -> None:
    write_gguf(folder / "m.gguf", "llama", BLOCKS)
    raw = bytearray((folder / "m.gguf").read_bytes())
    place = raw.index(b"blk.0.ffn_up.weight") + len(b"blk.0.ffn_up.weight") + 4 + 16
    raw[place : place + 4] = (99).to_bytes(4, "little")
    (folder / "m.gguf").write_bytes(raw)


def lost(folder: Path) -> None:
    for number, (name, value) in enumerate(BLOCKS.items()):
        if number != 1:
            keys = {"split.no": number, "split.count": 3, "split.tensors.count": 3}
            write_gguf(
                folder / "d" / f"m-{number + 1:05}-of-00003.gguf", "llama", {name: value}, keys
            )


def refused(folder: Path) -> str:
    """List everything twice over: the error itself must give the reason."""
    name = next(path.name for path in sorted(folder.iterdir()))
    ran = spectra(folder, "ls", name, "-v")
    return f"exit {ran.code}: {ran.err.strip()}"


def told(*words: str) -> Callable[[str], bool]:
    """Say whether an answer has all of these words, and does not send anyone to `ls`."""
    return lambda said: all(word in said for word in words) and "`spectra ls`" not in said


SAME = told("Nothing changed in")
QUANTIZATION = {"group_size": 64, "bits": 4, "mode": "affine"}

FAULTS: tuple[Fault, ...] = (
    Fault("mlx", "`.biases` of packed weights chosen for training; PASS, no weight read",
          "nothing changed: the values that MLX means",
          lambda folder: mlx(folder, config={"quantization": QUANTIZATION}), compared(), SAME),
    Fault("mlx six bits, both keys", "as above", "nothing changed",
          lambda folder: mlx(folder, bits=6, config={
              "quantization": {**QUANTIZATION, "bits": 6},
              "quantization_config": {**QUANTIZATION, "bits": 6}}), compared(), SAME),
    Fault("mlx without settings", "`.biases` are matrices",
          "left out by name: bits and groups are not told",
          lambda folder: mlx(folder, config={"model_type": "llama"}), listed(),
          told("fit 3 widths of MLX, and config.json tells no bits")),
    Fault("comfy nvfp4", "149 %, full fine-tuning where nothing changed", "nothing changed",
          nvfp4, compared(), SAME),
    Fault("comfy int8, convrot", "not undone", "nothing changed",
          lambda folder: marked(folder, {"format": "int8_tensorwise", "convrot": True,
                                         "convrot_groupsize": 4}), compared(),
          lambda said: "largest change 0" in said or "e-08" in said or "e-07" in said),
    Fault("comfy mark not known", "decoded as if it were not there", "left out by name",
          lambda folder: marked(folder, {"format": "int8_tensorwise", "hadamard": 64}), listed(),
          told("ComfyUI's mark of the weight is not understood: 'hadamard': 64")),
    Fault("comfy scaled fp8", "float8 weights with a scale_weight are not read", "nothing changed",
          scaled, compared(), SAME),
    Fault("comfy gguf", "400 x 256", "320 x 320, nothing changed", relaid,
          compared(tuned="packed/m.gguf"), SAME),
    Fault("rotated", "141.7 % and full fine-tuning", "undone: within what float32 rounds",
          lambda folder: rotated(folder, "hadamard"), compared(),
          lambda said: "quantising alone" in said and "e-07" in said),
    Fault("rotated by what is not stored", "as above", "left out, transform_config named",
          lambda folder: rotated(folder, "random-hadamard"), listed(),
          told("transform_config: R4 rotates it by a matrix of 64 (random-hadamard)")),
    Fault("a key of the settings", "decoded as if it were not there", "left out, the key named",
          strange, listed(), told("a key of the fp8 settings is not understood: 'rotation'",
                                  "b.weight 4 x 4")),
    Fault("gptq old", '"no counterpart", "rounding alone (2 of 2)"', "nothing changed",
          lambda folder: gptq(folder, told=True), compared(), SAME),
    Fault("gptq told nowhere", "no counterpart", "the reason that was found when opening",
          lambda folder: gptq(folder, told=False), listed(),
          told("weights of the scheme unknown (config.json has no quantization_config)")),
    Fault("packed integers of no name", "`.biases`, `.zeros` are matrices", "left out by name",
          unnamed, listed(), lambda said: said.startswith("b.weight 8 x 8 | ")
          and "a.biases: packed integers of a scheme" in said),
    Fault("powers of two", "not floating point (F8_E8M0)", "scales without weights",
          unnamed, listed(), told("c.steps: powers of two (F8_E8M0), the scales")),
    Fault("gguf control vector", "the error sends one to `spectra ls`, which is that error",
          "exit 2, a control vector",
          lambda folder: write_gguf(folder / "m.gguf", "controlvector",
                                    {"direction.1": np.ones(8, np.float32)}),
          refused, told("exit 2", "is a control vector")),
    Fault("gguf importance matrix", "its sums are matrices", "exit 2, an importance matrix",
          lambda folder: write_gguf(folder / "m.gguf", "llama", BLOCKS,
                                    {"general.type": "imatrix"}),
          refused, told("exit 2", "is an importance matrix")),
    Fault("gguf type of the future", "Fetch or write that file again", "exit 2, what to do",
          future, refused, told("exit 2", "in type 99", "Quantise the model to a known type")),
    Fault("gguf requantised whole", "is one of 3 parts, and its name does not say which",
          "read: it holds all tensors that it announces",
          lambda folder: write_gguf(folder / "m.gguf", "llama", BLOCKS, {
              "split.no": 0, "split.count": 3, "split.tensors.count": 3}),
          listed("m.gguf"), told("model.layers.0.mlp.up_proj.weight 8 x 8")),
    Fault("gguf a part lost", "several GGUF files: which one is meant?", "the part by name", lost,
          refused, told("exit 2", "'m-00002-of-00003.gguf' is not in its folder")),
)  # fmt: skip
