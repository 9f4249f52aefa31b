"""Every option that more than one command takes, defined once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

import spectra
from spectra.text import guess
from spectra.words import ROLES, CheckFormat, ExportForm, Format

if TYPE_CHECKING:
    from spectra.checkpoint import Adapter, Checkpoint
    from spectra.runs.planned import Planned
    from spectra.runs.result import Result

SOURCE, SELECT, OUTPUT, RUN = "Where weights come from", "Which matrices", "Output", "Running"
OFFERED = tuple(dict.fromkeys(word for role in ROLES for word in (role.split(".")[0], role)))
"""Words of --role: each group stands before its roles."""


def one_of(value: str, known: Sequence[str]) -> str:
    """Return the value if it is known, else refuse it with the nearest that is.

    Raises:
        typer.BadParameter: It is not known.
    """
    if value in known:
        return value
    near = guess(value.lower(), known, 0.4)
    raise typer.BadParameter(f"{value!r} is not known.{near} Expected one of {', '.join(known)}.")


def word(*names: str, of: object, metavar: str, panel: str | None = None, help: str) -> Any:  # noqa: A002, ANN401 - as typer has it
    """Return an option whose value is one of the words of a `Literal`.

    Typer's own refusal of a word knows no nearest one.
    """
    known = get_args(of)
    return typer.Option(
        *names, metavar=metavar, rich_help_panel=panel, help=help,
        parser=lambda value: one_of(value, known), autocompletion=lambda: list(known),
    )  # fmt: skip


def _device(value: str) -> str:
    """Check --device by its shape; whether it is there is asked later."""
    name, colon, index = value.partition(":")
    if name == "cuda" and colon and index.isdecimal():
        return value
    return one_of(value, ("auto", "cpu", "cuda", "cuda:0"))


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Folder or file with weights, or a repository of the Hub: org/name[@revision].",
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact", rich_help_panel=RUN,
        help="Decompose every matrix in full, as a reference; slower.",
    ),
]  # fmt: skip

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="No progress, notes or hints."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The options that commands share, as given.

    A field with an option is one of every command that takes a `Common`, in this order, unless
    the command leaves it out. One without an option stands where some command has its own.
    """

    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", rich_help_panel=SOURCE,
            help="Also open PyTorch pickle files (.bin, .pt), read as data: nothing in them is "
            "run.",
        ),
    ] = False  # fmt: skip
    download: Annotated[
        bool,
        typer.Option(
            "--download", rich_help_panel=SOURCE,
            help="Fetch whole files from the Hub into its cache, not only the ranges needed.",
        ),
    ] = False  # fmt: skip
    variant: Annotated[
        str,
        typer.Option(
            "--variant", metavar="WORD", rich_help_panel=SOURCE,
            help="Of folders that hold several, the weights whose names have this word. "
            "Example: fp16",
        ),
    ] = ""  # fmt: skip
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include", metavar="GLOB", rich_help_panel=SELECT,
            help="Only matrices whose name matches; repeatable; * and ? are wild, [ is not. "
            "Example: '*.mlp.*'",
        ),
    ] = None  # fmt: skip
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", metavar="GLOB", rich_help_panel=SELECT,
            help="No matrix whose name matches; repeatable.",
        ),
    ] = None  # fmt: skip
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role", metavar="ROLE", rich_help_panel=SELECT,
            autocompletion=lambda: list(OFFERED),
            help=f"Only this role; repeatable: {' '.join(OFFERED)}.",
        ),
    ] = None  # fmt: skip
    layers: Annotated[
        str,
        typer.Option(
            "--layers", metavar="RANGES", rich_help_panel=SELECT,
            help="Only these layers, counted from 0. Example: 0-5,11",
        ),
    ] = ""  # fmt: skip
    format: Annotated[
        CheckFormat,
        word(
            "--format", of=Format, metavar="FORMAT", panel=OUTPUT,
            help=f"What goes to standard output: {' '.join(get_args(Format))}.",
        ),
    ] = "table"  # fmt: skip
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT,
            help="Also write the result here; repeatable. The suffix is the format: "
            ".json .jsonl .csv .md .parquet .txt",
        ),
    ] = None  # fmt: skip
    export: ExportForm | None = None
    plot: Annotated[
        list[Path] | None,
        typer.Option(
            "--plot", metavar="FILE", rich_help_panel=OUTPUT,
            help="Draw the result, .png or .svg; repeatable.",
        ),
    ] = None  # fmt: skip
    values: Path | None = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=RUN,
            help="Tell bytes, matrices, peak memory and time, from headers alone; read no weights.",
        ),
    ] = False  # fmt: skip
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="DEVICE", rich_help_panel=RUN, parser=_device,
            autocompletion=lambda: ["auto", "cpu", "cuda"],
            help="auto, cpu, cuda or cuda:N. auto takes a GPU where there is one.",
        ),
    ] = "auto"  # fmt: skip
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, rich_help_panel=RUN,
            help="Matrices decomposed at once on the CPU; one per core by default.",
        ),
    ] = None  # fmt: skip
    exact: bool = False
    quiet: Quiet = False
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", rich_help_panel=OUTPUT, help="Show every row of the table."
        ),
    ] = False

    @property
    def selection(self) -> "spectra.Selection":
        """The matrices that are asked for.

        Raises:
            UsageError: A role or layer range cannot be meant as written.
        """
        return spectra.Selection(
            self.include or (), self.exclude or (), self.role or (), self.layers
        )

    def open(self, spec: str) -> "Checkpoint | Adapter":
        """Open a model or adapter.

        Raises:
            CheckpointError: It is not there or cannot be read.
        """
        return spectra.open(
            spec, allow_pickle=self.allow_pickle, download=self.download, variant=self.variant
        )

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
