"""Matrices that equal one another, and a head that should equal the embeddings and does not."""

from collections.abc import Iterator, Sequence

from spectra.architectures.parameters import class_of, tied_names
from spectra.matrices.scopes import TEXT, is_elsewhere
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Breach
from spectra.policy.rule import SettingsOf
from spectra.policy.rules.entries import is_map
from spectra.policy.rules.experts import idle_names
from spectra.policy.rules.places import INPUTS, is_zero, place
from spectra.text import shown
from spectra.words import VOCABULARY


def duplicates(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices that equal an earlier one bit for bit; a whole layer once."""
    twins = _twins(facts)
    layers = _layers(facts)
    whole: set[str] = set()
    for (stack, layer), members in layers.items():
        home = _home(members, twins, stack, layer)
        kept = [one for one in members if settings_of(one.name) is not None]
        if home is None or len(members) < 2 or not kept:
            continue
        whole |= {one.name for one in members}
        yield Breach(
            f"layer {layer} equals layer {home} of {shown(stack.rstrip('.'))} in all "
            f"{len(members)} matrices",
            kept[0].name,
        )
    for subject in facts.matrices():
        twin = twins.get(subject.name)
        if twin and subject.name not in whole and settings_of(subject.name) is not None:
            yield Breach(f"equals {shown(twin.name)}, bit for bit", subject.name)


def untied(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield heads that differ from the embeddings they are said to be tied to."""
    inner = [facts.config.get(key) for key in TEXT]
    said = [settings.get("tie_word_embeddings") for settings in (facts.config, *inner)
            if isinstance(settings, dict) and "tie_word_embeddings" in settings]  # fmt: skip
    if not said or not all(value is True for value in said):
        return
    name = class_of(facts.config)
    ties = tied_names(name) if name else None
    tables = [one for one in facts.matrices()
              if one.tensor.endswith(INPUTS) and not is_elsewhere(one.tensor)]  # fmt: skip
    for head in facts.matrices():
        if head.role != "lm_head" or settings_of(head.name) is None:
            continue
        if ties is not None and not any(
            one.endswith(head.tensor) or head.tensor.endswith(one) for one in ties
        ):
            continue  # whatever the setting says, this class ties no such head
        alike = [one for one in tables if _stored_as(one) == _stored_as(head)]
        digest = head.values.get("digest")
        digests = [one.values.get("digest") for one in alike]
        if digest is not None and alike and None not in digests and digest not in digests:
            yield Breach(f"tie_word_embeddings is true, but it differs from {shown(alike[0].name)}",
                         head.name)  # fmt: skip


def _stored_as(subject: Subject) -> tuple[int, int, str, str | None]:
    return subject.rows, subject.cols, subject.dtype, subject.codec


def _twins(facts: Facts) -> dict[str, Subject]:
    """Return the first matrix of equal values, by the name of each later one."""
    groups: dict[tuple[int, int, str], list[Subject]] = {}
    apart = idle_names(facts)
    for subject in facts.matrices():
        if subject.name in apart:
            continue
        digest = subject.values.get("digest")
        broken = subject.number("nan") or subject.number("inf")
        told = broken or is_zero(subject) or not is_map(subject)
        if digest is None or told or min(subject.rows, subject.cols) < 2:
            continue
        groups.setdefault((subject.rows, subject.cols, str(digest)), []).append(subject)
    return {
        one.name: same[0]
        for same in groups.values()
        if not all(one.role in VOCABULARY for one in same)
        for one in same[1:]
    }


def _layers(facts: Facts) -> dict[tuple[str, int], list[Subject]]:
    found: dict[tuple[str, int], list[Subject]] = {}
    for subject in facts.matrices():
        at = place(subject.tensor)
        if at is not None:
            found.setdefault(at[:2], []).append(subject)
    return found


def _home(
    members: Sequence[Subject], twins: dict[str, Subject], stack: str, layer: int
) -> int | None:
    """Return the layer that this one is a copy of; None where it is none."""
    homes: set[int] = set()
    for one in members:
        twin = twins.get(one.name)
        at = place(twin.tensor) if twin else None
        own = f"{stack}{layer}."
        same = at and at[0] == stack and twin and (
            twin.name == f"{stack}{at[1]}.{one.name.removeprefix(own)}"
        )  # fmt: skip
        if at is None or not same:
            return None
        homes.add(at[1])
    return homes.pop() if len(homes) == 1 and layer not in homes else None
