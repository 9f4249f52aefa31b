"""The manual page, from the commands themselves. `cog -I docs` runs it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import cog
import typer
from pages import paragraphs
from spectra_cli.main import app
from spectra_cli.usage import argument_word, every, is_argument

from spectra.distribution import version

EXIT_CODES = (
    ("0", "Done; of a check: no finding that fails."),
    ("1", "Findings of a check, and nothing else."),
    ("2", "Usage, unreadable input or internal error."),
    ("3", "Nothing could be analysed, or too little of it judged."),
    ("130", "Interrupted."),
    ("143", "Terminated, as by a runner at its time limit; no file is half-written."),
)
ENVIRONMENT = (
    ("NO_COLOR, FORCE_COLOR, TERM=dumb", "Colours off or on, and no bar."),
    ("SPECTRA_DEBUG", "1 shows the traceback of an error."),
    ("HF_HOME, HF_HUB_CACHE", "Where files of the Hub are kept."),
    ("HF_HUB_OFFLINE", "1 uses what is there, and no network."),
    ("HF_TOKEN", "The token for the Hub; it goes to no other host."),
)
FILES = (
    (".spectra.toml, spectra.toml, pyproject.toml",
     "The policy of a check: the closest of these, the last in [tool.spectra]."),
)  # fmt: skip


def write() -> None:
    """Write the whole page."""
    for line in _page():
        cog.outl(line)


def _page() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    counts = Counter(_said(one) for _, command in every(group) for one in _options(command))
    shared = [said for said, count in counts.items() if count > len(group.commands) / 2]
    first, example = paragraphs(group.help)
    yield from (
        f'.TH SPECTRA 1 "" "spectra {version()}" "User Commands"',
        ".ad l",
        ".nh",
        ".SH NAME",
    )
    yield f"spectra \\- {_text(first[:1].lower() + first[1:].rstrip('.'))}"
    yield from (".SH SYNOPSIS", ".B spectra", ".I COMMAND", "[\\fIOPTIONS\\fR]", ".SH DESCRIPTION")
    yield _text(
        "Weights are read tensor by tensor: the model is never built, nothing of it is run, and "
        "nothing is sent anywhere. MODEL is a folder or a file with weights, an adapter, or a "
        "repository of the Hub, org/name or org/name@revision. The result goes to standard "
        "output; progress, notes and errors go to standard error."
    )
    yield from (".PP", _text(example), ".SH COMMANDS")
    for name, command in every(group):
        yield from _command(name, command, shared)
    yield from (
        ".SH OPTIONS OF MOST COMMANDS",
        "Each command's section says which it does not take.",
    )
    for said in shared:
        yield from _listed(*said)
    yield from (".SH OPTIONS OF SPECTRA ITSELF",)
    for one in _options(group):
        yield from _listed(*_said(one))
    for title, lines in (
        ("EXIT STATUS", EXIT_CODES), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES),
    ):  # fmt: skip
        yield f".SH {title}"
        for term, text in lines:
            yield from _listed(term, text)


def _command(
    name: str,
    command: Any,  # noqa: ANN401 - typer's own
    shared: list[tuple[str, str]],
) -> Iterator[str]:
    """Yield a command's section: what it does, its arguments, and the options of its own."""
    arguments = [one for one in command.params if is_argument(one)]
    usage = " ".join(map(argument_word, arguments))
    yield f".SS spectra {_text(name)} {_text(usage)}"
    for i, text in enumerate(paragraphs(command.help)):
        yield from ([".PP", _text(text)] if i else [_text(text)])
    for one in arguments:
        yield from _listed(argument_word(one), one.help or "")
    own = [_said(one) for one in _options(command)]
    for said in own:
        if said not in shared:
            yield from _listed(*said)
    lacking = [said for said in shared if said not in own]
    if 0 < len(lacking) < len(shared):
        names = ", ".join(said[0].split(" ")[0].rstrip(",") for said in lacking)
        yield from (".PP", _text(f"Options of most commands, save {names}."))
    elif not lacking:
        yield from (".PP", "All options of most commands.")


def _options(command: Any) -> list[Any]:  # noqa: ANN401 - typer's own
    """Return what a command takes beside its arguments and `--help`."""
    return [
        one for one in command.params
        if one.opts[0].startswith("-") and not one.hidden and "--help" not in one.opts
    ]  # fmt: skip


def _said(option: Any) -> tuple[str, str]:  # noqa: ANN401 - typer's own
    """Return an option's names and what is said of it."""
    names = ", ".join(sorted([*option.opts, *option.secondary_opts], key=len))
    value = "" if option.is_flag or not option.metavar else f" {option.metavar}"
    default = option.default
    given = not (option.is_flag or option.multiple or callable(default))
    shown = f" (default: {default})" if given and default not in (None, "") else ""
    return names + value, " ".join((option.help or "").split()) + shown


def _listed(term: str, text: str) -> Iterator[str]:
    """Yield one entry of a list."""
    yield from (".TP", f"\\fB{_text(term)}\\fR", _text(text))


def _text(text: str) -> str:
    """Return text that roff shows as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
