"""Which tensors a model lacks, or has too many: against references, config.json and itself."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectra.architectures.lacking import Lack, lacking
from spectra.architectures.parameters import class_of
from spectra.matrices.role import kind_of
from spectra.matrices.rule import first_count
from spectra.matrices.scopes import is_elsewhere, settings_for
from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.rule import SettingsOf
from spectra.policy.rules.places import (
    is_adapter,
    layers_of,
    names_of,
    some,
    weights_of,
)
from spectra.text import counted, shown
from spectra.words import ROLES, VOCABULARY

Items = Iterator[tuple[str, str | None, str, Collection[str]]]
"""Place, name where it is one tensor, what is told of it, the names it stands for."""

APART = 0.5  # share of equal names, below which two models are not compared name by name
NEARLY = 0.9  # share of the other layers that have what one lacks
FEW = 4  # layers, from which on one can lack what the others have
MOST = 1000  # layers that a model may have, whatever its config.json says
MAP = (1, 1)  # shape of a linear map
DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
SIDES = {
    "encoder": ("encoder_layers", "num_encoder_layers"),
    "decoder": ("decoder_layers", "num_decoder_layers"),
}
LINEAR = frozenset(role for role in ROLES if role.startswith(("attn.", "mlp.")))
NORM = re.compile(r"norm|ln", re.IGNORECASE)
"""In names of modules that every layer of a stack has."""

PARTS = ("scale", "zero", "amax", "g_idx", "absmax")
"""In names of what quantisation leaves beside some weights and not others."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a model beside those of a reference."""

    word: str  # "baseline" or "base"
    common: int
    theirs: Collection[str]
    lacking: Collection[str]  # that the reference has
    extra: Collection[str]  # that it has not
    apart: bool  # too few are the same


def references(facts: Facts) -> Iterator[tuple[str, Facts]]:
    """Yield what a model is compared with name by name; an adapter with adapters only."""
    for word, reference in (("baseline", facts.baseline), ("base", facts.base)):
        if reference is not None and is_adapter(facts) == is_adapter(reference):
            yield word, reference


def compared(facts: Facts) -> Iterator[Names]:
    """Yield the names of a model beside those of its baseline, and of its base."""
    own, lost = weights_of(facts), {name for fault in facts.faults for name in fault.tensors}
    every = names_of(facts)
    for word, reference in references(facts):
        theirs = weights_of(reference)
        lacking = theirs.keys() - every
        common = len(theirs) - len(lacking)
        yield Names(
            word,
            common,
            theirs,
            {name for name in lacking if not _tied(name, reference, every, facts.config)},
            {name for name in own.keys() - names_of(reference)
             if not _tied(name, facts, theirs, {})},
            common < APART * min(len(theirs), len(own.keys() | lost)),
        )  # fmt: skip


