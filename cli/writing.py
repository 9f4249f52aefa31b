"""What every command does that writes an adapter: its options, and where its results go."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectra.errors import OutputError, UsageError
from spectra.text import shown
from spectra.words import Stored

from .guard import DONE
from .options import OUTPUT, Common, option
from .terminal import note

if TYPE_CHECKING:
    from spectra.runs.planned import Planned

RANKS = "How many directions"
UNUSED = ("include", "exclude", "role", "layers", "plot", "no_cache")
"""Shared options that are none of these commands: all of an adapter is written, and anew."""

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")

# fmt: off
Adapter = Annotated[str, typer.Argument(
    metavar="ADAPTER", help="A PEFT LoRA: folder, file or org/name[@revision].")]
Rank = Annotated[int | None, option("--rank N", "At most so many for each module.", RANKS, least=1)]
Energy = Annotated[float | None, option("--energy SHARE",
    "As many as hold this share of each update's sum of squared singular values. Example: 0.95",
    RANKS)]
Budget = Annotated[str | None, option("--budget SIZE",
    "Bytes of the whole adapter, shared out to what saves most for each. Example: 20MB", RANKS)]
SvRatio = Annotated[float | None, option("--sv-ratio X",
    "Those with singular values above the largest over this; kohya's criterion.", RANKS)]
SvCumulative = Annotated[float | None, option("--sv-cumulative SHARE",
    "As many as hold this share of the sum of singular values; kohya's.", RANKS)]
SvFro = Annotated[float | None, option("--sv-fro SHARE",
    "As many as hold this share of the Frobenius norm; kohya's.", RANKS)]
StoredAs = Annotated[Stored | None, option("--dtype DTYPE",
    "What is written: float32, bfloat16 or float16; as it is read by default.", OUTPUT,
    of=Stored)]
Force = Annotated[bool, option("--force", "Replace an adapter that is there.", OUTPUT)]
Places = Annotated[list[Path], option("--output -o PLACE",
    "The adapter's folder. A name that ends with .json .jsonl .csv .md .parquet .txt gets the "
    "table; repeatable.", OUTPUT)]
Replace = Annotated[bool, option("--force", "Replace what is there.", OUTPUT)]
Folders = Annotated[list[Path], option("--output -o PLACE",
    "The folder of what is written. A name that ends with .json .jsonl .csv .md .parquet .txt gets "
    "the table; repeatable.", OUTPUT)]
# fmt: on


def write(
    common: Common, plan: "Callable[[Common, Path], Planned]", what: str = "a PEFT adapter"
) -> int:
    """Plan, run and write an adapter, then what is told of it; return the exit code.

    Args:
        common: Its `output` holds the adapter's folder and files for the table.
        plan: Opens and plans, from the options without that folder, and the folder.
        what: Is written.

    Raises:
        SpectraError: It cannot be planned, run or written.
    """
    from spectra.report.formats import SUFFIXES  # noqa: PLC0415 - slow to load

    from .run import deliver, measured  # noqa: PLC0415 - as above

    places = [path for path in common.output if path.suffix.lower() not in SUFFIXES]
    if len(places) != 1:
        got = ", ".join(map(shown, places)) or "none"
        raise UsageError(f"one folder takes {what}, got {got}. Expected -o FOLDER.")
    if places[0].suffix.lower() in WEIGHTS:
        raise OutputError(
            f"{shown(places[0])} names a file, and {what} is a folder of several. Expected "
            f"-o {shown(places[0].with_suffix(''))}."
        )
    rest = replace(common, output=[path for path in common.output if path not in places])
    # All is made anew: what the store knows of a matrix are its numbers alone.
    result = measured(replace(rest, no_cache=True), lambda: plan(rest, places[0]))
    if result is not None:
        deliver(result, rest)
        note(f"wrote {shown(places[0])}", quiet=common.quiet)
    return DONE
