"""What a change did to the heads of attention, each of which is a matrix of its own."""

import math
from collections.abc import Mapping, Sequence

from spectra.analyzers.row import Row, Value
from spectra.deferred import Tensor, torch
from spectra.kernels.singular import singular_values
from spectra.matrices import Pair
from spectra.matrices.layers import place_in
from spectra.matrices.pair import widened
from spectra.numbers import number
from spectra.text import counted

KEYS = ("head", "kv_head", "head_change")
PARTS = {"attn.q": "q", "attn.k": "k", "attn.v": "v", "attn.o": "o"}
NAMED = 3  # heads in the sentence


def head_of(pair: Pair, *, changed: bool) -> dict[str, Value]:
    """Return the keys of a head; of what is none, nothing but null.

    `head_change` is the length of the difference of the singular values, each list scaled to
    length 1, with the sign of its mean.

    Source:
        Koleilat et al. 2025, arXiv:2509.03740 (CLIP-SVD), `interpret_CLIP.py`.
    """
    head = pair.view.part.head
    if head is None:
        return dict.fromkeys(KEYS)
    change = _moved(pair) if changed else 0.0
    return {"head": head.index, "kv_head": head.key, "head_change": change}


def heads_of_rows(rows: Sequence[Row]) -> list[dict[str, Value]]:
    """Return what changed of each head of queries, with the keys and values that it uses.

    Those of which most changed come first.

    Args:
        rows: All that were measured.
    """
    found: list[dict[str, Value]] = []
    for module, own in _modules(rows).items():
        by_part: dict[tuple[str, int], Row] = {
            (PARTS[row.place.role], int(row.number("head") or 0)): row for row in own
        }
        keys = {
            index: int(row.number("kv_head") or 0)
            for (part, index), row in by_part.items()
            if part in "qo"
        } or {index: index for part, index in by_part}
        for head, key in sorted(keys.items()):
            parts = {
                part: by_part[part, key if part in "kv" else head]
                for part in PARTS.values()
                if (part, key if part in "kv" else head) in by_part
            }
            found.append(_told(module, own[0].place.layer, head, key, parts))
    found.sort(key=lambda head: (-_size(head["change"]), -_size(head["delta_norm"])))
    return found


def reading_of_heads(heads: Sequence[Mapping[str, Value]]) -> str:
    """Say which heads changed most, by what was compared of their V and O; if nothing, nothing."""
    if not any(_size(head["delta_norm"]) for head in heads):
        return "No head of attention changed." if heads else ""
    parts = [part for part in "vo" if any(head[f"change_{part}"] is not None for head in heads)]
    compared = [head for head in heads if head["change"] is not None]
    changed = [head for head in compared if _size(head["change"])]
    if not parts:
        return ""
    either, both = " or ".join(map(str.upper, parts)), " and ".join(map(str.upper, parts))
    if not changed:
        if any(_size(head[part]) for head in compared for part in parts):
            return f"The singular values of {both} kept their proportions in every attention head."
        return f"No {either} of {counted(len(compared), 'attention head')} changed."
    single = len({head["module"] for head in compared}) == 1
    modules = {head["module"]: head["layer"] for head in changed}
    by_layer = len(set(modules.values())) == len(modules)
    of = {
        module: "" if single else f"layer {layer} " if by_layer else f"{module} "
        for module, layer in modules.items()
    }
    named = ", ".join(
        f"{of[head['module']]}head {head['head']} ({number(_size(head['change']), 3)})"
        for head in changed[:NAMED]
    )
    most = "Most changed of" if len(changed) > 1 else "Of"
    return (
        f"{most} {counted(len(compared), 'attention head')}, by their singular values of {both}: "
        f"{named}."
    )


def _modules(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group heads by the module of attention that they are of.

    A layer's, or where it has two of one role, as with attention to another stack, as many words
    after the layer as tell them apart.
    """
    layers: dict[str, list[Row]] = {}
    for row in rows:
        if row.place.role in PARTS and row.values.get("head") is not None:
            place = place_in(row.place.tensor)
            layers.setdefault(place.prefix.rstrip(".") if place else "", []).append(row)
    found: dict[str, list[Row]] = {}
    for prefix, own in layers.items():
        found |= _apart(prefix, own)
    return found


def _apart(prefix: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Divide rows under `prefix` until no two of a module are of one role and head."""
    heads = {(row.place.role, row.values["head"]) for row in rows}
    if len(heads) == len(rows):
        return {prefix: list(rows)}
    below: dict[str, list[Row]] = {}
    for row in rows:
        word = row.place.tensor[len(prefix) :].lstrip(".").partition(".")[0]
        below.setdefault(f"{prefix}.{word}".strip("."), []).append(row)
    if below.keys() == {prefix}:  # nothing is left to tell them apart by
        return {prefix: list(rows)}
    return {
        module: some
        for longer, own in below.items()
        for module, some in _apart(longer, own).items()
    }


def _told(
    module: str, layer: int | None, head: int, key: int, parts: Mapping[str, Row]
) -> dict[str, Value]:
    norms = {part: row.number("delta_norm") or 0.0 for part, row in parts.items()}
    moved = [_change(parts, part) for part in "vo"]
    known = [abs(one) for one in moved if one is not None]
    frames = [
        (norms[part], row.number("frame_diagonal"))
        for part, row in parts.items()
        if row.values.get("frame_diagonal") is not None
    ]
    total = math.fsum(norm**2 for norm, _ in frames)
    found: dict[str, Value] = {
        "module": module, "layer": layer, "head": head, "kv_head": key,
        "delta_norm": math.sqrt(math.fsum(norm**2 for norm in norms.values())),
        **{part: parts[part].values.get("delta_relative") if part in parts else None
           for part in PARTS.values()},
        "change": math.fsum(known) if known else None,
        "change_v": moved[0], "change_o": moved[1],
    }  # fmt: skip
    if frames and total:
        held = math.fsum(norm**2 * (share or 0.0) for norm, share in frames)
        found["frame_diagonal"] = held / total
    return found


def _change(parts: Mapping[str, Row], part: str) -> float | None:
    return parts[part].number("head_change") if part in parts else None


def _moved(pair: Pair) -> float:
    before, after = (_unit(one) for one in (widened(pair.base), widened(pair.tuned_exact())))
    off = after - before
    return float(torch.linalg.vector_norm(off) * torch.sign(off.mean()))


def _unit(matrix: Tensor) -> Tensor:
    sigma = singular_values(matrix)
    size = torch.linalg.vector_norm(sigma)
    unit: Tensor = sigma / size if float(size) else sigma
    return unit


def _size(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
