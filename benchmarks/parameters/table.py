"""From what a class holds under many configurations to what every model of it must hold, and when.

A number in a name that a setting counts is written as that setting: `layer.{num_hidden_layers}`.
"""

import inspect
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.parameters.holding import (
    Config,
    Held,
    Names,
    changed,
    held,
    parts,
    reads,
    value_at,
)

Counts = Mapping[tuple[str, ...], str]
"""The setting that counts the numbers after these words, in which numbers are `*`."""

When = dict[str, list[Any]]
"""Values by setting under which a parameter is there; TRUTHY and FALSY stand for many."""

TRUTHY, FALSY = "+", "-"
MOST = 6  # settings that are looked at two by two
SIZES = re.compile(r".*(?:size|dim|heads|channels|positions|width|length|rank|features|groups)")
PATTERNS = re.compile(
    r".*(?:step|freq|frequency|interval|period|every|offset|dense|stride|pattern|start|replace).*"
)
STACKS = frozenset(
    {"layers", "layer", "blocks", "block", "h", "stages", "stage", "resblocks", "levels"}
)
IGNORED = re.compile(
    r"(?:.*\.)?(?:output_\w+|return_dict|use_cache|problem_type|\w*token_id|attribute_map|id2label|label2id"
    r"|model_type|base_model_tp_plan|base_model_pp_plan|rope_\w+|torch_dtype|dtype|initializer_\w+"
    r"|architectures|is_composition|sub_configs|has_no_defaults_at_init|chunk_size_feed_forward)"
)


@dataclass(frozen=True)
class Build:
    """A class under one configuration."""

    changes: Mapping[str, object]  # settings that differ, with their values
    config: Config
    names: frozenset[Names]  # as templates
    places: frozenset[str]  # where numbers stand, as in templates


def names_of(found: Held, kind: str) -> frozenset[Names]:
    return found.saved if kind == "saved" else found.memory


def settings_read(cls: Any, config: Config) -> dict[str, Any]:  # noqa: ANN401 - a class of models
    """Return the settings that building looks at, by dotted name."""
    with reads() as seen:
        held(cls, config)
    found = {}
    for prefix, part in parts(config):
        for kind, key in seen:
            if kind is type(part) and key in vars(part) and not IGNORED.fullmatch(key):
                found[f"{prefix}{key}"] = vars(part)[key]
    return found


