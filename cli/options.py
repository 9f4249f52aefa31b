"""Every option that more than one command takes, defined once, and how all are written."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

import spectra
from spectra.text import guess, nbytes_of, share_of
from spectra.words import ROLES, CheckFormat, Engine, ExportForm, Format

from .terminal import note

if TYPE_CHECKING:
    from spectra.checkpoint import Adapter, Checkpoint
    from spectra.runs.planned import Planned
    from spectra.runs.result import Result

SOURCE, SELECT, OUTPUT, RUN = "Where weights come from", "Which matrices", "Output", "Running"
DEVICES = ("auto", "cpu", "cuda")
OFFERED = tuple(dict.fromkeys(word for role in ROLES for word in (role.split(".")[0], role)))
"""Words of --role: each group stands before its roles."""


def option(
    form: str,
    help: str,  # noqa: A002 - as typer has it
    panel: str | None = None,
    *,
    of: object = None,
    offered: Sequence[str] = (),
    parser: Callable[[str], Any] | None = None,
    least: int | None = None,
) -> Any:  # noqa: ANN401 - as typer has it
    """Return an option as Typer takes it.

    Args:
        form: Its names, and what stands for its value: `--output -o FILE`.
        help: What it does.
        panel: The heading that it stands under in the documentation.
        of: A `Literal` of all values; another one is refused with the nearest of them.
        offered: What a shell completes, where not all is known.
        parser: What reads a value, or refuses it.
        least: The smallest number.
    """
    known = get_args(of) or tuple(offered)
    pieces = form.split()
    return typer.Option(
        *(piece for piece in pieces if piece.startswith("-")),
        metavar=next((piece for piece in pieces if not piece.startswith("-")), None),
        help=help,
        rich_help_panel=panel,
        parser=(lambda value: one_of(value, known)) if of else parser,
        autocompletion=(lambda: list(known)) if known else None,
        min=least,
    )


def one_of(value: str, known: Sequence[str]) -> str:
    """Return the value if it is known, else refuse it with the nearest that is.

    Raises:
        typer.BadParameter: It is not known.
    """
    if value in known:
        return value
    near = guess(value.lower(), known)
    raise typer.BadParameter(f"{value!r} is not known.{near} Expected one of {', '.join(known)}.")


def share_or_percent(value: str) -> float:
    """Return a share written as 0.9 or as 90%; what is none is refused where it is used."""
    found = share_of(value)
    if math.isnan(found):
        raise typer.BadParameter(f"{value!r} should be a number, or like 90%.")
    return found


def device_of(value: str) -> str:
    """Check --device by its shape; whether it is there is asked later."""
    if value in DEVICES:
        return value
    from spectra.work.device import wrong_device  # noqa: PLC0415 - slow to load

    if told := wrong_device(value):
        raise typer.BadParameter(told)
    return value


def memory_of(value: str) -> str:
    """Check --memory by its form; whether it is enough is asked later."""
    if not nbytes_of(value):
        raise typer.BadParameter(
            f"{value!r} is no size. Expected bytes above 0, or KB, MB, GB: 4GB."
        )
    return value


# fmt: off
Model = Annotated[str, typer.Argument(
    metavar="MODEL",
    help="Folder or file with weights, or a repository of the Hub: org/name[@revision].")]
Exact = Annotated[bool, option("--exact",
    "Decompose every matrix in full, as a reference; slower.", RUN)]
NoCache = Annotated[bool, option("--no-cache",
    "Measure everything anew: neither ask the store of earlier runs nor keep anything.", RUN)]
Quiet = Annotated[bool, option("--quiet -q",
    "Only the result: no progress, notes or hints beside it.", OUTPUT)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The options that commands share, as given.

    A field with an option is one of every command that takes a `Common`, in this order, unless
    the command leaves it out. One without an option stands where some command has its own.
    """

    allow_pickle: Annotated[bool, option("--allow-pickle",
        "Also open PyTorch pickle files (.bin, .pt), read as data: nothing in them is run.",
        SOURCE)] = False
    download: Annotated[bool, option("--download",
        "Fetch whole files from the Hub into its cache, not only the ranges needed.",
        SOURCE)] = False
    variant: Annotated[str, option("--variant WORD",
        "Of folders that hold several, the weights whose names have this word. Example: fp16",
        SOURCE)] = ""
    include: Annotated[list[str], option("--include GLOB",
        "Only matrices whose name matches; repeatable; * and ? are wild, [ is not. "
        "Example: '*.mlp.*'", SELECT)] = field(default_factory=list)
    exclude: Annotated[list[str], option("--exclude GLOB",
        "No matrix whose name matches; repeatable.", SELECT)] = field(default_factory=list)
    role: Annotated[list[str], option("--role ROLE",
        f"Only this role; repeatable, or a list with commas: {' '.join(OFFERED)}.",
        SELECT, offered=OFFERED)] = field(default_factory=list)
    layers: Annotated[str, option("--layers RANGES",
        "Only these layers, counted from 0. Example: 0-5,11", SELECT)] = ""
    format: Annotated[CheckFormat, option("--format FORMAT",
        f"What goes to standard output: {' '.join(get_args(Format))}.",
        OUTPUT, of=Format)] = "table"
    output: Annotated[list[Path], option("--output -o FILE",
        "Also write the result here; repeatable. The suffix is the format: "
        ".json .jsonl .csv .md .parquet .txt", OUTPUT)] = field(default_factory=list)
    export: ExportForm | None = None
    plot: Annotated[list[Path], option("--plot FILE",
        "Draw the result, .png or .svg; repeatable.", OUTPUT)] = field(default_factory=list)
    values: Path | None = None
    dry_run: Annotated[bool, option("--dry-run",
        "Tell bytes, matrices, peak memory and time, from headers alone; read no weights.",
        RUN)] = False
    device: Annotated[str, option("--device DEVICE",
        "auto, cpu, cuda or cuda:N. auto takes a GPU where there is one; of several, "
        "cuda:0,cuda:1, the free one takes the next matrix.",
        RUN, offered=DEVICES, parser=device_of)] = "auto"
    workers: Annotated[int | None, option("--workers N",
        "Matrices decomposed at once on the CPU; one per core by default.", RUN, least=1)] = None
    memory: Annotated[str | None, option("--memory SIZE",
        "Bytes that the process may take at most; reading and measuring wait for them. By default "
        "as the largest matrix needs. Example: 4GB", RUN, parser=memory_of)] = None
    engine: Annotated[Engine, option("--engine ENGINE",
        "local, or ray: the workers of a Ray cluster.", RUN, of=Engine)] = "local"
    address: Annotated[str | None, option("--address ADDRESS",
        "The Ray cluster: auto, HOST:PORT or ray://HOST:PORT. By default as RAY_ADDRESS says, else "
        "one is started on this machine.", RUN)] = None
    no_cache: NoCache = False
    exact: bool = False
    quiet: Quiet = False
    verbose: Annotated[bool, option("--verbose -v", "Show every row of the table.",
        OUTPUT)] = False
    # fmt: on

    @property
    def selection(self) -> "spectra.Selection":
        """The matrices that are asked for.

        Raises:
            UsageError: A role or layer range cannot be meant as written.
        """
        return spectra.Selection(self.include, self.exclude, self.role, self.layers)

    @property
    def typed(self) -> list[str]:
        """What was given that no result holds: where weights come from, and what works."""
        bare = Common()
        words = ["--allow-pickle"] * self.allow_pickle + ["--download"] * self.download
        words += ["--no-cache"] * self.no_cache
        for name in ("variant", "device", "workers", "memory", "engine", "address"):
            if (value := getattr(self, name)) != getattr(bare, name):
                words += [f"--{name}", str(value)]
        return words

    def open(self, spec: str) -> "Checkpoint | Adapter":
        """Open a model or adapter.

        Raises:
            CheckpointError: It is not there or cannot be read.
        """
        opened = spectra.open(
            spec, allow_pickle=self.allow_pickle, download=self.download, variant=self.variant
        )
        self.tell_source(opened)
        return opened

    def tell_source(self, opened: object) -> None:
        """Say of a model of the Hub where the cache stands in for it."""
        folder = getattr(getattr(opened, "weights", opened), "folder", None)
        if told := getattr(folder, "told", ""):
            note(f"note: {told}", quiet=self.quiet)

    def run(self, plan: "Callable[[], Planned]") -> int:
        """Plan and run an analysis, write what was asked for, and return the exit code.

        Args:
            plan: Opens models and plans, once it is known that the result can be written.

        Raises:
            SpectraError: It cannot be planned, run or written.
        """
        from .run import run_analysis  # noqa: PLC0415 - what writes results is slow to load

        return run_analysis(self, plan)

    def show(self, listing: "Callable[[], Result]") -> int:
        """Write and show what is found without reading weights, and return the exit code.

        Raises:
            SpectraError: It cannot be found or written.
        """
        from .run import show_listing  # noqa: PLC0415 - as above

        return show_listing(self, listing)
