"""How many heads the attention of a layer has, and how large they are, as config.json tells."""

from dataclasses import dataclass

from spectra.matrices.part import LayoutError
from spectra.matrices.rule import Config, count, first_count
from spectra.matrices.scopes import settings_for

QUERIES = ("num_attention_heads", "n_heads", "n_head", "num_heads")
KEYS = ("num_key_value_heads", "num_kv_heads", "attn_config.kv_n_heads", *QUERIES)
SHARING = frozenset({"falcon", "RefinedWeb", "RefinedWebModel", "gpt_bigcode"})
"""Families of which all queries may share one key head."""

SIZES = ("head_dim", "d_kv")

query_heads = count(*QUERIES)


def key_heads(config: Config) -> int:
    """Return the heads of keys and values; as many as of queries unless the settings differ.

    Raises:
        LayoutError: The settings tell neither.
    """
    if config.get("model_type") not in SHARING:
        return count(*KEYS)(config)
    if config.get("new_decoder_architecture") or "n_head_kv" in config:
        return count("num_kv_heads", "n_head_kv", *QUERIES)(config)
    return 1 if config.get("multi_query", True) else query_heads(config)


@dataclass(frozen=True, slots=True)
class Heads:
    """Of the attention of one layer; None: not told."""

    queries: int | None
    keys: int | None  # and values
    size: int | None  # rows of the queries of one, and of its keys
    value_size: int | None  # rows of its values, columns of the output projection

    def of(self, role: str) -> tuple[int | None, int | None]:
        """Return how many heads a matrix of a role has, and the rows or columns of one."""
        heads = self.keys if role in {"attn.k", "attn.v"} else self.queries
        return heads, self.value_size if role in {"attn.v", "attn.o"} else self.size


def heads_of(name: str, config: Config) -> Heads:
    """Return the heads of the layer that a tensor is in.

    Args:
        name: Key in the checkpoint, which tells the layer and the part of the model.
        config: The model's config.json. May be empty.
    """
    settings = settings_for(name, config)
    own = first_count(settings, f"{'decoder' if 'decoder' in name else 'encoder'}_attention_heads")
    size = first_count(settings, *SIZES)
    try:
        keys = own or key_heads(settings)
    except LayoutError:
        keys = None
    return Heads(
        own or first_count(settings, *QUERIES),
        keys,
        size,
        first_count(settings, "v_head_dim") or size,
    )
