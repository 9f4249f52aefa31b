"""The `spectra` command: one file a command, errors translated at the door."""

import atexit
import gc
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from spectra import distribution
from spectra.errors import UsageError

from .group import Commands
from .guard import DONE, UNUSABLE, guarded
from .refusal import Refusal
from .terminal import fail, hear

app = typer.Typer(
    name="spectra",
    cls=Commands,
    suggest_commands=False,  # as all else is suggested: `Refusal`
    add_completion=True,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": shutil.get_terminal_size().columns,
    },
)


Version = Annotated[
    bool,
    typer.Option("--version", help="Show the version and exit; with -v, all that `env` shows."),
]
Verbose = Annotated[bool, typer.Option("-v", hidden=True)]


@app.callback(invoke_without_command=True)
def spectra(context: typer.Context, version: Version = False, verbose: Verbose = False) -> None:
    """Answer questions about a neural network from its weights alone.

    Example: spectra diff base/ tuned/ --intruders
    """
    if version and verbose:
        from .environment import show  # noqa: PLC0415 - takes torch when asked

        raise typer.Exit(show())
    if version:
        sys.stdout.write(f"spectra {distribution.version()}\n")
        raise typer.Exit
    if verbose:
        raise UsageError("-v stands after the command: spectra ls MODEL -v.")
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; 1 is kept for findings."""

    def invoke() -> int:
        _require_place()
        hear()
        try:
            code = app(arguments, prog_name="spectra", standalone_mode=False)
        except typer.TyperException as error:
            words = list(sys.argv[1:] if arguments is None else arguments)
            group = typer.main.get_command(app)
            fail(str(Refusal(error.format_message().strip(), words, group)))
            return UNUSABLE
        except typer.Abort:
            raise KeyboardInterrupt from None
        return code if isinstance(code, int) else DONE

    return guarded(invoke)


def _require_place() -> None:
    """Refuse to run in a folder that was deleted, where MKL ends the process.

    Raises:
        UsageError: It was.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError(
            "the folder that this runs in is gone, expected one that is there. Go to another."
        ) from None


def main() -> None:
    """Run the words of the command line, and end the process with the exit code."""
    gc.set_threshold(1_000_000)  # imports make many objects, and all of them stay
    # Torch reads it once: large tensors in huge pages, the first touch of which is cheap.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    codes: list[int] = []
    atexit.register(_leave, codes)  # before what others register, so that it is called last
    if sys.stdout is None:  # closed by whoever started it
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - lives as long as the process
    code = run()
    codes.append(code)
    sys.exit(code)


def _leave(codes: Sequence[int]) -> None:
    """Spare Python taking apart, object by object, what ends with the process anyway."""
    if codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0])
