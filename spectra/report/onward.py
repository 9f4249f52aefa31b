"""What to do after a command: commands that run as they are printed, none that was just typed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spectra.report.command_line import arguments, written
from spectra.report.kind import Document, Kind, Step


@dataclass(frozen=True, slots=True)
class Typed:
    """What was given on a command line that its result does not hold."""

    words: Sequence[str] = ()  # where weights come from, and what works
    made: frozenset[str] = frozenset()  # options whose files were written, such as `--plot`
    saved: str = ""  # the .json that holds the result


NOTHING = Typed()


def onward(document: Document, kind: Kind, typed: Typed = NOTHING) -> Iterator[str]:
    """Yield command lines that lead on from a result, the next step first.

    Args:
        document: The result.
        kind: Of its command.
        typed: What else was given; it is kept, and what it made is not made again.
    """
    for step in kind.onward(document):
        if new := _new(step, document, typed):
            words = [word for option in new for word in option]
            yield written(arguments(document, [*typed.words, *words]))
            break
    for command, *rest in kind.after(document):
        yield written([command, *typed.words, *rest])
    if typed.saved:
        yield written(["report", *(["--"] if typed.saved.startswith("-") else []), typed.saved])
    elif kind.reads and not (kind.judges or kind.writes):
        file = f"{kind.command}.json"
        saving = written(arguments(document, [*typed.words, "-o", file]))
        yield f"{saving} && {written(['report', file])}"


def _new(step: Step, document: Document, typed: Typed) -> list[tuple[str, ...]]:
    """Return the options of a step that were not given yet."""
    given = arguments(document)
    return [
        option
        for option in step
        if option[0] not in typed.made
        and not any(given[i : i + len(option)] == list(option) for i in range(len(given)))
    ]
