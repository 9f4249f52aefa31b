"""The table as JSON: of each class what its own is, and what its family's body has."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.parameters.holding import Names
from benchmarks.parameters.table import When, shape_of

TIE = "tie_word_embeddings"
KINDS = ("saved", "memory")


@dataclass(frozen=True)
class Found:
    """One class of models."""

    name: str
    model_type: str
    prefix: str  # of its body's names, with the dot
    rules: Mapping[str, Mapping[Names, When]]  # by kind
    ever: frozenset[str]  # names of all that any of its models may hold
    aliases: Mapping[str, list[str]]  # of settings


def entry_of(found: Found, body: Found | None) -> dict[str, Any]:
    """Return a class as it stands in the table, beside the body that it is built on."""
    entry: dict[str, Any] = {"type": found.model_type, "prefix": found.prefix if body else ""}
    known: set[str] = set()
    for kind in KINDS:
        own, base = (_lines(one, kind) if one else {} for one in (found, body))
        inner = {_prefixed(text, found.prefix): when for text, when in base.items()}
        same = {text for text, when in inner.items() if own.get(text) == when}
        part: dict[str, Any] = {
            "more": [[text, when] if when else text
                     for text, when in sorted(own.items()) if text not in same],
        }  # fmt: skip
        if body and same:
            part |= {"of": body.name, "less": sorted(inner.keys() - same)}
        known |= {shape_of(name) for text in own for name in text.split("|")}
        if kind == "saved" or part != entry["saved"]:
            entry[kind] = part
    if body:
        known |= {found.prefix + name for name in body.ever}
    also = sorted(found.ever - known)
    keys = {key for kind in KINDS for key in _keys(_lines(found, kind))}
    alias = {key: found.aliases[key] for key in sorted(keys) if key in found.aliases}
    return entry | ({"also": also} if also else {}) | ({"alias": alias} if alias else {})


def _lines(found: Found, kind: str) -> dict[str, When]:
    """Return what a class holds, tied names joined.

    Whether biases are tied with their embeddings is not the same in all versions.
    """
    return {
        "|".join(names): when
        for names, when in found.rules[kind].items()
        if not (names[0].endswith("bias") and any(key.endswith(TIE) for key in when))
    }


def _prefixed(text: str, prefix: str) -> str:
    """Return a body's parameter as a class with a head calls it."""
    return "|".join(sorted(prefix + name for name in text.split("|")))


def _keys(lines: Mapping[str, When]) -> Iterator[str]:
    """Yield the settings that names and conditions go by."""
    for text, when in lines.items():
        yield from when
        yield from (piece.partition("}")[0] for piece in text.split("{")[1:])


def written(version: str, causal: Mapping[str, str], classes: Mapping[str, Any]) -> str:
    """Return the table as text, a class a line."""
    lines = ",\n".join(
        f"{json.dumps(name)}:{json.dumps(classes[name], separators=(',', ':'), sort_keys=True)}"
        for name in sorted(classes)
    )
    head = json.dumps({"transformers": version, "causal": dict(sorted(causal.items()))},
                      separators=(",", ":"))  # fmt: skip
    return f'{head[:-1]},\n"classes":{{\n{lines}\n}}}}\n'