def missing(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield tensors and layers that a model should have."""
    for names in compared(facts):
        if names.apart:
            yield Breach(
                f"of the {names.word}'s {counted(len(names.theirs), 'tensor')} only "
                f"{names.common:,} have names that occur here: another architecture?",
                subject=names.word,
            )
    for place, name, text, _ in _lacking(facts):
        if settings_of(place) is not None:
            yield Breach(text, name, subject=place)
    lack = lack_of(facts)
    if lack is not None and settings_of(lack.name) is not None:
        yield from _doubted(lack)


def _doubted(lack: Lack) -> Iterator[Breach]:
    """Yield what a model of a class is without and may be whole all the same."""
    if lack.renamed:
        yield Breach(
            f"{counted(len(lack.renamed), 'tensor')} that a {lack.name} holds are not here under "
            f"their names ({some(lack.renamed)}), and others are in their place: renamed?",
            subject=lack.name,
            severity="warning",
        )
    if lack.head:
        yield Breach(
            f"this is the body of a {lack.name}, saved without what is around it "
            f"({counted(len(lack.head), 'tensor')}: {some(lack.head)}); loaded as a {lack.name}, "
            "that is random",
            subject=f"{lack.name} head",
            severity="note",
        )
    for name in lack.unused:
        yield Breach(
            f"is held by every {lack.name} and missing here; only training uses it",
            subject=name,
            severity="note",
        )


def absent(facts: Facts) -> set[str]:
    """Return the names of all that a model should have and has not, whatever a policy says."""
    return {name for _, _, _, meant in _lacking(facts) for name in meant}


def lack_of(facts: Facts) -> Lack | None:
    """Return what a model lacks of what its class holds; None where that is not known."""
    if "lack" not in facts.known:
        facts.known["lack"] = _beside_class(facts)
    found: Lack | None = facts.known["lack"]
    return found


def _beside_class(facts: Facts) -> Lack | None:
    if is_adapter(facts) or "block_configs" in facts.config:
        return None
    files = set(facts.held.values())
    gguf = bool(files) and all(file.endswith(".gguf") for file in files)
    name = class_of(facts.config, gguf=gguf)
    if name is None:
        return None
    return lacking(facts.config, weights_of(facts), names_of(facts), name, translated=gguf)


def is_compared_outside(facts: Facts) -> bool:
    """Say whether anything but its own layers tells what a model should hold."""
    known = any(not names.apart for names in compared(facts))
    return is_adapter(facts) or known or lack_of(facts) is not None


def _lacking(facts: Facts) -> Items:
    """Yield what is missing, once: beside references, its class, config.json and itself."""
    told: set[str] = set()
    beside: list[tuple[Collection[str], Collection[str], str]] = [
        (names.lacking, names.theirs, f"in the {names.word}")
        for names in compared(facts) if not names.apart
    ]  # fmt: skip
    lack = lack_of(facts)
    if lack is not None:
        every = {*lack.missing, *names_of(facts)}
        beside.append((lack.missing, every, f"held by every {lack.name}"))
    for gone, theirs, where in beside:
        for place, name, text, meant in _grouped(set(gone) - told, theirs, where):
            told |= {place, *meant}
            yield place, name, f"{text} and missing here", meant
    for place, name, text, meant in _against_itself(facts):
        if place not in told and not (meant and told.issuperset(meant)):
            yield place, name, text, meant


def unexpected(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield tensors and layers that neither the baseline nor the base has."""
    told: set[str] = set()
    for names in compared(facts):
        if names.apart:
            continue
        items = _grouped(set(names.extra) - told, weights_of(facts), "here")
        for place, name, text, meant in items:
            told |= {place, *meant}
            if settings_of(place) is not None:
                yield Breach(f"{text} and not in the {names.word}", name, subject=place)
    lack = lack_of(facts)
    for place, most in lack.beyond.items() if lack is not None else ():
        if settings_of(place) is not None:
            title = shown(place.rstrip("."))
            yield Breach(f"{title} goes past the {most:,} that config.json counts", subject=place)


def _grouped(names: Collection[str], every: Collection[str], where: str) -> Items:
    """Tell names one by one, those of a whole layer or of a whole stack of layers at once."""
    done: set[str] = set()
    whole = layers_of(every)
    for stack, layers in layers_of(names).items():
        full = [number for number, inner in sorted(layers.items())
                if len(inner) > 1 and inner == whole[stack][number]]  # fmt: skip
        meant = {n: {f"{stack}{n}.{end}" for end in layers[n]} for n in full}
        own, title = set().union(*meant.values()), shown(stack.rstrip("."))
        done |= own
        if len(full) == len(whole[stack]) > 1:
            yield stack, None, f"all {len(full):,} layers of {title} are {where}", done
            continue
        if len(full) > FEW:
            told = f"layers {_runs(full)} of {title} ({len(own):,} tensors) are {where}"
            yield f"{stack}{full[0]}", None, told, own
            continue
        for number, inside in meant.items():
            told = f"layer {number} of {title} ({counted(len(inside), 'tensor')}) is {where}"
            yield f"{stack}{number}", None, told, inside
    for name in sorted(set(names) - done):
        yield name, name, f"is {where}", {name}


def _runs(numbers: Sequence[int]) -> str:
    """Write numbers in order, those in a row as one: 1, 3 to 7."""
    rows: list[list[int]] = []
    for number in numbers:
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return ", ".join(f"{row[0]} to {row[-1]}" if len(row) > 1 else str(row[0]) for row in rows)


def _against_itself(facts: Facts) -> Items:
    if is_adapter(facts):
        return
    # Modules in a row, such as convolutions and what is between them, are no layers.
    stacks = {stack: layers for stack, layers in layers_of(names_of(facts)).items()
              if not is_elsewhere(stack) and "mtp" not in stack
              and any("." in end for inner in layers.values() for end in inner)}  # fmt: skip
    for stack, layers in stacks.items():
        depth, last = _depth(stack, stacks, facts.config), max(layers)
        title = shown(stack.rstrip("."))
        gaps = sorted(set(range(last)) - layers.keys())
        # Where many numbers are left out, the modules between have no weights.
        if len(layers) >= FEW and len(gaps) * FEW <= len(layers):
            for number in gaps:
                text = f"layer {number} of {title} is missing, and layer {last} is there"
                lost = {f"{stack}{number}.{end}" for end in layers[last]}
                yield f"{stack}{number}", None, text, lost
        maps = any(len(facts.shapes.get(f"{stack}{last}.{end}", MAP)) == 2 for end in layers[last])
        if depth is not None and len(layers) > 1 and last + 1 < depth and maps:
            text = f"config.json says {depth} layers, and {title} ends with layer {last}"
            ends = [f"{stack}{number}.{end}" for number in range(last + 1, min(depth, MOST))
                    for end in layers[last]]  # fmt: skip
            yield f"{stack}{last + 1}", None, text, ends
    if "block_configs" not in facts.config:  # layers whose parts are left out one by one
        yield from _uneven(facts)


def _depth(
    stack: str, stacks: Mapping[str, Mapping[int, Collection[str]]], config: Mapping[str, Any]
) -> int | None:
    """Return how many layers config.json says a stack has; None where it is not clear."""
    settings = settings_for(stack, config)
    sides = [side for side in SIDES if any(f"{side}." in name for name in stacks)]
    if len(sides) == 2:
        own = [side for side in sides if f"{side}." in stack]
        if len(own) != 1 or sum(f"{own[0]}." in name for name in stacks) != 1:
            return None
        return first_count(
            settings, *SIDES[own[0]], *(["num_layers"] if "d_kv" in settings else [])
        )
    return first_count(settings, *DEPTH) if len(stacks) == 1 else None


def _uneven(facts: Facts) -> Items:
    """Tell what one layer lacks and nearly all others of its stack have.

    Layers of another kind, which have something of their own, are not compared; nor is the
    first layer in all but its linear maps: some models leave out its norm. Of a whole module of
    which its name does not say what it does, any layer may do without.
    """
    every = names_of(facts)
    weights = [name for name in weights_of(facts)
               if not any(word in name.rpartition(".")[2] for word in PARTS)]  # fmt: skip
    for stack, layers in layers_of(weights).items():
        others = len(layers) - 1
        if others + 1 < FEW:
            continue
        counts = Counter(end for inner in layers.values() for end in inner)
        usual = {end for end, count in counts.items() if count >= NEARLY * others}
        for number, inner in layers.items():
            if any(counts[end] - 1 < 0.5 * others for end in inner):
                continue
            for end in sorted(usual - inner):
                name = f"{stack}{number}.{end}"
                linear = kind_of(name) in LINEAR and end.endswith("weight")
                if _may_lack(end, inner, usual, stack):
                    continue
                if name not in every and (number != min(layers) or linear):
                    text = f"is missing: {counts[end]} of the other {others} layers have it"
                    yield name, name, text, (name,)


def _may_lack(end: str, inner: Collection[str], usual: Collection[str], stack: str) -> bool:
    """Say whether a layer may do without a module: it has none, and no name says what it is."""
    module = end.partition(".")[0]
    own = [name for name in usual if name.partition(".")[0] == module]
    told = any(kind_of(f"{stack}0.{name}") in LINEAR for name in own)
    there = any(name.partition(".")[0] == module for name in inner)
    return not (there or told or NORM.search(module))


def _tied(name: str, facts: Facts, others: Collection[str], config: Mapping[str, Any]) -> bool:
    """Say whether a tensor is another name of one that the other side has."""
    stem = name.removesuffix("bias") + "weight" if name.endswith(".bias") else name
    kind = kind_of(stem)
    if kind not in VOCABULARY and not name.endswith("predictions.bias"):
        return False
    if kind == "lm_head" and settings_for(name, config).get("tie_word_embeddings") is True:
        return True
    own = facts.subjects.get(name)
    digest = own.values.get("digest") if own else None
    return digest is not None and any(
        one.values.get("digest") == digest and one.name != name and one.tensor in others
        for one in facts.subjects.values()
    )
