"""Which file of a folder is opened, and as which format."""

import re
from fnmatch import fnmatchcase
from typing import NoReturn

from spectra.checkpoint.formats import (
    DCP,
    FORMATS,
    GGUF,
    NOT_READ,
    Format,
    format_named,
    is_state,
    refused_name,
    refused_text,
)
from spectra.checkpoint.roots import inner_weights
from spectra.checkpoint.shards import open_file
from spectra.checkpoint.signatures import kind_of, readable, stranger
from spectra.checkpoint.source import Folder, Source
from spectra.checkpoint.variants import split_variant
from spectra.errors import CheckpointError
from spectra.text import guess, quote, shown, some

DOCUMENTS = (
    ".json", ".txt", ".md", ".py", ".yaml", ".yml", ".toml", ".jinja", ".csv", ".log", ".sh",
    ".model", ".png", ".jpg", ".svg", ".gitattributes", ".gitignore", ".lock",
)  # fmt: skip
"""Endings of what lies beside weights and is none."""

PART = re.compile(r"-\d{5}-of-(\d{5})\.")
MOST_TRIED = 16  # files whose first bytes are looked at where no name tells
UNNAMED = Format("", "files of weights", (), (), open_file)


def told_kind(folder: Folder, name: str) -> Format:
    """Return the format of a file that is there: an index by its name, others by their bytes.

    Raises:
        CheckpointError: It is of a format that is not read, or of none that is known.
    """
    kind, pattern = format_named(name), refused_name(name)
    if kind is not None and kind.is_index:
        return kind
    if pattern and NOT_READ[pattern] is DCP:  # some of their files look like others
        raise CheckpointError(f"{folder.label} holds {refused_text(pattern, name)}")
    return kind_of(folder.file(name), name)


def chosen(folder: Folder, variant: str = "") -> str:
    """Return which file of a folder is opened, in the order in which transformers looks.

    Args:
        folder: Searched.
        variant: Wanted; empty: what has none, or the only one that is there.

    Raises:
        CheckpointError: It holds no weights, or several and it is unknown which are meant.
    """
    names = [name for name in folder.names() if not is_state(name)]
    known = [name for name in names if format_named(name)]
    if not known:
        return _unnamed(folder, names)
    own = _of_variant(folder, known, variant)
    held = [(kind, [name for name in own if kind.names(name)]) for kind in FORMATS]
    kind, found = min((one for one in held if one[1]), key=lambda one: _before(one[0], one[1], own))
    for usual in kind.usual:
        for name in found:
            if own[name] == usual:
                return name
    return _only(folder, kind, found)


def _unnamed(folder: Folder, names: list[str]) -> str:
    """Return the file that is of a format that is read, though it is not named so."""
    tried = {
        name: file
        for name in names
        if not name.lower().endswith(DOCUMENTS)
        and not refused_name(name)
        and (file := _file(folder, name)) is not None
    }
    found = [name for name, file in list(tried.items())[:MOST_TRIED] if readable(file)]
    if not found:
        _refuse_empty(folder, list(tried.values())[:MOST_TRIED])
    return _only(folder, UNNAMED, found)


def _file(folder: Folder, name: str) -> Source | None:
    """Return a file; None: a link to nowhere, or a pipe."""
    try:
        return folder.file(name)
    except CheckpointError:
        return None


def _of_variant(folder: Folder, names: list[str], wanted: str) -> dict[str, str]:
    """Return the files of one variant, and their names without it."""
    found = {name: split_variant(name, wanted) for name in names}
    if wanted:
        own = {name: plain for name, (plain, variant) in found.items() if variant}
    else:
        own = {name: plain for name, (plain, variant) in found.items() if not variant}
    told = sorted({variant for name in names if (variant := split_variant(name)[1])})
    if not own and not wanted and len(told) == 1:
        own = {name: plain for name, (plain, _) in found.items()}
    if own:
        return own
    there = f"variants {', '.join(told)}"
    if wanted:
        way = f"It holds {there}. Give one of those with --variant (`variant=`), or leave it out."
        other = way if told else "It has no variants. Leave --variant (`variant=`) out."
        near = guess(wanted, told, 0.8)
        raise CheckpointError(
            f"{folder.label} holds no weights of the variant {quote(wanted)}.{near} {other}"
        )
    raise CheckpointError(
        f"{folder.label} holds its weights in {there}: which one is meant? Give it: "
        f"--variant {shown(told[0])} (`variant={quote(told[0])}`)."
    )


def _refuse_empty(folder: Folder, others: list[Source]) -> NoReturn:
    inner = inner_weights(folder)
    for name in folder.names():
        pattern = refused_name(name)
        if pattern and not inner:
            raise CheckpointError(f"{folder.label} holds {refused_text(pattern, name)}")
    if inner:
        raise CheckpointError(f"{folder.label}{inner}")
    for told in filter(None, map(stranger, others)):
        raise CheckpointError(told)
    raise CheckpointError(
        f"{folder.label} holds no weights. Expected model.safetensors, "
        "model.safetensors.index.json with its shards, a GGUF file, or a PEFT adapter."
    )


def _before(kind: Format, found: list[str], plain: dict[str, str]) -> tuple[bool, bool, bool]:
    """Order formats: pickles last, usual names before others, an index before its files."""
    unusual = not any(plain[name] in kind.usual for name in found)
    return kind.pickle, unusual, unusual and not kind.is_index


PARTS = "*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf"
"""Names of the parts of a split GGUF file."""


def _only(folder: Folder, kind: Format, found: list[str]) -> str:
    """Return the one file, or the first part of one that is split."""
    if len(found) == 1:
        return found[0]
    parts = {name.rpartition("-of-")[::2] for name in found if fnmatchcase(name, PARTS)}
    whole = {(stem.rpartition("-")[0], count) for stem, count in parts}
    if kind is GGUF and len(whole) == 1 and len(parts) == len(found):
        return found[0]  # one that is lost is missed by name when it is opened
    names = some(found, 4)
    series = [part for name in found if (part := PART.search(name))]
    if len(series) > 1 and len({part[1] for part in series}) == 1:
        raise CheckpointError(
            f"{folder.label} holds {len(series)} of {int(series[0][1])} parts of a model and no "
            f"index ({names}). Fetch the index (NAME.index.json) again, or "
            f"give one part: {shown(folder.spec.rstrip('/'))}/FILE."
        )
    raise CheckpointError(
        f"{folder.label} holds several {kind.what} ({names}): which one is meant? Give one of "
        f"them: {shown(folder.spec.rstrip('/'))}/FILE."
    )
