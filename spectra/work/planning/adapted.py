"""What an adapter changes in its base: which tensors, which way round, which of their rows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import NoReturn

from spectra.checkpoint import Adapter, Checkpoint, LoraFactors, Skipped, TensorEntry
from spectra.checkpoint.adapter.adapter import Changed
from spectra.checkpoint.adapter.ggml import named_for
from spectra.checkpoint.adapter.settings import MERGE, peft_version
from spectra.checkpoint.adapter.updates.update import Update
from spectra.checkpoint.entry import Slab
from spectra.errors import PairingError
from spectra.matrices import View, match_names, views_of
from spectra.text import quote, shown
from spectra.work.planning.changes import Changes, Unpaired
from spectra.work.planning.placing import ELSEWHERE, NO_BASE, Placed, place_modules
from spectra.work.planning.stacks import Stack, assigned, stacks_of, stored_out_in
from spectra.work.task import Change, Remade, Replaced, Rewritten, Updated

MISSING = (
    "its shared matrices are drawn by the sizes of all its modules, and the base lacks some; save "
    "it again with save_projection = True"
)
IN_MEMORY = (
    "Give the base it was trained on; where transformers names its modules otherwise in memory "
    "than in files, save that base with `save_pretrained(folder, save_original_format=False)`."
)


@dataclass(frozen=True, slots=True)
class _Use:
    factors: Changed
    expert: int | None = None
    rows: Slab = None
    swapped: bool = True  # of a stack: each matrix is B @ A as it is stored
    inside: bool = False  # it is one matrix of several in its tensor: outputs x inputs


@dataclass(slots=True)
class _Found:
    uses: dict[str, _Use] = field(default_factory=dict)
    saved: dict[str, TensorEntry] = field(default_factory=dict)
    inside: dict[str, _Use] = field(default_factory=dict)  # by matrix, of several in a tensor
    rows: dict[str, str] = field(default_factory=dict)  # the module whose rows are replaced
    lost: list[Skipped] = field(default_factory=list)
    tied: bool = False  # the head is the embedding, whose rows are replaced, and stored again


def adapter_changes(
    base: Checkpoint, views: Sequence[View], tuned: Adapter, *, turned: Collection[str]
) -> Changes:
    """Find what an adapter does to each matrix of its base; what it does not name stays.

    Args:
        base: The model it was trained on.
        views: The base's matrices that are asked for.
        tuned: The adapter.
        turned: Weights of the base that its family is known to store [in, out]; where there
            are some, the adapter's own flag is not asked.

    Raises:
        PairingError: A name matches several others equally well, or none matches.
    """
    found = _Found()
    if tuned.naming == "gguf":
        tuned, found.lost = named_for(tuned, base)
    unnamed = {item.tensor for item in found.lost}
    placed = place_modules(base, tuned)
    found.uses |= {
        name: _Use(own, rows=rows)
        for name, (own, rows) in placed_changes(base, tuned, placed, turned).items()
    }
    found.lost += placed.lost
    _match_parameters(found, base, tuned)
    saved, strangers = match_names(base.entries, tuned.saved, f"tensor of {shown(tuned.spec)}")
    found.saved = {name: tuned.saved[other] for name, other in saved.items()}
    found.lost += [Skipped(name, NO_BASE) for name in strangers]
    names = {f"{module}.weight": module for module in tuned.rows}
    rows, strangers = match_names(base.entries, names, f"embedding of {shown(tuned.spec)}")
    found.rows = {name: names[other] for name, other in rows.items()}
    found.lost += [Skipped(names[name], NO_BASE) for name in strangers]
    found.tied = bool(found.rows) and base.config.get("tie_word_embeddings") is True
    if not (found.uses or found.inside or found.saved or found.rows):
        unread = found.lost or tuned.skipped  # of some methods no module can be read
        told = next((item for item in unread if item.reason != NO_BASE), None)
        _refuse(base, tuned, told or unread[0])
    changes = Changes(skipped=[*tuned.skipped, *found.lost])
    for view in views:
        _add(changes, view, tuned, found, turns=bool(turned))
    modules = {*tuned.modules, *tuned.rows, *unnamed}
    lost = {item.tensor for item in found.lost} & modules
    changes.warning = _warning(tuned, modules, lost)
    unpaired = _unpaired(len(views), tuned, found)
    changes.unpaired = replace(unpaired, modules=len(lost), modules_of=len(modules))
    return changes


def placed_changes(
    base: Checkpoint, tuned: Adapter, placed: Placed, turned: Collection[str]
) -> dict[str, tuple[Changed, Slab]]:
    """Return what changes each tensor, of other methods than LoRA of the size that it has there.

    Some share matrices that are drawn anew, as large as the largest of all modules.
    """
    found = {name: (tuned.modules[key], rows) for name, (key, rows) in placed.tensors.items()}
    updates = {name: own for name, (own, _) in found.items() if isinstance(own, Update)}
    flagged = tuned.config.get("fan_in_fan_out") is True
    sizes: dict[str, tuple[int, int]] = {}
    for name, own in updates.items():
        rows, cols = base.entries[name].shape[0], prod(base.entries[name].shape[1:])
        swapped = (name in turned if turned else flagged) and own.kind == "linear"
        sizes[name] = (cols, rows) if swapped else (rows, cols)
        if found[name][1] is not None:  # a part of its rows is this tensor's
            sizes[name] = own.shape
    largest = tuple(max(each, default=0) for each in zip(*sizes.values(), strict=True)) or (0, 0)
    for name, own in updates.items():
        if own.drawn and len(updates) < len(tuned.updates):
            placed.lost.append(Skipped(placed.tensors[name][0], MISSING))
            del found[name]
        elif own.fits(*sizes[name]):
            made = own.of(*sizes[name], (largest[0], largest[1]))
            found[name] = (made if made.form == "turns" else made.factors(), found[name][1])
    return found


def _refuse(base: Checkpoint, tuned: Adapter, lost: Skipped) -> NoReturn:
    if lost.reason == NO_BASE:
        raise PairingError(
            f"no module of {shown(tuned.spec)} belongs to a tensor of {shown(base.spec)}, e.g. "
            f"{quote(lost.tensor)}. {IN_MEMORY}"
        )
    elsewhere = lost.reason.startswith(ELSEWHERE)
    raise PairingError(
        f"no module of {shown(tuned.spec)} can be found in {shown(base.spec)}, e.g. "
        f"{quote(lost.tensor)}: {lost.reason}. "
        + ("Give that part of the pipeline as the base." if elsewhere else MERGE)
    )


def _warning(tuned: Adapter, modules: set[str], lost: set[str]) -> str:
    said = []
    if lost:
        said.append(
            f"{len(lost):,} of the adapter's {len(modules):,} modules match no tensor of the base, "
            "and what they change is not seen here."
        )
    if tuned.assumed:
        said.append(f"{shown(tuned.spec)}: {tuned.assumed}.")
    return " ".join(said)


def _unpaired(views: int, tuned: Adapter, found: _Found) -> Unpaired:
    """Count the whole matrices of an adapter that the base lacks; its modules, the warning does."""
    whole = {name for name, entry in tuned.saved.items() if len(entry.shape) > 1}
    lost = [item for item in found.lost if item.tensor in whole]
    first = lost[0] if lost else None
    return Unpaired(0, views, len(lost), len(whole), first, "that the adapter stores whole")


def _match_parameters(found: _Found, base: Checkpoint, tuned: Adapter) -> None:
    modules: dict[str, dict[str, LoraFactors]] = {}
    for key, factors in tuned.factors.items():
        if factors.kind == "parameter":
            modules.setdefault(factors.module, {})[key] = factors
    if not modules:
        return
    known = {
        **stacks_of(base.entries, views_of(base)[0]),
        **{name: Stack(entry.shape, {name: (None, None)}) for name, entry in base.entries.items()},
    }
    wanted = {
        f"{module}.{parameter}"
        for module, wrappers in modules.items()
        for factors in wrappers.values()
        for parameter in factors.choices
    }
    matches, _ = match_names(known, sorted(wanted), f"parameter of {shown(tuned.spec)}")
    targets = {other: known[name] for name, other in matches.items()}
    chosen: list[tuple[LoraFactors, Stack]] = []
    for module, wrappers in modules.items():
        leaves = dict.fromkeys(leaf for own in wrappers.values() for leaf in own.choices)
        held = {leaf: targets[name] for leaf in leaves if (name := f"{module}.{leaf}") in targets}
        way = assigned(wrappers, held)
        if isinstance(way, str):
            found.lost += [Skipped(key, way) for key in wrappers]
            continue
        for key, leaf in way.items():
            rank, scale = wrappers[key].choices[leaf]
            chosen.append((replace(wrappers[key], rank=rank, scale=scale), held[leaf]))
    _place(found, chosen, base, tuned)


def _place(
    found: _Found, chosen: list[tuple[LoraFactors, Stack]], base: Checkpoint, tuned: Adapter
) -> None:
    """Note the factors of each tensor of the stacks, and which way round they are."""
    version = peft_version(tuned.config)
    square: bool | None = True  # as mlx-lm has them
    if tuned.coat == "PEFT":
        square = stored_out_in([(own, stack.shape) for own, stack in chosen], base.config, version)
    keys = {id(own.a): key for key, own in tuned.factors.items()}
    for factors, stack in chosen:
        either = tuned.coat.startswith("PEFT") and not stack.inside  # all others have outputs first
        if not either and factors.shape != stack.shape[-2:]:
            sizes = [" x ".join(map(str, one)) for one in (factors.shape, stack.shape[-2:])]
            reason = f"updates of {sizes[0]} for experts of {sizes[1]}"
            found.lost.append(Skipped(keys[id(factors.a)], reason))
            continue
        swapped: bool | None = factors.shape == stack.shape[-2:]
        if swapped and factors.count > 1 and stack.shape[-1] == stack.shape[-2]:
            swapped = square
        if swapped is None:
            reason = (
                f"square matrices in one stack, which PEFT {'.'.join(map(str, version))} may have "
                "taken either way round"
            )
            found.lost.append(Skipped(keys[id(factors.a)], reason))
            continue
        if stack.inside and not swapped:
            reason = "its matrices are the other way round than those of the base"
            found.lost.append(Skipped(keys[id(factors.a)], reason))
            continue
        for name, (number, part) in stack.inside.items():
            found.inside[name] = _Use(factors, number, part, inside=True)
        for name, (expert, rows) in stack.pieces.items():
            found.uses[name] = _Use(factors, expert, rows, swapped)


def _add(changes: Changes, view: View, tuned: Adapter, found: _Found, *, turns: bool) -> None:
    name = view.entry.name
    use = found.inside.get(view.name) or found.uses.get(name)
    saved, module = found.saved.get(name), found.rows.get(name)
    if module is not None:
        _rewrite(changes, view, tuned, module, saved)
    elif use is not None:
        _update(changes, view, tuned, use, saved, turns=turns)
    elif saved is not None:
        change = Replaced(tuned.weights, saved, view.part.slab, view.part)
        if saved.shape == view.entry.shape:
            changes.add(view, change, view.rows, view.cols)
        elif len(saved.shape) == len(view.entry.shape) == 2:
            rows, cols = saved.shape[::-1] if view.part.transposed else saved.shape
            changes.add(view, change, rows, cols)
        else:
            changes.misfit(view.entry.name, view.entry.shape, saved.shape)
    elif found.tied and view.role.kind == "lm_head":
        changes.skipped.append(Skipped(view.name, "tied to the embedding, whose rows change"))
    else:
        changes.pairs.append((view, None))


def _update(
    changes: Changes,
    view: View,
    tuned: Adapter,
    use: _Use,
    saved: TensorEntry | None,
    *,
    turns: bool,
) -> None:
    factors, stored = use.factors, view.entry.shape
    flat = (stored[0], prod(stored[1:]))
    flagged = tuned.config.get("fan_in_fan_out") is True
    if isinstance(factors, Update):
        turned = _turned(view, factors, flat, flagged=flagged, turns=turns)
        if not factors.known:
            changes.misfit(
                view.entry.name, view.entry.shape, factors.shape, f"{tuned.method} update "
            )
        elif saved is not None:
            reason = f"stored whole beside what {tuned.method} makes of it"
            changes.skipped.append(Skipped(view.name, reason))
        else:
            changes.pairs.append((view, Remade(tuned.weights, factors, turned)))
        return
    if factors.kind == "parameter":
        expert = view.part.expert if use.expert is None else use.expert
        if factors.count > 1 and expert is None:
            reason = f"factors for {factors.count:,} matrices, and it is no stack of experts"
            changes.skipped.append(Skipped(view.name, reason))
            return
        change = Updated(
            tuned.weights, factors, not use.swapped, expert, use.rows, inside=use.inside
        )
        changes.pairs.append((view, change))
        return
    turned = _turned(view, factors, flat, flagged=flagged, turns=turns)
    update = factors.shape[::-1] if turned else factors.shape
    if use.rows is not None:
        update = (use.rows[1] - use.rows[0], update[1])
    change = Updated(tuned.weights, factors, turned, rows=use.rows, start=saved)
    if saved is not None and saved.shape != update:
        changes.misfit(
            view.entry.name, view.entry.shape, saved.shape, "tensor stored beside the update "
        )
    elif update == flat:
        changes.pairs.append((view, change))
    elif update[1] == flat[1] and view.part.suffix == "" and (saved or not factors.magnitude):
        changes.add(view, change, *update)
    else:
        changes.misfit(view.entry.name, view.entry.shape, update, "update ")


def _turned(
    view: View, factors: Changed, flat: tuple[int, int], *, flagged: bool, turns: bool
) -> bool:
    """Say whether the stored tensor is [in, out]."""
    if factors.kind == "embedding":
        return False
    if view.part.transposed or turns or view.entry.shard.endswith(".gguf"):
        return view.part.transposed  # the layout knows; GGUF has but one
    # PEFT corrects a wrong flag; only a shape that fits one way alone decides.
    return flagged and not flat[0] == factors.shape[0] != flat[1]


def _rewrite(
    changes: Changes, view: View, tuned: Adapter, module: str, saved: TensorEntry | None
) -> None:
    new = tuned.rows[module]
    rows = saved.shape[0] if saved is not None else view.entry.shape[0]
    whole = view.part.suffix == "" and not view.part.transposed and len(view.entry.shape) == 2
    if not whole or new.entry.shape[1] != view.cols or max(new.indices, default=0) >= rows:
        changes.wrong.append(
            f"tensor {quote(view.name)} is {view.rows:,} x {view.cols:,} there and its new rows "
            f"are {new.entry.shape[1]:,} long and go up to {max(new.indices, default=0):,} here"
        )
        return
    change: Change = Rewritten(tuned.weights, new, saved)
    changes.add(view, change, rows, saved.shape[1] if saved is not None else view.cols)
