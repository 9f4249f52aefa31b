"""DeepSeek-V3 as headers alone: `python -m benchmarks.deepseek FOLDER`.

Its shards are sparse files: as long as the real ones (671 billion parameters, fp8 with a scale
for each block of 128 x 128), and without a byte of weights on disk. What `--dry-run` tells of it
is in docs/scale.md; `base` and `tuned` are alike, as two revisions are.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HIDDEN, LAYERS, DENSE, EXPERTS = 7168, 61, 3, 256
INNER, EXPERT, VOCABULARY, BLOCK = 18432, 2048, 129280, 128
SHARD = 4_300_000_000  # bytes, as in the real one of 163 files
BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
CONFIG = {
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "n_routed_experts": EXPERTS,
    "moe_intermediate_size": EXPERT,
    "intermediate_size": INNER,
    "num_attention_heads": 128,
    "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [BLOCK, BLOCK],
        "activation_scheme": "dynamic",
    },
}  # fmt: skip

Tensor = tuple[str, str, tuple[int, ...]]  # name, dtype and shape


def main() -> None:
    """Write both revisions."""
    folder = Path(sys.argv[1])
    for name in ("base", "tuned"):
        write(folder / name)


def tensors() -> Iterator[Tensor]:
    """Yield every tensor, in the order of the layers."""
    yield "model.embed_tokens.weight", "BF16", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        head = f"model.layers.{layer}"
        for module, rows, cols in (
            ("q_a_proj", 1536, HIDDEN), ("q_b_proj", 24576, 1536),
            ("kv_a_proj_with_mqa", 576, HIDDEN), ("kv_b_proj", 32768, 512),
            ("o_proj", HIDDEN, 16384),
        ):  # fmt: skip
            yield from quantised(f"{head}.self_attn.{module}", rows, cols)
        yield f"{head}.self_attn.q_a_layernorm.weight", "BF16", (1536,)
        yield f"{head}.self_attn.kv_a_layernorm.weight", "BF16", (512,)
        yield f"{head}.input_layernorm.weight", "BF16", (HIDDEN,)
        yield f"{head}.post_attention_layernorm.weight", "BF16", (HIDDEN,)
        if layer < DENSE:
            yield from feed_forward(f"{head}.mlp", INNER)
            continue
        yield f"{head}.mlp.gate.weight", "BF16", (EXPERTS, HIDDEN)
        yield f"{head}.mlp.gate.e_score_correction_bias", "F32", (EXPERTS,)
        yield from feed_forward(f"{head}.mlp.shared_experts", EXPERT)
        for expert in range(EXPERTS):
            yield from feed_forward(f"{head}.mlp.experts.{expert}", EXPERT)
    yield "model.norm.weight", "BF16", (HIDDEN,)
    yield "lm_head.weight", "BF16", (VOCABULARY, HIDDEN)


def feed_forward(head: str, inner: int) -> Iterator[Tensor]:
    yield from quantised(f"{head}.gate_proj", inner, HIDDEN)
    yield from quantised(f"{head}.up_proj", inner, HIDDEN)
    yield from quantised(f"{head}.down_proj", HIDDEN, inner)


def quantised(name: str, rows: int, cols: int) -> Iterator[Tensor]:
    yield f"{name}.weight", "F8_E4M3", (rows, cols)
    yield f"{name}.weight_scale_inv", "F32", (-(-rows // BLOCK), -(-cols // BLOCK))


def write(folder: Path) -> None:
    """Write shards of headers, their index and the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shards: list[dict[str, dict[str, object]]] = [{}]
    end = 0
    for name, dtype, shape in tensors():
        nbytes = BYTES[dtype]
        for side in shape:
            nbytes *= side
        if end and end + nbytes > SHARD:
            shards.append({})
            end = 0
        offsets = [end, end + nbytes]
        shards[-1][name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        end += nbytes
    places, total = {}, 0
    for index, header in enumerate(shards, 1):
        file = f"model-{index:05d}-of-{len(shards):06d}.safetensors"
        raw = json.dumps(header).encode()
        data = max(one["data_offsets"][1] for one in header.values())  # type: ignore[index]
        with (folder / file).open("wb") as out:
            out.write(len(raw).to_bytes(8, "little") + raw)
            out.truncate(8 + len(raw) + data)
        places.update(dict.fromkeys(header, file))
        total += data
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
