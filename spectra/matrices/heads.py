"""How many heads the attention of a layer has, and how large they are, as config.json tells."""

from dataclasses import dataclass

from spectra.matrices.part import LayoutError
from spectra.matrices.rule import Config, count, first_count
from spectra.matrices.scopes import settings_for
from spectra.text import quote

QUERIES = ("num_attention_heads", "n_heads", "n_head", "num_heads", "attention_heads")
OWN = ("{}_attention_heads", "{}_num_attention_heads", "num_{}_attention_heads")
"""Of a stack alone."""
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


def untold(name: str, config: Config) -> str:
    """Say why it is not known how many heads the layer of a tensor has."""
    if not config:
        return "there is no config.json to tell how many heads it has"
    settings = settings_for(name, config)
    wrong = next((key for key in QUERIES if settings.get(key) is not None), None)
    if wrong is None:
        return "config.json does not tell how many heads it has"
    return f"config.json has {wrong} {quote(settings[wrong])}, which is no number of heads"


def heads_of(name: str, config: Config) -> Heads:
    """Return the heads of the layer that a tensor is in.

    Args:
        name: Key in the checkpoint, which tells the layer and the part of the model.
        config: The model's config.json. May be empty.
    """
    settings = settings_for(name, config)
    side = "decoder" if "decoder" in name else "encoder"
    own = first_count(settings, *(form.format(side) for form in OWN))
    size = first_count(settings, *SIZES)
    try:
        keys = first_count(settings, f"{side}_num_key_value_heads") or own or key_heads(settings)
    except LayoutError:
        keys = None
    return Heads(
        own or first_count(settings, *QUERIES),
        keys,
        size,
        first_count(settings, "v_head_dim") or size,
    )