def variations(key: str, value: object, source: str) -> Iterator[object]:
    """Yield other values that a setting may have."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        more = (0, 1, 2, value + 1) if PATTERNS.fullmatch(key) else (value, value + 1, 0)
        yield from (None, 0) if SIZES.fullmatch(key) else (*more, None)
    elif isinstance(value, float):
        yield 0.5 if value == 0.0 else 0.0
    elif value is None:
        yield from (True, 2)
    elif isinstance(value, str):
        last = re.escape(key.rpartition(".")[2])
        lines = [line for line in source.splitlines() if re.search(rf"\b{last}\b", line)]
        words = {word for line in lines for word in re.findall(r"""["']([\w-]+)["']""", line)}
        yield from sorted(words - {value, last})[:6]
    elif isinstance(value, list | tuple) and not value:
        yield [0]
    elif isinstance(value, list | tuple):
        several = list(dict.fromkeys(map(str, value)))
        if all(isinstance(item, str) for item in value) and len(several) > 1:
            yield from ([word] * len(value) for word in several)
        elif all(isinstance(item, int) for item in value):
            yield [item + 1 for item in value]
            yield [0 if isinstance(item, bool) else 1 for item in value]
        yield list(value)[:-1]


def source_of(cls: Any, config: Config) -> str:  # noqa: ANN401 - a class of models
    """Return the code that settings are read by."""
    texts = []
    for one in (cls, *(type(part) for _, part in parts(config))):
        module = inspect.getmodule(one)
        texts.append(inspect.getsource(module) if module else "")
    return "\n".join(texts)


def builds(
    cls: Any,  # noqa: ANN401 - a class of models
    config: Config,
    keys: Mapping[str, Any],
    source: str,
) -> Iterator[tuple[str, object, Config, Held]]:
    """Yield what the class holds with one setting changed, where it can be built."""
    for key, value in keys.items():
        for other in variations(key, value, source):
            seen = None
            for varied in changed(config, key, other):
                try:
                    found = held(cls, varied)
                except Exception:  # noqa: BLE001, S112 - not every value can be
                    continue
                if found != seen:
                    yield key, other, varied, found
                seen = found


def counts_of(
    config: Config, plain: frozenset[Names], more: Iterable[tuple[str, object, frozenset[Names]]]
) -> dict[tuple[str, ...], str]:
    """Return which settings count which numbers in names."""
    found: dict[tuple[str, ...], str] = {}
    told = list(more)
    for key, value, other in told:
        old = value_at(config, key)
        if isinstance(old, bool) or not isinstance(old, int) or value != old + 1:
            continue
        there = {name for names in other for name in names}
        # Lists by layer are made again with the number of layers: compare with those made again.
        again = [names for one, same, names in told if one == key and same == old]
        for before in (plain, *again):
            here = {name for names in before for name in names}
            if here - there:
                continue
            for name in there - here:
                words = name.split(".")
                for i, word in enumerate(words):
                    last = [*words[:i], str(old - 1), *words[i + 1 :]]
                    if word == str(old) and ".".join(last) in here:
                        found.setdefault(starred(words[:i]), key)
    return found


def starred(words: Iterable[str]) -> tuple[str, ...]:
    return tuple("*" if word.isdigit() else word for word in words)


def templates(names: frozenset[Names], counts: Counts, config: Config) -> frozenset[Names]:
    """Return names with counted numbers as settings: those that none of the numbers lacks.

    A number that no setting counts is `*` where every number that occurs there has the name, and
    stays as it is besides.
    """
    places = alive({name for group in names for name in group}, counts)
    whole = set()
    for shape in (template, starred_template, first_template):
        seen: dict[Names, set[str]] = {}
        for group in names:
            marked = tuple(sorted({shape(name, counts) for name in group}))
            seen.setdefault(marked, set()).add(min(group))
        whole |= {group for group, found in seen.items()
                  if len(found) == _expected(group, places, config)}  # fmt: skip
    return frozenset(whole)


def alive(names: Iterable[str], counts: Counts) -> dict[str, set[str]]:
    """Return, by how a number's place is written, the places that hold anything."""
    found: dict[str, set[str]] = {}
    for name in names:
        words = name.split(".")
        for i, word in enumerate(words):
            if word.isdigit():
                place = ".".join(words[: i + 1])
                for shape in (template, starred_template, first_template):
                    found.setdefault(shape(place, counts), set()).add(place)
    return found


def place_of(name: str) -> str:
    """Return a template's place: up to its last number that no setting counts; empty: none."""
    words = name.split(".")
    last = max((i for i, word in enumerate(words) if word.isdigit() or word == "*"), default=-1)
    return ".".join(words[: last + 1])


def _expected(group: Names, places: Mapping[str, set[str]], config: Config) -> int:
    """Return how many parameters of a template there are where none is missing; -1: no telling."""
    place = place_of(group[0])
    after = [value_at(config, key) for key in re.findall(r"\{(.*?)\}", group[0][len(place) :])]
    before = [value_at(config, key) for key in re.findall(r"\{(.*?)\}", place)]
    if not all(isinstance(size, int) for size in (*before, *after)):
        return -1
    here = len(places.get(place, ())) if place else 1
    if "*" not in place and here != math.prod(before):
        return -1
    return int(here * math.prod(after))


def template(name: str, counts: Counts) -> str:
    """Return a name with its counted numbers as settings."""
    words = name.split(".")
    return ".".join(
        f"{{{counts[starred(words[:i])]}}}" if word.isdigit() and starred(words[:i]) in counts
        else word
        for i, word in enumerate(words)
    )  # fmt: skip


def first_template(name: str, counts: Counts) -> str:
    """Return it with the first layer's number, for what only that one has."""
    words = name.split(".")
    found = template(name, counts).split(".")
    first = next(
        (i for i, word in enumerate(words) if word == "0" and starred(words[:i]) in counts), None
    )
    if first is not None:
        found = template(name, {place: key for place, key in counts.items()
                                if place != starred(words[:first])}).split(".")  # fmt: skip
    return ".".join(found)


def starred_template(name: str, counts: Counts) -> str:
    """Return it with all other numbers as `*`."""
    return ".".join(starred(template(name, counts).split(".")))


def implied(group: Names, names: frozenset[Names]) -> bool:
    """Say whether one of these parameters is stored under one of the names, whatever else."""
    own = set(group)
    return group in names or any(own.issuperset(other) for other in names)


def condition(values: Iterable[tuple[object, bool]], *, exact: bool) -> list[Any] | None:
    """Return under which values of a setting a parameter is there; None: always; []: no telling.

    Args:
        values: Values that were tried, and whether it is there.
        exact: Of numbers those alone that were tried.
    """
    told = list(values)
    if all(there for _, there in told):
        return None
    good = [value for value, there in told if there]
    bad = [value for value, there in told if not there]
    if any(isinstance(value, list | tuple) and value for value in good):
        return []  # other layers may be meant
    if all(isinstance(value, bool | str) for value in good):
        return sorted({value for value in good if isinstance(value, bool | str)}, key=str)
    if exact and all(isinstance(value, int) for value in good):
        return sorted({value for value in good if isinstance(value, int)})
    if all(good) and not any(bad):
        return [TRUTHY]
    return [FALSY] if not any(good) and all(bad) else []


def holds(when: When, config: Config) -> bool:
    """Say whether a configuration has values under which a parameter is there."""
    return all(fits(value_at(config, key), values) for key, values in when.items())


def fits(value: object, values: Iterable[object]) -> bool:
    return any(
        bool(value) is (word == TRUTHY)
        if word in {TRUTHY, FALSY} and not isinstance(value, str)
        else type(value) is type(word) and value == word
        for word in values
    )


def rules(
    plain: Build, single: list[Build], pairs: list[Build], others: list[Build], counts: Counts
) -> dict[Names, When]:
    """Return what is always there, or under which settings."""
    every = [plain, *single, *pairs, *others]
    found: dict[Names, When] = {}
    for group in sorted({group for build in (plain, *single) for group in build.names}):
        home = plain
        if not implied(group, plain.names):
            home = next(build for build in single if group in build.names)
        near = [build for build in (plain, *single, *pairs) if _apart(home, build)]
        when = _when(group, home, near)
        if (
            when is not None
            and _lasting(group, counts)
            and all(
                implied(group, build.names)
                for build in every
                if holds(when, build.config) and not vacuous(group, build)
            )
        ):
            found[group] = when
    return {group: when for group, when in found.items() if not _covered(group, when, found)}


def _lasting(group: Names, counts: Counts) -> bool:
    """Say whether a number that stands as it is means a part of a module, or the first layer."""
    words = group[0].split(".")
    first = next((i for i, word in enumerate(words) if word.isdigit()), 0)
    if not first or words[first - 1] not in STACKS or any("{" in word for word in words[:first]):
        return True
    return words[first] == "0" and starred(words[:first]) in counts


def _covered(group: Names, when: When, found: Mapping[Names, When]) -> bool:
    """Say whether the same is said of more numbers."""
    shape = sorted(map(shape_of, group))
    return any(
        sorted(map(shape_of, wider)) == shape and _literals(wider) < _literals(group)
        and found[wider].items() <= when.items()
        for wider in found if len(wider) == len(group)
    )  # fmt: skip


def shape_of(name: str) -> str:
    """Return a name or a template with every number as `*`."""
    return re.sub(r"(?<=\.)(?:\d+|\{.*?\})(?=\.|$)", "*", name)


def _literals(group: Names) -> int:
    return sum(word.isdigit() for word in group[0].split("."))


def _apart(home: Build, build: Build) -> str:
    """Return the one setting in which two builds differ; empty where there are more, or none."""
    keys = [
        key
        for key in {*home.changes, *build.changes}
        if home.changes.get(key, plain_value) != build.changes.get(key, plain_value)
    ]
    return keys[0] if len(keys) == 1 else ""


plain_value = object()


def _when(group: Names, home: Build, near: list[Build]) -> When | None:
    """Return the settings on which a parameter hangs, from builds that differ in one each."""
    told: dict[str, list[tuple[object, bool]]] = {}
    for build in near:
        key = _apart(home, build)
        if not vacuous(group, build):
            told.setdefault(key, []).append(
                (value_at(build.config, key), implied(group, build.names))
            )
    when: When = {}
    for key, values in told.items():
        values.append((value_at(home.config, key), True))
        good = condition(values, exact=PATTERNS.fullmatch(key) is not None)
        if good == []:
            return None
        if good is not None:
            when[key] = good
    return when


def vacuous(group: Names, build: Build) -> bool:
    """Say whether a build has none of the layers that a name is about."""
    place = place_of(group[0])
    return (place != "" and place not in build.places) or any(
        not value_at(build.config, key) for key in re.findall(r"\{(.*?)\}", group[0])
    )


def tabled(
    cls: Any,  # noqa: ANN401 - a class of models
    config: Config,
    whole: Config | None,
    known: Mapping[str, bool],
) -> tuple[dict[str, dict[Names, When]], dict[str, bool], list[str]]:
    """Return what a class holds, as saved and as in memory, which settings matter, all names.

    Args:
        cls: A class of models.
        config: Of a tiny model.
        whole: The class's own configuration, whose layers may differ in ways that two do not.
        known: Of the family's body which settings matter; numbers that do not are not tried again.
    """
    keys, source = settings_read(cls, config), source_of(cls, config)
    keys = {key: value for key, value in keys.items()
            if known.get(key, True) or isinstance(value, bool)}  # fmt: skip
    first = held(cls, config)
    single = list(builds(cls, config, keys, source))
    matter = [(key, value, varied, found) for key, value, varied, found in single if found != first]
    pairs = []
    kept = _structural(first, matter)
    if known:  # of the body what hangs on two settings is known by now
        kept = [one for one in kept if one[0].endswith("tie_word_embeddings")] + [
            one for one in kept if not one[0].endswith("tie_word_embeddings")][:2]  # fmt: skip
    for i, (key, value, varied) in enumerate(kept):
        later = {other: keys[other] for other, _, _ in kept[i + 1 :] if other != key}
        told = [(other, wanted) for other, wanted, _ in kept[i + 1 :] if other != key]
        pairs += [
            ({key: value, other: wanted}, twice, found)
            for other, wanted, twice, found in builds(cls, varied, later, source)
            if any(other == one and wanted == two for one, two in told)
        ]  # fmt: skip
    full = [({"": ""}, whole, held(cls, whole))] if whole is not None else []
    result = {}
    for kind in ("saved", "memory"):
        counts = counts_of(config, names_of(first, kind), (
            (key, value, names_of(found, kind)) for key, value, _, found in matter
        ))  # fmt: skip

        def build(changes: Mapping[str, object], at: Config, found: Held, kind: str = kind,
                  counts: Counts = counts) -> Build:  # fmt: skip
            names = names_of(found, kind)
            places = alive({name for group in names for name in group}, counts)
            return Build(changes, at, templates(names, counts, at), frozenset(places))

        result[kind] = rules(
            build({}, config, first),
            [build({key: value}, varied, found) for key, value, varied, found in matter],
            [build(*one) for one in pairs],
            [build(*one) for one in full],
            counts,
        )
    mattering = {key for key, _, _, _ in matter}
    every = [first, *(one[-1] for one in matter), *(one[-1] for one in full)]
    ever = {shape_of(name) for found in every for name in found.ever}
    return result, {key: key in mattering for key in keys}, sorted(ever)


def _structural(
    first: Held, matter: list[tuple[str, object, Config, Held]]
) -> list[tuple[str, object, Config]]:
    """Return the changes that take parameters away or bring others, counts of layers apart."""
    found = []
    for key, value, varied, other in matter:
        more_layers = isinstance(value, int) and not isinstance(value, bool) and (
            first.saved < other.saved or other.saved < first.saved) and re.search(
            r"layers?$|blocks?$|experts?$|depth$", key)  # fmt: skip
        if not more_layers:
            found.append((key, value, varied))
    return found[:MOST]
