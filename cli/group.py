"""All commands as one group, each made when it is asked for."""

import functools
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Final

import typer
from typer.core import TyperGroup

from spectra.text import printable

from . import commands
from .command import Command, command, commands_in, groups_in
from .terminal import note

ELSEWHERE: Final = "spectra.commands"
"""Group of the entry points of commands that other packages bring: `name = "module:function"`."""


SENTENCE: Final = 400  # characters that no first sentence has


class Made(Mapping[str, Any]):
    """Our commands by name, in the parser's form from the moment they are asked for.

    A run needs one; making all with their options takes as long as a small rerun.
    """

    @functools.cached_property
    def _known(self) -> Mapping[str, Command | ModuleType]:
        return {one.name: one for one in commands_in(commands)} | groups_in(commands)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - the parser's own
        """Return a command, or a group of them."""
        return _made(name, self._known[name])

    def __iter__(self) -> Iterator[str]:
        """Yield all names."""
        return iter(self._known)

    def __len__(self) -> int:
        """Count them."""
        return len(self._known)


class Listing(TyperGroup):
    """A group whose help tells what each command does in a whole sentence, however narrow."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - the parser's own
        """Write the names and their sentences, wrapped where the terminal ends."""
        made = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, one.get_short_help_str(SENTENCE)) for name, one in made
                if one is not None and not one.hidden]  # fmt: skip
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


class Commands(Listing):
    """Our commands, and after them those of other packages, which are loaded when asked for."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - the parser's own
        super().__init__(**given)
        self.commands = Made()  # type: ignore[assignment]  # nothing is added to them

    @functools.cached_property
    def others(self) -> dict[str, EntryPoint]:
        """What other packages bring, looked for once and only where it is asked for."""
        return {entry.name: entry for entry in sorted(entry_points(group=ELSEWHERE))}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - the parser's own
        """Return all names."""
        return list(dict.fromkeys([*self.commands, *self.others]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - as above
        """Return a command; one of another package that cannot be loaded costs a warning."""
        known = self.commands.get(cmd_name)
        return known or (_loaded(self.others[cmd_name]) if cmd_name in self.others else None)


@functools.cache
def _made(name: str, one: Command | ModuleType) -> Any:  # noqa: ANN401 - as above
    """Return a command or a package of commands as the parser has it."""
    app = typer.Typer(
        name=name, add_completion=False, suggest_commands=False, no_args_is_help=False,
        rich_markup_mode=None, cls=Listing,
    )  # fmt: skip
    if isinstance(one, Command):
        app.command(name, cls=one.parser)(one.call)
        return typer.main.get_command(app)
    for inner in commands_in(one):
        app.command(inner.name, cls=inner.parser)(inner.call)

    def tell(context: typer.Context) -> None:
        """Tell the commands where none is named."""
        if context.invoked_subcommand is None:
            sys.stdout.write(context.get_help() + "\n")

    app.callback(invoke_without_command=True, help=one.__doc__)(tell)
    return typer.main.get_command(app)


@functools.cache
def _loaded(entry: EntryPoint) -> Any:  # noqa: ANN401 - as above
    """Load a command: a function, a `Command`, or an application of Typer."""
    try:
        value = entry.load()
        if isinstance(value, typer.Typer):
            return typer.main.get_command(value)
        return _made(entry.name, value if isinstance(value, Command) else command()(value))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever others' code does
        said = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        origin = entry.dist.name if entry.dist else entry.value
        note(f"warning: the command {entry.name!r} of {origin} is left out: {said}")
        return None
