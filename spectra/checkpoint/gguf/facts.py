"""What a GGUF file's metadata says of its model, and the config.json that it amounts to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spectra.checkpoint.gguf.reader import Value

TYPES = {
    "chatglm": "glm",
    "deepseek2": "deepseek_v3",
    "gptneox": "gpt_neox",
    "granitehybrid": "granitemoehybrid",
    "modern-bert": "modernbert",
    "phi2": "phi",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
    "qwen3next": "qwen3_next",
    "starcoder": "gpt_bigcode",
}
"""Architectures whose config.json has another word than GGUF, where a layout hangs on it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A model's numbers, read from metadata that may say anything."""

    metadata: Mapping[str, Value]

    @property
    def architecture(self) -> str:
        """The format's word for the family, such as `llama`; empty where there is none."""
        found = self.metadata.get("general.architecture")
        return found if isinstance(found, str) else ""

    def number(self, key: str, layer: int = -1) -> int:
        """Return a count of the model, or of one layer where layers differ; 0: not known."""
        found = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(found, tuple):
            if layer < 0:  # asked for the whole model: what all layers with any have alike
                several = {item for item in found if item}
                found = several.pop() if len(several) == 1 else 0
            else:
                found = found[layer] if layer < len(found) else 0
        return found if isinstance(found, int) and found > 0 else 0

    def has(self, key: str) -> bool:
        """Say whether the model's metadata has a key."""
        return f"{self.architecture}.{key}" in self.metadata

    def attends(self, layer: int) -> bool:
        """Say whether a layer has attention; hybrids list 0 key heads for those without."""
        found = self.metadata.get(f"{self.architecture}.attention.head_count_kv")
        return not isinstance(found, tuple) or not 0 <= layer < len(found) or found[layer] != 0

    def heads(self, layer: int = -1) -> int:
        """Query heads."""
        return self.number("attention.head_count", layer)

    def key_heads(self, layer: int = -1) -> int:
        """Key heads: as many as for queries unless the metadata says otherwise."""
        if self.has("attention.head_count_kv"):
            return self.number("attention.head_count_kv", layer)
        return self.heads(layer)


def config_of(facts: Facts) -> dict[str, Any]:
    """Return what a config.json would say: the family, and the counts that layouts need."""
    number = facts.number
    values = number("ssm.time_step_rank")
    key_length = number("attention.key_length_mla") or number("attention.key_length")
    value_length = number("attention.value_length_mla") or number("attention.value_length")
    rotated = number("rope.dimension_count")
    counts = {
        "hidden_size": number("embedding_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": facts.heads(),
        "num_key_value_heads": facts.key_heads(),
        "head_dim": key_length,
        "v_head_dim": value_length,
        "kv_lora_rank": number("attention.kv_lora_rank"),
        "qk_rope_head_dim": rotated,
        "qk_nope_head_dim": key_length - rotated,
        "linear_num_key_heads": number("ssm.group_count"),
        "linear_num_value_heads": values,
        "linear_key_head_dim": number("ssm.state_size"),
        "linear_value_head_dim": number("ssm.inner_size") // values if values else 0,
    }
    if facts.architecture == "falcon":
        counts["n_head_kv"] = facts.key_heads()  # the rows of every Falcon follow from it
    word = facts.architecture
    known = {key: count for key, count in counts.items() if count > 0}
    return {"model_type": TYPES.get(word, word) or "gguf", **known}
