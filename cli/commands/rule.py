"""spectra rule: what each rule of a check judges, and why."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..command import command
from ..guard import DONE
from ..options import OUTPUT, option
from ..terminal import show, width

if TYPE_CHECKING:
    from spectra.policy import Rule

Form = Literal["table", "json"]

Code = Annotated[
    str | None,
    typer.Argument(
        metavar="CODE",
        help="A rule's code or name, or how codes begin; without one all are listed.",
    ),
]
Format = Annotated[Form, option("--format FORMAT", "table or json.", OUTPUT, of=Form)]


@command(7)
def rule(
    code: Code = None,
    format: Format = "table",  # noqa: A002 - the option's own name
) -> int:
    """Explain a rule of `spectra check`.

    What it judges, why, how it is computed, its settings, and what to do about a finding.

    Example: spectra rule SPC101
    """
    from spectra.policy.rules import RULES  # noqa: PLC0415 - slow to load
    from spectra.report.rules import rules_meant  # noqa: PLC0415

    tell(rules_meant(code) if code else list(RULES.values()), format)
    return DONE


def tell(chosen: "Sequence[Rule]", form: Form) -> None:
    """Explain one rule, or list several."""
    from spectra.report.formats import dumps  # noqa: PLC0415 - slow to load
    from spectra.report.rules import explanation, rule_document, rules_screen  # noqa: PLC0415

    if form == "json":
        sys.stdout.write(dumps({"rules": [rule_document(one) for one in chosen]}, indent=2))
    elif len(chosen) == 1:
        sys.stdout.write(explanation(chosen[0], width()))
    else:
        show(rules_screen(chosen))
