"""spectra explain: what a number means, how to read it, and where it misleads."""

import sys
from typing import Annotated, Literal

import typer

from ..command import command
from ..guard import DONE
from ..options import OUTPUT, option
from ..terminal import show, width
from .rule import tell

Form = Literal["table", "json"]

Key = Annotated[
    str | None,
    typer.Argument(
        metavar="KEY",
        help="A key, a heading of a table, or a rule; without one all are listed.",
    ),
]
Format = Annotated[Form, option("--format FORMAT", "table or json.", OUTPUT, of=Form)]


@command(8)
def explain(
    key: Key = None,
    format: Format = "table",  # noqa: A002 - the option's own name
) -> int:
    """Explain a number: any key of a result, any heading of a table.

    What it is, its formula, how to read it, and where it misleads.

    Example: spectra explain stable_rank
    """
    from spectra.report.explain import (  # noqa: PLC0415 - not for help
        explained,
        explanation,
        key_named,
        listing,
    )
    from spectra.report.formats import dumps  # noqa: PLC0415
    from spectra.report.table import Column, Line, Screen  # noqa: PLC0415

    if key and key_named(key) is None:
        from spectra.policy.rules import rules_named  # noqa: PLC0415 - slow to load
        from spectra.report.rules import rules_meant  # noqa: PLC0415

        if rules_named(key) or key.upper().startswith("SPC"):
            tell(rules_meant(key), format)
            return DONE
    if format == "json":
        words = [key] if key else [one for one, _ in listing()]
        sys.stdout.write(dumps({"keys": [explained(word) for word in words]}, indent=2))
    elif key:
        sys.stdout.write(explanation(key, width()))
    else:
        found = listing()
        columns = [Column("key", "left"), Column("meaning", "left", wrapping=True)]
        lines = [Line(pair) for pair in found]
        show(Screen(f"{len(found)} keys; spectra explain KEY tells all of one.", columns, lines))
    return DONE
