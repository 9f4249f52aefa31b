"""The table of renames: transformers' families and classes, and what they do to names."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from spectra.architectures.renaming import Fusion, Move, moved, prefixed
from spectra.text import numberless

PATH = Path(__file__).with_name("renames.json")
UNNAMED = "?"  # where in a config another lies, or an operation, that the table cannot say


USUAL = frozenset({"Linear", "Embedding", "Conv1D"})
"""Layers that the table does not list: those that it does are no such."""


class Layer(NamedTuple):
    """What holds a parameter in memory."""

    kind: str  # the class of torch or transformers that a LoRA goes by, such as `Linear`
    groups: int = 1  # of a convolution


class Kind(NamedTuple):
    """What a class of models calls its parts."""

    prefix: str  # of its body
    tops: tuple[str, ...]  # first words of its parameters' names
    inside: tuple[tuple[str, str, str, str], ...]
    """The models right inside it: path, class, family, and where in the config."""
    odd: Mapping[str, Layer]  # its layers of matrices that are not USUAL, by name without numbers


class UnknownFamilyError(LookupError):
    """What a family does to names is not in the table; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Table:
    """Renames of one version of transformers."""

    version: str
    families: Mapping[str, tuple[str, str]]  # the bare class of each, the one that writes text
    kinds: Mapping[str, Kind]
    moves: Mapping[str, tuple[Move, ...]]  # by family or class
    expert_types: frozenset[str]  # families in which PEFT takes older names for experts

    def renamer(self, config: Mapping[str, Any]) -> "Known":
        """Return what tells the names of a model.

        Args:
            config: Its config.json: `model_type` and `architectures`, and those of the
                models inside it.

        Raises:
            UnknownFamilyError: A family or a class is not in the table.
        """
        family, named = config.get("model_type"), config.get("architectures")
        if not isinstance(family, str) or family not in self.families:
            raise UnknownFamilyError(f"model_type {family!r}")
        wanted = named[0] if isinstance(named, list) and named else self.families[family][0]
        if not isinstance(wanted, str) or wanted not in self.kinds:
            raise UnknownFamilyError(f"the class {wanted!r} of model_type {family!r}")
        kind = self.kinds[wanted]
        moves: list[Move] = []
        paths: dict[str, str] = {}
        # By name: the paths that have claimed it; what lies below one is not done twice.
        claimed: dict[str, list[str]] = defaultdict(list)
        for path, name, own in self._models("", wanted, family, config):
            paths[path] = name
            moves += self._moves(path, name, own, kind.prefix, claimed)
        moves += self.moves["legacy"]
        body = next((one for one in kind.inside if one[0] == kind.prefix), None)
        within = self.kinds[body[1]].tops if body and body[1] in self.kinds else ()
        odd = {path: self.kinds[name].odd for path, name in paths.items() if name in self.kinds}
        tops = _Tops(frozenset(kind.tops), kind.prefix, within)
        return Known(tuple(moves), kind.prefix, tops, odd)

    def likely(self, config: Mapping[str, Any], names: Collection[str]) -> str:
        """Return the class of a model that names none: its body's, or one with a head."""
        body, writer = self.families.get(str(config.get("model_type")), ("", ""))
        kind = self.kinds.get(writer)
        if kind and (not body or any(name.startswith(f"{kind.prefix}.") for name in names)):
            return writer
        return body

    def _models(
        self, path: str, name: str, family: str, config: Mapping[str, Any]
    ) -> Iterator[tuple[str, str, str]]:
        """Return path, class and family of each model inside another, itself first."""
        yield path, name, family
        for inner, kind, own, where in self.kinds[name].inside:
            settings = _at(config, where)
            actual = settings.get("model_type", own) if where else family if own == family else own
            if not isinstance(actual, str):
                actual = own
            name = kind if actual == own else self._counterpart(kind, own, actual)
            below = f"{path}.{inner}" if path else inner
            if name in self.kinds:
                yield from self._models(below, name, actual, settings)
            else:
                yield below, name, actual

    def _counterpart(self, kind: str, family: str, other: str) -> str:
        """Return the class of another family that plays a class's part."""
        if other not in self.families:
            raise UnknownFamilyError(f"model_type {other!r} of a part of the model")
        for ours, theirs in zip(
            self.families.get(family, ("", "")), self.families[other], strict=True
        ):
            if ours == kind and theirs:
                return theirs
        raise UnknownFamilyError(f"model_type {other!r} in place of {family!r} inside the model")

    def _moves(
        self, path: str, name: str, family: str, base: str, claimed: dict[str, list[str]]
    ) -> list[Move]:
        """Return what is done to one model's names, as transformers 5.23 orders it."""

        def taken(word: str) -> bool:
            return any(one == "" or path.startswith(f"{one}.") for one in claimed[word])

        if taken(name):
            return []
        found = self.moves.get(name)
        by_class = found is not None
        if found is None and not taken(family):
            found = self.moves.get(family)
        if found is None:
            return []
        if any(word.startswith(UNNAMED) for move in found for word in move.operations):
            raise UnknownFamilyError(f"what transformers does to the names of {family!r}")
        claimed[name].append(path)
        if not by_class:
            claimed[family].append(path)
        if not path:
            return list(found)
        scope = path.removeprefix(base).removeprefix(".")
        return [replace(move, scope=scope, base=base) for move in found]


