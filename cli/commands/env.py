"""spectra env: what it runs on here."""

from typing import Annotated, Literal

from ..command import command
from ..options import OUTPUT, option

Form = Literal["table", "json"]
Format = Annotated[Form, option("--format FORMAT", "table or json.", OUTPUT, of=Form)]


@command(20)
def env(format: Format = "table") -> int:  # noqa: A002 - the option's own name
    """Show what spectra runs on here.

    Versions of spectra, Python, torch and the other libraries, what torch was built for and
    finds, which BLAS computes, folders, and the variables that change a run: what a report of a
    fault needs. Nothing is asked over the network; of tokens it says only that they are set.

    Example: spectra env
    """
    from ..environment import show  # noqa: PLC0415 - takes torch when asked

    return show(format)
