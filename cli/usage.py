"""How a command is written: its usage line, and its arguments in its help."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand


class Worded(TyperCommand):
    """A command whose help writes its arguments as pages do: `MODEL...`, and no types."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - the parser's own
        """Write the usage line."""
        formatter.write_usage(ctx.command_path, arguments(self.params))

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
        """Write the arguments, and the options under them."""
        parameters: list[Any] = list(self.get_params(ctx))
        shown = [one for one in parameters if not one.hidden]
        told = [(argument_word(one), one.help) for one in shown if is_argument(one)]
        options = [one.get_help_record(ctx) for one in shown if not is_argument(one)]
        for title, records in (("Arguments", told), ("Options", options)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def is_argument(parameter: Any) -> bool:  # noqa: ANN401 - as above
    """Say whether a parameter has no name before it."""
    return not parameter.opts[0].startswith("-")


def argument_word(parameter: Any) -> str:  # noqa: ANN401 - as above
    """Return what stands for an argument: `MODEL`, `MODEL...` or `[MODEL]`."""
    word = str(parameter.metavar or parameter.name.upper())
    word = word if parameter.required else f"[{word}]"
    return word if parameter.nargs == 1 else f"{word}..."


def arguments(parameters: Sequence[Any]) -> str:
    """Return what follows a command's name: `BASE TUNED [OPTIONS]`."""
    return " ".join([*(argument_word(one) for one in parameters if is_argument(one)), "[OPTIONS]"])


def every(group: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - the parser's own
    """Yield all commands by the words that call them, those of a group in its place."""
    for name, one in group.commands.items():
        inner = getattr(one, "commands", None)
        if inner is None:
            yield name, one
        else:
            yield from ((f"{name} {word}", own) for word, own in every(one))
