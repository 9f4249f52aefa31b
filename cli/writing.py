"""What every command does that writes an adapter: its options, and where its results go."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectra.errors import OutputError, UsageError
from spectra.text import shown
from spectra.words import Stored, To

from .guard import DONE
from .options import OUTPUT, SOURCE, Common, option, share_or_percent
from .terminal import note

if TYPE_CHECKING:
    from spectra.runs.planned import Planned

RANKS = "How many directions"
UNUSED = ("include", "exclude", "role", "layers", "plot", "no_cache")
"""Shared options that are none of these commands: all of an adapter is written, and anew."""

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")

# fmt: off
Adapter = Annotated[str, typer.Argument(
    metavar="ADAPTER", help="An adapter: folder, file or org/name[@revision].")]
Places = Annotated[list[Path], option("--output -o PLACE",
    "The adapter's folder, or file. A name that ends with .json .jsonl .csv .md .parquet .txt gets "
    "the table; repeatable.", OUTPUT)]
Replace = Annotated[bool, option("--force", "Replace what is there.", OUTPUT)]
Folders = Annotated[list[Path], option("--output -o PLACE",
    "The folder of what is written. A name that ends with .json .jsonl .csv .md .parquet .txt gets "
    "the table; repeatable.", OUTPUT)]


@dataclass(frozen=True, slots=True)
class Ranks:
    """How many directions are written of a whole update."""

    rank: Annotated[int | None, option("--rank N", "At most so many for each module.", RANKS,
        least=1)] = None
    energy: Annotated[float | None, option("--energy SHARE",
        "As many as hold this share of each update's sum of squared singular values. Example: 0.95",
        RANKS, parser=share_or_percent)] = None
    budget: Annotated[str | None, option("--budget SIZE",
        "Bytes of the whole adapter, shared out to what saves most for each. Example: 20MB",
        RANKS)] = None


@dataclass(frozen=True, slots=True)
class AllRanks(Ranks):
    """Those, and kohya's criteria."""

    sv_ratio: Annotated[float | None, option("--sv-ratio X",
        "Those with singular values above the largest over this; kohya's criterion.", RANKS)] = None
    sv_cumulative: Annotated[float | None, option("--sv-cumulative SHARE",
        "As many as hold this share of the sum of singular values; kohya's.", RANKS,
        parser=share_or_percent)] = None
    sv_fro: Annotated[float | None, option("--sv-fro SHARE",
        "As many as hold this share of the Frobenius norm; kohya's.", RANKS,
        parser=share_or_percent)] = None


@dataclass(frozen=True, slots=True)
class Form:
    """As what an adapter is written."""

    to: Annotated[To, option("--to FORM",
        "Whose names and files: peft or mlx, folders; kohya, diffusers or gguf, a file.", OUTPUT,
        of=To)] = "peft"
    part: Annotated[str, option("--part PART",
        "The part of a pipeline that it is of, where names do not tell. Example: text_encoder",
        OUTPUT)] = ""
    dtype: Annotated[Stored | None, option("--dtype DTYPE",
        "What is written: float32, bfloat16 or float16; as it is read by default.", OUTPUT,
        of=Stored)] = None
    force: Annotated[bool, option("--force", "Replace an adapter that is there.", OUTPUT)] = False


@dataclass(frozen=True, slots=True)
class OfAdapter(Form):
    """That, of what was trained on a base."""

    base: Annotated[str | None, option("--base BASE",
        "The model it was trained on, where names or its method hang on that: folder, file or "
        "org/name[@revision].", SOURCE)] = None


def words(*groups: Ranks | Form) -> dict[str, Any]:
    """Return options as the functions of `spectra.lowrank` take them."""
    return {name: value for group in groups for name, value in asdict(group).items()}


# fmt: on


def write(
    common: Common,
    plan: "Callable[[Common, Path], Planned]",
    what: str = "a PEFT adapter",
    to: str = "peft",
) -> int:
    """Plan, run and write an adapter, then what is told of it; return the exit code.

    Args:
        common: Its `output` holds the adapter's folder and files for the table.
        plan: Opens and plans, from the options without that folder, and the folder.
        what: Is written.
        to: In whose form.

    Raises:
        SpectraError: It cannot be planned, run or written.
    """
    from spectra.report.formats import SUFFIXES  # noqa: PLC0415 - slow to load
    from spectra.writing.coats import COATS  # noqa: PLC0415 - as above

    from .run import deliver, measured  # noqa: PLC0415 - as above

    kind = "folder" if not COATS[to].suffixes else "file"
    places = [path for path in common.output if path.suffix.lower() not in SUFFIXES]
    if len(places) != 1:
        got = ", ".join(map(shown, places)) or "none"
        raise UsageError(f"one {kind} takes {what}, got {got}. Expected -o {kind.upper()}.")
    if kind == "folder" and places[0].suffix.lower() in WEIGHTS:
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
