"""spectra compare: what moved between two results."""

from pathlib import Path
from typing import Annotated

import typer

import spectra

from ..command import command
from ..guard import DONE, FINDINGS
from ..options import Common, option

# fmt: off
Before = Annotated[Path, typer.Argument(
    metavar="BEFORE.json", help="A result that a command wrote with -o FILE.json.")]
After = Annotated[Path, typer.Argument(
    metavar="AFTER.json", help="A later or another one, of the same command.")]
FailOnChange = Annotated[bool, option("--fail-on-change",
    "Exit with 1 where anything is known to be other than it was.")]
# fmt: on


@command(
    8,
    without=(
        "allow_pickle", "download", "variant", "include", "exclude", "role", "layers", "dry_run",
        "device", "workers", "memory", "engine", "address", "no_cache",
    ),
)  # fmt: skip
def compare(
    before: Before, after: After, fail_on_change: FailOnChange = False, *, common: Common
) -> int:
    """Show what moved between two results, beyond its error.

    Two releases, two adapters, before and after a repair: two saved results of one command
    that has a row a matrix or a head, the largest move first. What the errors or bounds of both
    numbers leave open is not called a move. No weights are read.

    Example: spectra compare v1.json v2.json
    """
    changed = False

    def compared() -> spectra.Result:
        nonlocal changed
        result = spectra.compare(before, after)
        changed = bool(result.summary["changed"])
        return result

    code = common.show(compared)
    return FINDINGS if fail_on_change and changed and code == DONE else code
