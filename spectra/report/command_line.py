"""The command that gave a result, from what the result says of it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spectra.report.kind import Document, kind_of
from spectra.text import printable

SELECTION = {"include": (), "exclude": (), "roles": (), "layers": ""}
"""Options of every command, as those of a record are."""
NAMES = {"roles": "--role"}
"""Options that are not called as their setting is."""


def arguments(document: Document, onward: Sequence[str] = ()) -> list[str]:
    """Return the words after `spectra` that give this result again.

    Options that say where weights come from (`--allow-pickle`, `--download`, `--variant`) and how
    work is shared (`--device`, `--workers`) change no number and are in no result; who knows
    them gives them with `onward`.

    Args:
        document: A result.
        onward: Words after them; an option here stands in place of the result's own.
    """
    kind, settings = kind_of(document["command"]), document["settings"]
    specs = [str(model["spec"]) for model in document["models"] if model["part"] in kind.parts]
    given = [*kind.words(document), *_given(kind.options, settings), *_given(SELECTION, settings)]
    before_last = kind.before_last(document)
    if before_last and specs:
        given.append((before_last, specs.pop()))
    words = [word for option in given if option[0] not in onward for word in option]
    lead = kind.lead(document) if callable(kind.lead) else kind.lead or (kind.command,)
    # A number after an option of several values would be taken for one of them.
    if any(spec.startswith("-") for spec in specs):
        return [*lead, *words, *onward, "--", *specs]
    return [*lead, *specs, *words, *onward]


def command_line(document: Document, onward: Sequence[str] = ()) -> str:
    """Return the command as it is typed, on one line, control characters escaped.

    Args:
        document: A result.
        onward: Words after it, such as `-o FILE`.
    """
    return written(arguments(document, onward))


def written(words: Sequence[str]) -> str:
    """Return the words after `spectra` as they are typed."""
    return " ".join(printable(shlex.quote(word)) for word in ("spectra", *words))


def _given(options: Mapping[str, object], settings: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the options whose value is not the default, those of several values once for each."""
    for key, default in options.items():
        value, option = settings.get(key), NAMES.get(key, "--" + key.replace("_", "-"))
        values = list(value) if isinstance(value, list | tuple) else [value]
        if isinstance(default, bool):
            if value is (not default):
                yield (option if value else f"--no-{option[2:]}",)
        elif value not in (None, "") and default not in (value, values):
            yield from ((option, str(one)) for one in values if isinstance(one, str | int | float))
