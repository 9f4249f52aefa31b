"""How many heads the attention of a layer has, and how large they are, as config.json tells."""

from dataclasses import dataclass
from typing import Any

from spectra.matrices.part import LayoutError
from spectra.matrices.rule import Config, count, first_count, first_told
from spectra.matrices.scopes import settings_for
from spectra.text import quote

QUERIES = ("num_attention_heads", "n_heads", "n_head", "num_heads", "attention_heads")
OWN = ("{}_attention_heads", "{}_num_attention_heads", "num_{}_attention_heads")
"""Of a stack alone."""
GROUPED = ("num_key_value_heads", "num_kv_heads", "attn_config.kv_n_heads")
KEYS = (*GROUPED, *QUERIES)
SHARING = frozenset({"falcon", "RefinedWeb", "RefinedWebModel", "gpt_bigcode"})
"""Families of which all queries may share one key head."""

SIZES = ("head_dim", "d_kv")
LATENT_SIZES = ("v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim")
"""Of which 0 is that there are none."""

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


def impossible(name: str, config: Config) -> tuple[Any, str]:
    """Return what a setting of the heads of a tensor's layer holds and cannot, and say so.

    The text is empty where there is none. A list may be one number a layer, which is not read.
    """
    settings, side = settings_for(name, config), _side(name)
    own = [form.format(side) for form in OWN]
    numbers = own, QUERIES, (f"{side}_num_key_value_heads",), GROUPED, ("n_head_kv",)
    sizes = SIZES, *((key,) for key in LATENT_SIZES if settings.get(key) != 0)
    for groups, what in ((numbers, "number of heads"), (sizes, "size of a head")):
        for keys in groups:
            key, value = first_told(settings, *keys)
            if key and first_count(settings, key) is None:
                return value, f"config.json has {key} {quote(value)}, which is no {what}"
    return None, ""


def untold(config: Config) -> str:
    """Say why it is not known how many heads a layer has, where nothing is impossible."""
    if not config:
        return "there is no config.json to tell how many heads it has"
    return "config.json does not tell how many heads it has"


def _side(name: str) -> str:
    return "decoder" if "decoder" in name else "encoder"


def heads_of(name: str, config: Config) -> Heads:
    """Return the heads of the layer that a tensor is in.

    Args:
        name: Key in the checkpoint, which tells the layer and the part of the model.
        config: The model's config.json. May be empty.
    """
    settings = settings_for(name, config)
    side = _side(name)
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
