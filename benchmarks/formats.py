"""Peak memory of `spectrum` over one set of weights in every container and a few codecs."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.memory import COMMAND, FIXED, LARGEST, MIB, peak
from benchmarks.models import LARGE, SMALL

SMALLER = 24  # matrices beside the two largest
TESTS = Path(__file__).parent.parent / "tests"


def weights() -> Iterator[tuple[str, Tensor]]:
    """Yield two of the largest matrices and a few smaller ones, bfloat16."""
    shapes = [*LARGE, *[SMALL] * SMALLER]
    for layer, shape in enumerate(shapes):
        generator = torch.Generator().manual_seed(layer)
        values = torch.randn(shape, generator=generator) * 0.02
        yield f"model.layers.{layer}.mlp.up_proj.weight", values.to(torch.bfloat16)


def write_safetensors(folder: Path) -> Path:
    """Write plain safetensors."""
    save_file(dict(weights()), folder / "model.safetensors")
    return folder


def write_pickle(folder: Path) -> Path:
    """Write a PyTorch file."""
    torch.save(dict(weights()), folder / "pytorch_model.bin")
    return folder


def write_gguf(folder: Path) -> Path:
    """Write Q8_0 blocks."""
    import gguf  # noqa: PLC0415 - an extra

    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2 + SMALLER)
    kind = gguf.GGMLQuantizationType.Q8_0
    for layer, (_, values) in enumerate(weights()):
        data = gguf.quants.quantize(values.float().numpy(), kind)
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_fp8(folder: Path) -> Path:
    """Write float8 with a scale for each block of 128 x 128."""
    parts: dict[str, Tensor] = {}
    for name, values in weights():
        grid = [-(-extent // 128) for extent in values.shape]
        parts[name] = values.float().mul(448).to(torch.float8_e4m3fn)
        parts[f"{name}_scale_inv"] = torch.full(grid, 1 / 448)
    quantization = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    return _write_quantised(folder, parts, quantization)


def write_nf4(folder: Path) -> Path:
    """Write bitsandbytes' 4-bit floats."""
    from bitsandbytes.functional import quantize_4bit  # noqa: PLC0415 - takes seconds to load

    parts: dict[str, Tensor] = {}
    for name, values in weights():
        packed, state = quantize_4bit(values.contiguous(), quant_type="nf4")
        parts[name] = packed
        described: Mapping[str, Tensor] = state.as_dict(packed=True)
        parts |= {f"{name}.{key}": part for key, part in described.items()}
    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    return _write_quantised(folder, parts, quantization)


def _write_quantised(folder: Path, parts: dict[str, Tensor], quantization: object) -> Path:
    """Write tensors and a configuration that tells their scheme."""
    save_file(parts, folder / "model.safetensors")
    config = {"model_type": "llama", "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "safetensors": write_safetensors,
    ".bin": write_pickle,
    "GGUF, Q8_0": write_gguf,
    "DeepSeek FP8": write_fp8,
    "bitsandbytes nf4": write_nf4,
}


def main() -> None:
    baseline = peak("import torch")
    print(f"import torch alone: {baseline / MIB:,.0f} MiB; largest matrix in float32: "
          f"{LARGEST / MIB:,.0f} MiB")  # fmt: skip
    for name, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            model = write(Path(folder))
            measure(name, [str(model), "--allow-pickle"], COMMAND, baseline)
    sys.path.append(str(TESTS))
    from loopback import loopback  # noqa: PLC0415 - the tests' own hub

    with loopback() as hub, tempfile.TemporaryDirectory() as folder:
        hub.add("org/model", write_safetensors(Path(folder)))
        environment = hub.environment(Path(folder) / "home")
        code = f"import os; os.environ.update({environment!r}); {COMMAND}"
        measure("the Hub, by range", ["org/model"], code, baseline)


def measure(name: str, words: list[str], code: str, baseline: int) -> None:
    """Run `spectrum` and hold its peak against the bound of all formats."""
    found = peak(code, ["spectrum", *words, "--format", "json"])
    bound = baseline + FIXED + 4 * LARGEST
    print(
        f"{name}: {found / MIB:,.0f} MiB of {bound / MIB:,.0f} allowed: "
        f"{'ok' if found <= bound else 'TOO MUCH'}",
        flush=True,
    )
