"""Which parameters a model of one of transformers' classes must hold, by its config.json.

`parameters.json` is made by building every class under many configurations, and holds what was
there under all of them, or under named settings. A number in a name that a setting counts is
written as that setting, `layer.{num_hidden_layers}`; `*` stands for each number that is there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

TRUTHY, FALSY = "+", "-"
"""In place of values: any number but 0, and 0 or null."""

Config = Mapping[str, Any]
When = Mapping[str, Sequence[Any]]
"""Values by setting."""

Template = tuple[str, ...]
"""One parameter; of a tied one every name under which it may lie."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a class holds under some configuration."""

    name: str  # of the class
    prefix: str  # of its body's names, with the dot; empty: it is the body
    templates: tuple[tuple[Template, When], ...]  # each with the settings it hangs on
    also: frozenset[str] = frozenset()  # what else it may hold, numbers as `*`
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of settings

    @property
    def names(self) -> list[str]:
        """Every name of every parameter."""
        return [name for names, _ in self.templates for name in names]


@cache
def table() -> Mapping[str, Any]:
    """Return what is generated."""
    text = files("spectra.architectures").joinpath("parameters.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def class_of(config: Config, *, gguf: bool = False) -> str | None:
    """Return the class that a model is of, where the table has it.

    Args:
        config: Its config.json, of which `architectures` tells.
        gguf: It was translated from a GGUF file, which names a family.
    """
    if gguf:
        told = table()["causal"].get(config.get("model_type"))
        return told if isinstance(told, str) else None
    told = config.get("architectures")
    names = told if isinstance(told, list) else []
    return names[0] if len(names) == 1 and names[0] in table()["classes"] else None


@cache
def forms_of(name: str) -> list[Holdings]:
    """Return what a class holds as saved and, where that differs, as it is in memory."""
    entry = table()["classes"][name]
    also, alias = frozenset(_also(name)), entry.get("alias", {})
    return [
        Holdings(name, entry["prefix"], tuple(_templates(name, kind)), also, alias)
        for kind in ("saved", "memory") if kind == "saved" or kind in entry
    ]  # fmt: skip


@cache
def tied_names(name: str) -> frozenset[str]:
    """Return the names of the weights that a class may hold as another's, whatever is set."""
    return frozenset(one for form in forms_of(name) for names, _ in form.templates
                     if len(names) > 1 for one in names)  # fmt: skip


def _also(name: str) -> Iterator[str]:
    """Yield what a class may hold beside what it must, of its own and of its body."""
    entry = table()["classes"][name]
    yield from entry.get("also", ())
    for line in entry["saved"].get("less", ()):
        yield from line.split("|")
    body = entry["saved"].get("of")
    for one in _also(body) if body else ():
        yield entry["prefix"] + one


def _templates(name: str, kind: str) -> Iterator[tuple[Template, When]]:
    entry = table()["classes"][name]
    own = entry.get(kind, entry["saved"])
    for line in own["more"]:
        text, when = (line, {}) if isinstance(line, str) else line
        yield tuple(text.split("|")), when
    if "of" in own:
        less = set(own["less"])
        for names, when in _templates(own["of"], kind):
            told = tuple(sorted(entry["prefix"] + one for one in names))
            if "|".join(told) not in less:
                yield told, when


def holds(config: Config, when: When, aliases: Mapping[str, Sequence[str]]) -> bool:
    """Say whether a config.json has values under which a parameter is there, and says so."""
    return all(_fits(setting(config, key, aliases), good) for key, good in when.items())


def _fits(told: tuple[bool, Any], good: Sequence[Any]) -> bool:
    there, value = told
    if there and good[0] in {TRUTHY, FALSY} and not isinstance(value, str | bool):
        return bool(value) is (good[0] == TRUTHY)
    return there and any(type(value) is type(one) and value == one for one in good)


def setting(config: Config, key: str, aliases: Mapping[str, Sequence[str]]) -> tuple[bool, Any]:
    """Return whether a config.json has a setting, by a dotted name, and its value."""
    for name in (key, *aliases.get(key, ())):
        found: Any = config
        for word in name.split("."):
            there = isinstance(found, Mapping) and word in found
            found = found[word] if there else None
            if not there:
                break
        if there:
            return True, found
    return False, None
