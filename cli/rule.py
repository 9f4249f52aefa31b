"""spectra rule: what each rule of a check judges, and why."""

import sys
from typing import Annotated

import typer

from . import options
from .guard import DONE, guarded
from .terminal import is_terminal, show

FORMATS = ("table", "json")

Code = Annotated[
    str | None,
    typer.Argument(metavar="CODE", help="A rule's code or name; without one all are listed."),
]
RuleFormat = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", rich_help_panel=options.OUTPUT,
        callback=lambda value: options.one_of(value, FORMATS),
        autocompletion=lambda: list(FORMATS), help="table or json.",
    ),
]  # fmt: skip


def rule(
    code: Code = None,
    format: RuleFormat = "table",  # noqa: A002 - the option's own name
) -> None:
    """Explain a rule of `spectra check`.

    What it judges, why, how it is computed, its settings, and what to do about a finding.

    Example: spectra rule SPC101
    """

    def run() -> int:
        from spectra.policy.rules import RULES, rule_of  # noqa: PLC0415 - needs torch
        from spectra.report.documents import dumps  # noqa: PLC0415
        from spectra.report.rules import (  # noqa: PLC0415
            explanation,
            rule_document,
            rules_screen,
        )

        chosen = [rule_of(code)] if code else list(RULES.values())
        if format == "json":
            sys.stdout.write(dumps({"rules": [rule_document(one) for one in chosen]}, indent=2))
        elif code:
            sys.stdout.write(explanation(chosen[0], 100 if is_terminal(sys.stdout) else None))
        else:
            show(rules_screen(chosen))
        return DONE

    raise typer.Exit(guarded(run))
