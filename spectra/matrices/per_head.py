"""The attention matrices of a model, head by head."""

from collections.abc import Sequence
from dataclasses import replace

from spectra.matrices.heads import Heads, heads_of, impossible, untold
from spectra.matrices.part import Head
from spectra.matrices.rule import Config, first_count
from spectra.matrices.scopes import settings_for
from spectra.matrices.view import View

ATTENTION = ("attn.q", "attn.k", "attn.v", "attn.o")
LATENT = ("_a_proj", "_a.weight", "kv_a_", "q_attn_a")
"""In names of what lies before the heads are expanded."""


def by_head(view: View, config: Config) -> Sequence[View] | str:
    """Return the heads of a matrix of attention as matrices of their own, or why that is unknown.

    Of queries, keys and values a head is some of the rows, of the output projection some of the
    columns. Where several heads of queries share one of keys and values, head h goes with
    h // (heads of queries / heads of keys); heads of keys and values are numbered on their own.

    Args:
        view: Of a role in `ATTENTION`.
        config: The model's config.json, which tells how many heads there are.
    """
    role, axis = view.role.kind, int(view.role.kind == "attn.o")
    lines = view.cols if axis else view.rows
    if any(word in view.entry.name for word in LATENT):
        return "it lies before the heads are expanded"
    if view.role.expert is not None:
        return "which heads an expert of attention has is not known"
    heads = heads_of(view.entry.name, config)
    total, size = heads.of(role)
    _, why = impossible(view.entry.name, config)
    if why or total is None:
        return why or untold(config)
    what = "columns" if axis else "rows"
    if lines % total:
        return f"its {lines:,} {what} are no multiple of {total:,} heads"
    own = lines // total
    if size is not None and own not in {size, *_parts(view.entry.name, config)}:
        return f"its {lines:,} {what} are not {total:,} heads of {size:,}"
    return [_head(view, index, own, axis, _key_head(index, total, heads)) for index in range(total)]


def _key_head(index: int, total: int, heads: Heads) -> int:
    """Return the head of keys and values that goes with a head of a matrix of `total`."""
    if heads.keys is None or total <= heads.keys or total % heads.keys:
        return index
    return index // (total // heads.keys)


def _parts(name: str, config: Config) -> tuple[int, ...]:
    """Return the rows of a head of DeepSeek's queries and of its keys, without those that rotate.

    There are none where the settings do not tell.
    """
    settings = settings_for(name, config)
    plain = first_count(settings, "qk_nope_head_dim")
    turned = first_count(settings, "qk_rope_head_dim")
    return () if plain is None else (plain, plain + (turned or 0))


def _head(view: View, index: int, size: int, axis: int, key: int) -> View:
    head = Head(index, index * size, (index + 1) * size, axis, key)
    part = replace(view.part, head=head)
    rows, cols = (size, view.cols) if axis == 0 else (view.rows, size)
    return replace(view, name=view.entry.name + part.suffix, part=part, rows=rows, cols=cols)
