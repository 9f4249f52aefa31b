"""The modules of attention of a model: their matrices, biases and norms, and how they go together.

What is not known is said, never guessed: heads that config.json does not tell, a layout that does
not fit them, a family whose norms and rotations are not among those of `attention_families`.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spectra.checkpoint import Checkpoint, Skipped, TensorEntry
from spectra.matrices.attention_families import (
    Family,
    NormKind,
    Pairing,
    cap_of,
    family_of,
    length_of,
    rotates,
    rotating,
    scale_of,
    told_of,
)
from spectra.matrices.attention_norms import (
    add_each_gain,
    add_gain,
    add_latent_gain,
    bare,
    gain_of,
    layer_of,
)
from spectra.matrices.layers import place_in
from spectra.matrices.part import Part
from spectra.matrices.per_head import ATTENTION, by_head
from spectra.matrices.role import Role
from spectra.matrices.rule import Config
from spectra.matrices.scopes import settings_for
from spectra.matrices.view import View
from spectra.text import counted, natural

ACROSS = re.compile(r"cross|encoder_attn|EncDecAttention", re.IGNORECASE)
OTHERWISE = re.compile(r"linear_attn|mamba|mixer|delta|global|disentangled|rel_attn|indexer")
"""Modules of which the four projections do not make heads of softmax attention alone."""
BESIDE = re.compile(r"\.(?:A_log|dt_bias|lambda_q1|conv1d\.weight)$")
"""Tensors of modules that are linear attention, differential, or read several positions at once."""
SHORT = {"attn.q": "q", "attn.k": "k", "attn.v": "v", "attn.o": "o"}
OTHER = "its four projections do not make heads of softmax attention alone"
LACKS = "no "  # begins what a module is without
UNFOLDED = "Nothing is folded in and no logit is bounded there."
LATENT = re.compile(r"(?:q_a_proj|kv_a_proj_with_mqa)\.weight$")


@dataclass(frozen=True, slots=True)
class Attention:
    """One module of attention, as plain data; sizes in lines, of one head where they are of any."""

    module: str
    family: str  # model_type
    heads: int  # of queries
    keys: int  # heads of keys and values
    size: int  # of a query and a key
    value_size: int
    width: int  # inputs of queries
    memory: int  # inputs of keys and values
    written: int  # outputs
    across: bool = False  # its keys and values are of another stack
    known: bool = False  # norms, scale and rotation are
    before: NormKind = ""  # what queries, keys and values are read through
    through: NormKind = ""  # of attention across: what keys and values are
    behind: NormKind = ""  # what passes before it is added to the stream
    each: NormKind = ""  # of queries and keys
    spans: bool = False  # that norm is of all heads together, not of each
    scale: float | None = None  # of the logits
    cap: float | None = None  # softly, of the logits
    added: bool = False  # positions are added to the logits
    turning: int = 0  # lines of a query that rotate; of latent attention the last ones
    pairing: Pairing = ""
    length: float = 1.0  # what rotating multiplies a query and a key with
    latent: bool = False  # keys and values, and perhaps queries, are expanded from few numbers


@dataclass(frozen=True, slots=True)
class Module:
    """One module of attention with its matrices and vectors by role."""

    about: Attention
    parts: Mapping[str, View]
    layer: int | None
    lacks: str = ""  # the norm of its family that is not there, or has not its size
    strange: str = ""  # the setting for which no logit is bounded


def attentions(
    checkpoint: Checkpoint, views: Sequence[View]
) -> tuple[list[Module], list[Skipped], list[str]]:
    """Return the modules of attention of a model.

    Args:
        checkpoint: Of which the views are.
        views: The matrices to look among.

    Returns:
        The modules in natural order of names; what is none and why; and what is not known of
        those that are.
    """
    groups: dict[str, list[View]] = defaultdict(list)
    others: dict[str, list[View]] = defaultdict(list)
    for view in views:
        place = place_in(view.entry.name)
        some = groups if view.role.kind in ATTENTION or LATENT.search(view.entry.name) else others
        some[_module(view.entry.name, layer_of(place))].append(view)
    beside = {
        _module(name, layer_of(place_in(name))): name
        for name in checkpoint.entries if BESIDE.search(name)
    }  # fmt: skip
    found: list[Module] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    for name in sorted(groups, key=natural):
        other = beside.get(name)
        made = f"{OTHER}: {other} is beside them" if other \
            else _made(checkpoint, name, groups[name])  # fmt: skip
        if isinstance(made, str):
            told = made + _beside(others[name]) if made.startswith(LACKS) else made
            skipped.append(Skipped(name, told))
        else:
            found.append(made)
    unknown = [one for one in found if not one.about.known]
    strange = sorted({
        told_of(settings_for(one.parts["q"].entry.name, checkpoint.config))
        for one in unknown if not one.lacks
    })  # fmt: skip
    if strange:
        notes.append(
            f"model_type {', '.join(strange)}: which norms, gates, scale and rotations go with its "
            f"attention is not known. {UNFOLDED}"
        )
    lacking = [one for one in unknown if one.lacks]
    if lacking:
        first = lacking[0]
        what = counted(len(lacking), "module of attention", "modules of attention")
        notes.append(f"{what}: {first.lacks} of {first.about.module} is not there. {UNFOLDED}")
    odd = [one for one in found if one.strange]
    if odd:
        what = counted(len(odd), "module of attention", "modules of attention")
        notes.append(
            f"{what}: what config.json's {odd[0].strange} does to queries and keys is not known. "
            "No logit is bounded there."
        )
    return found, skipped, notes


def _beside(others: Sequence[View]) -> str:
    """Name what else lies in a module, which may hold what it lacks."""
    found = [one for one in others if one.part == Part()]
    if not found:
        return ""
    first = found[0]
    return f"; how {first.name}, {first.rows:,} x {first.cols:,}, is laid out is not known"


def _module(name: str, prefix: str) -> str:
    """Return the module of attention that a tensor is in: the layer, and a word or two more."""
    inner = name.removeprefix(prefix).split(".")
    steps = 2 if inner[0].isdecimal() or (inner[1:2] and inner[1].isdecimal()) else 1
    return prefix + ".".join(inner[: min(steps, len(inner) - 1)])


def _common(names: Sequence[str]) -> str:
    """Return the words that names begin with together."""
    words = zip(*(name.split(".") for name in names), strict=False)
    return ".".join(one[0] for one in itertools.takewhile(lambda some: len(set(some)) == 1, words))


def _made(checkpoint: Checkpoint, name: str, held: Sequence[View]) -> Module | str:
    if OTHERWISE.search(name):
        return OTHER
    if held[0].role.layer is None:
        return "it lies in no layer: what it reads is not the stream of one"
    config, entries = checkpoint.config, checkpoint.entries
    parts = _latent(held) if any(LATENT.search(one.entry.name) for one in held) else _plain(held)
    if isinstance(parts, str):
        return parts
    sizes = _sizes(parts, config)
    if isinstance(sizes, str):
        return sizes
    first = parts["q"]
    settings, layer = settings_for(first.entry.name, config), first.role.layer
    about = replace(
        sizes, module=_common([view.entry.name for view in held]),
        family=str(settings.get("model_type", "")), across=bool(ACROSS.search(first.entry.name)),
    )  # fmt: skip
    for role in [*parts]:
        bias = _bias(parts[role], entries)
        if bias is not None:
            parts[f"{role}.bias"] = bias
    family, lacks, strange = family_of(settings), "", ""
    if family is not None:
        normed = _with_norms(about, family, parts, entries)
        if isinstance(normed, str):
            lacks = normed
        else:
            about, strange = _with_logits(normed, family, settings, layer, parts)
    return Module(about, parts, layer, lacks, strange)


def _plain(held: Sequence[View]) -> dict[str, View] | str:
    """Return one matrix of each role, or why there is none."""
    kinds = [view.role.kind for view in held]
    lacking = [role for role in ATTENTION if role not in kinds]
    if lacking:
        return f"{LACKS}{', '.join(lacking)} in this module"
    many = next((role for role in ATTENTION if kinds.count(role) > 1), None)
    if many:
        told = f"{kinds.count(many)} matrices are {many} in this module"
        return f"{told}: which go together is not known"
    return {SHORT[view.role.kind]: view for view in held}


def _latent(held: Sequence[View]) -> dict[str, View] | str:
    """Return the matrices of attention whose keys and values come from a few numbers."""
    named = {(view.entry.name.split(".")[-2], view.part.label): view for view in held}
    wanted = {
        "q": ("q_b_proj", "") if ("q_b_proj", "") in named else ("q_proj", ""),
        "down": ("kv_a_proj_with_mqa", "kv"), "turned": ("kv_a_proj_with_mqa", "k"),
        "k": ("kv_b_proj", "k"), "v": ("kv_b_proj", "v"), "o": ("o_proj", ""),
    }  # fmt: skip
    if wanted["q"][0] == "q_b_proj":
        wanted["q_down"] = ("q_a_proj", "")
    lacking = [name for name, _ in wanted.values() if not any(name == one for one, _ in named)]
    if lacking:
        return f"no {lacking[0]} in this module"
    if any(one not in named for one in wanted.values()):
        return "config.json does not tell the sizes of its latents and heads"
    if len(held) != len(wanted):
        return "more matrices than its latents and heads have: which go together is not known"
    return {role: named[one] for role, one in wanted.items()}


def _sizes(parts: Mapping[str, View], config: Config) -> Attention | str:
    """Return how many heads there are and how large; or why that is not known."""
    counts: dict[str, int] = {}
    for role in "qkvo":
        found = by_head(parts[role], config)
        if isinstance(found, str):
            return f"{parts[role].name}: {found}"
        counts[role] = len(found)
    size, value = parts["q"].rows // counts["q"], parts["v"].rows // counts["v"]
    of_key = parts["k"].rows // counts["k"]
    latent = "down" in parts
    fits = counts["k"] == counts["v"] and counts["q"] == counts["o"]
    fits = fits and counts["q"] % counts["k"] == 0 and parts["o"].cols // counts["o"] == value
    if not fits or of_key + (parts["turned"].rows if latent else 0) != size:
        told = ", ".join(
            f"{counts[role]} of {parts[role].name}, {parts[role].rows:,} x {parts[role].cols:,}"
            for role in "qkvo"
        )  # fmt: skip
        return f"its heads do not go together: {told}"
    reads = parts.get("q_down", parts["q"])
    return Attention(
        "", "", counts["q"], counts["k"], size, value, reads.cols,
        parts["down" if latent else "k"].cols, parts["o"].rows, latent=latent,
    )  # fmt: skip


def _with_norms(
    about: Attention, family: Family, parts: dict[str, View], entries: Mapping[str, TensorEntry]
) -> Attention | str:
    """Add the norms around a module; or return what its family has there and it has not."""
    place = place_in(next(iter(parts.values())).entry.name)
    around = (
        ("before", family.across if about.across else family.before, about.width),
        ("behind", family.behind, about.written),
        ("through", family.memory if about.across else None, about.memory),
    )
    kinds: dict[str, NormKind] = {}
    for role, norm, size in around:
        if norm is None:
            continue
        gain = gain_of(norm, place, entries)
        if gain is None and norm.names and (norm.of == "layer" or not bare(norm, place)):
            return f"the norm {norm.names[0]}"
        if gain is not None and gain.numel != size:
            if bare(norm, place):  # of an embedding that is projected after it
                continue
            return f"a norm of {size:,} numbers in place of {gain.name}"
        kinds[role] = add_gain(role, norm, gain, parts, entries)
    for inner, outer in (("q_down", "q"), ("down", "k")):
        if inner in parts and not add_latent_gain(inner, parts, entries, parts[outer].cols):
            return f"the norm behind {parts[inner].name}"
    if family.each and not add_each_gain(
        {"q": about.heads, "k": about.keys}, about.size, parts, entries
    ):
        return "the norm of queries or keys, q_norm or k_norm,"
    spans = "q.gain" in parts and bool(family.each) and parts["q.gain"].rows != about.size
    return replace(
        about, known=True, each=family.each, spans=spans, before=kinds.get("before", ""),
        behind=kinds.get("behind", ""), through=kinds.get("through", ""),
    )  # fmt: skip


def _with_logits(
    about: Attention, family: Family, settings: Config, layer: int | None,
    parts: Mapping[str, View],
) -> tuple[Attention, str]:  # fmt: skip
    """Add what becomes of the product of a query and a key; and the setting that hides it."""
    turning: int | str = 0
    length: float | str = 1.0
    if family.pairing and not about.across and rotates(settings, layer):
        most = parts["turned"].rows if about.latent else about.size
        turning = most if about.latent else rotating(settings, most)
        length = length_of(settings)
    scale = scale_of(family, settings, about.size, layer)
    strange = next((one for one in (turning, length, scale) if isinstance(one, str)), "")
    if isinstance(turning, str):  # that any of them may rotate is the most that can be said
        turning = about.size // 2 * 2
    about = replace(about, turning=turning, pairing=family.pairing if turning else "")
    if strange or isinstance(length, str) or isinstance(scale, str):
        return about, strange
    added = family.added and not about.across
    return replace(about, scale=scale, cap=cap_of(settings), added=added, length=length), ""


def _bias(view: View, entries: Mapping[str, TensorEntry]) -> View | None:
    name = view.entry.name
    entry = entries.get(f"{name.removesuffix('weight')}bias")
    if entry is None or len(entry.shape) != 1:
        return None
    part = Part(label=view.part.label, rows=view.part.rows)
    whole = view.part.rows
    if entry.numel != (whole.groups * whole.size if whole else view.rows):
        return None
    return View(entry.name + part.suffix, Role("other"), entry, part, view.rows, 1)
