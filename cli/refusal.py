"""What the parser refuses, in our words: what was given, what was expected, where to read on."""

import os.path
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from spectra.text import guess, listed

from .usage import arguments, every, is_argument


@dataclass(frozen=True, slots=True)
class Refusal:
    """One command line that the parser does not take."""

    message: str  # the parser's
    words: Sequence[str]  # after `spectra`
    group: Any  # all commands, as the parser has them

    def __str__(self) -> str:
        """Return the whole of it, one line."""
        message = self.message
        for pattern, told in TOLD.items():
            if found := re.fullmatch(pattern, message, re.DOTALL):
                message = told(self, found)
                break
        end = "" if message.endswith((".", "?")) else "."
        return f"{message}{end} See `{' '.join(['spectra', *self.named, '--help'])}`."

    @property
    def _path(self) -> Sequence[tuple[str, Any]]:
        """The commands that were named, each with its name: a group before its own."""
        found: list[tuple[str, Any]] = []
        group, words = self.group, list(self.words)
        while hasattr(group, "list_commands"):
            names = group.list_commands(None)
            place = next((at for at, word in enumerate(words) if word in names), None)
            if place is None:
                break
            group = group.get_command(None, words[place])
            found.append((words[place], group))
            words = words[place + 1 :]
        return found

    @property
    def named(self) -> list[str]:
        """The command's name, of one in a group both words, or nothing where none was meant."""
        return [name for name, _ in self._path]

    @property
    def parameters(self) -> Sequence[Any]:
        """What the command takes."""
        return getattr(self._path[-1][1] if self._path else self.group, "params", ())

    def no_command(self, found: re.Match[str]) -> str:
        """Name the nearest command, or all."""
        groups = [self.group, *(own for _, own in self._path if hasattr(own, "list_commands"))]
        word, names = found[1], groups[-1].list_commands(None)
        near = guess(word.lower(), names)
        if not near and os.path.exists(word):  # noqa: PTH110 - any text may stand here
            near = f" A command stands before it: one of {listed(names)}."
        return f"No such command {word!r}.{near or f' Expected one of {listed(names)}.'}"

    def no_option(self, found: re.Match[str]) -> str:
        """Name the commands that have the option, or the nearest that this one has."""
        option, said = found[1], f"No such option: {found[1]}."
        if self.named and option in _names(self.group.params):
            return f"{said} It stands before the command: `spectra {option}`."
        owners = [
            f"`spectra {name}`"
            for name, command in every(self.group)
            if self.named and option in _names(command.params)
        ]
        if owners:
            return f"{said} It is an option of {listed(owners)}."
        return said + guess(option, (one for one in _names(self.parameters) if one[:2] == "--"))

    def no_value(self, found: re.Match[str]) -> str:
        """Say what the value would be."""
        option = found[1]
        form = next((one.metavar for one in self.parameters if option in one.opts), None)
        return f"{option} is without a value. Expected {option} {form or 'VALUE'}."

    def bad_value(self, found: re.Match[str]) -> str:
        """Say what was given, where the parser does not."""
        option, why = found[1], found[2]
        given = self._given(option)
        why = re.sub(r"Input should be a valid integer.*", "should be a whole number", why)
        why = re.sub(r"Input should be a valid number.*", "should be a number", why)
        why = why.replace("Input should be", "should be")
        if given is None:
            return f"{option} {why}" if why.startswith("should be") else why
        if why.startswith("should be"):
            return f"{option} {given!r} {why}"
        if repr(given) not in why:
            return f"{option} {given!r}: {why}"
        return f"{option} {why}" if why.startswith(repr(given)) else why

    def _given(self, option: str | None) -> str | None:
        """Return the value that an option was given; None where none was."""
        for word, following in pairwise([*self.words, ""]):
            name, equals, value = word.partition("=")
            if name == option:
                return value if equals else following
        return None

    def wrong_count(self, found: re.Match[str]) -> str:
        """Say how the command is written."""
        form = " ".join(["spectra", *self.named, arguments(self.parameters)])
        more = found[0].startswith("Got") and INSTEAD.get("".join(self.named), "")
        return f"{found[0].rstrip('.')}. Expected {form}.{more or ''}"


INSTEAD: Final[Mapping[str, str]] = {
    "check": " One model is checked; what it was trained from is --base, an adapter that was "
    "merged into it --adapter, the release before --baseline.",
    "kappa": " Two models are compared by `spectra diff BASE TUNED`.",
    "spectrum": " Two models are compared by `spectra diff BASE TUNED`, checkpoints of a run by "
    "`spectra spectrum --trend`.",
}
"""Of commands that take fewer models than were given: what takes more."""

TOLD: Final[Mapping[str, Callable[[Refusal, re.Match[str]], str]]] = {
    r"No such command '(.*?)'\..*": Refusal.no_command,
    r"No such option: (\S+).*": Refusal.no_option,
    r"Option '(--?[\w-]+)' requires an argument\.": Refusal.no_value,
    r"Invalid value(?: for '(?:-\w, )?(.*?)(?: / .*?)?')?: (.*)": Refusal.bad_value,
    r"Missing argument.*|Got unexpected extra argument.*": Refusal.wrong_count,
}
"""By the parser's sentences: who words them anew."""


def _names(parameters: Sequence[Any]) -> Iterator[str]:
    """Yield every name of the options."""
    for one in parameters:
        if not is_argument(one):
            yield from (*one.opts, *one.secondary_opts)