@dataclass(frozen=True, slots=True)
class Known:
    """What the table tells of one model's names."""

    moves: tuple[Move, ...]
    prefix: str
    tops: "_Tops"
    odd: Mapping[str, Mapping[str, Layer]]  # by the path of the model that holds them

    def layer(self, module: str) -> Layer:
        """Return what a module is; a usual one where the table has no other."""
        own = module
        while own:
            own = own.rpartition(".")[0]
            if own in self.odd:
                inside = numberless(module.removeprefix(f"{own}."))
                return self.odd[own].get(inside, Layer("Linear"))
        return Layer("Linear")

    def renamed(self, name: str) -> tuple[str, Fusion | None, int]:
        """Return the first parameter that a tensor becomes, how, and as which source."""
        new, fusion, source = moved(self.moves, name)
        new = prefixed(new, self.prefix, self.tops)
        if new not in self.tops and (plain := prefixed(name, self.prefix, self.tops)) in self.tops:
            return plain, None, 0
        return new, fusion, source


@dataclass(frozen=True, slots=True)
class _Tops:
    """The names of a model, as far as their first words tell."""

    words: frozenset[str]
    prefix: str
    within: tuple[str, ...]  # first words inside its body

    def __contains__(self, name: object) -> bool:
        first, _, rest = str(name).partition(".")
        if first not in self.words:
            return False
        return first != self.prefix or not self.within or rest.partition(".")[0] in self.within


@lru_cache(maxsize=1)
def table() -> Table:
    """Read the table."""
    read = json.loads(PATH.read_text(encoding="utf-8"))
    return Table(
        read["transformers"],
        {name: (own[0], own[1]) for name, own in read["types"].items()},
        {
            name: Kind(prefix, tuple(tops), tuple((a, b, c, d) for a, b, c, d in inside), _odd(odd))
            for name, (prefix, tops, inside, odd) in read["classes"].items()
        },
        {name: tuple(map(_move, moves)) for name, moves in read["moves"].items()},
        frozenset(read["expert_types"]),
    )


def _odd(read: Mapping[str, str]) -> dict[str, Layer]:
    pairs = ((name, told.split(" ")) for name, told in read.items())
    return {name.removesuffix("."): Layer(kind, int(groups)) for name, (kind, groups) in pairs}


def _move(one: list[Any]) -> Move:
    pattern, targets, operations = one
    return Move(re.compile(pattern), tuple(targets), tuple(operations))


def _at(config: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    for key in filter(None, where.split(".")):
        inner = config.get(key) if key != UNNAMED else None
        config = inner if isinstance(inner, Mapping) else {}
    return config
