"""Every option that more than one command takes, defined once."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("table", "json", "jsonl", "csv", "markdown", "parquet")

ROLES = (
    "attn", "attn.q", "attn.k", "attn.v", "attn.o", "mlp", "mlp.gate", "mlp.up", "mlp.down",
    "router", "embed", "lm_head", "conv", "other",
)  # fmt: skip

SOURCE, SELECT, OUTPUT, RUN = "Where weights come from", "Which matrices", "Output", "Running"


def one_of(value: str, known: Sequence[str]) -> str:
    """Return the value if it is known, else refuse it with the nearest that is.

    Raises:
        typer.BadParameter: It is not known.
    """
    if value in known:
        return value
    near = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.4)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise typer.BadParameter(f"{value!r} is not known.{guess} Expected one of {', '.join(known)}.")


def _format(value: str) -> str:
    """Check --format."""
    return one_of(value, FORMATS)


def _device(value: str) -> str:
    """Check --device by its shape; whether it is there is asked later."""
    name, colon, index = value.partition(":")
    if (value in ("auto", "cpu", "cuda")) or (name == "cuda" and colon and index.isdecimal()):
        return value
    return one_of(value, ("auto", "cpu", "cuda", "cuda:0"))


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Folder or file with weights, or a repository of the Hub: org/name[@revision].",
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", rich_help_panel=SOURCE,
        help="Also open PyTorch pickle files (.bin, .pt), read as data: nothing in them is run.",
    ),
]  # fmt: skip
Download = Annotated[
    bool,
    typer.Option(
        "--download", rich_help_panel=SOURCE,
        help="Fetch whole files from the Hub into its cache, not only the ranges needed.",
    ),
]  # fmt: skip
Variant = Annotated[
    str,
    typer.Option(
        "--variant", metavar="WORD", rich_help_panel=SOURCE,
        help="Of folders that hold several, the weights whose names have this word. Example: fp16",
    ),
]  # fmt: skip
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include", metavar="GLOB", rich_help_panel=SELECT,
        help="Only matrices whose name matches; repeatable; * and ? are wild, [ is not. "
        "Example: '*.mlp.*'",
    ),
]  # fmt: skip
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="GLOB", rich_help_panel=SELECT,
        help="No matrix whose name matches; repeatable.",
    ),
]  # fmt: skip
Role = Annotated[
    list[str] | None,
    typer.Option(
        "--role", metavar="ROLE", rich_help_panel=SELECT, autocompletion=lambda: list(ROLES),
        help=f"Only this role; repeatable: {' '.join(ROLES)}.",
    ),
]  # fmt: skip
Layers = Annotated[
    str,
    typer.Option(
        "--layers", metavar="RANGES", rich_help_panel=SELECT,
        help="Only these layers, counted from 0. Example: 0-5,11",
    ),
]  # fmt: skip
Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", rich_help_panel=OUTPUT, callback=_format,
        autocompletion=lambda: list(FORMATS),
        help="What goes to standard output: table json jsonl csv markdown parquet.",
    ),
]  # fmt: skip
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", rich_help_panel=OUTPUT,
        help="Also write the result here; repeatable. The suffix is the format: "
        ".json .jsonl .csv .md .parquet .txt",
    ),
]  # fmt: skip
Plot = Annotated[
    list[Path] | None,
    typer.Option(
        "--plot", metavar="FILE", rich_help_panel=OUTPUT,
        help="Draw the result, .png or .svg; repeatable.",
    ),
]  # fmt: skip
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", rich_help_panel=RUN,
        help="Tell bytes, matrices, peak memory and time, from headers alone; read no weights.",
    ),
]  # fmt: skip
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", rich_help_panel=RUN, callback=_device,
        autocompletion=lambda: ["auto", "cpu", "cuda"],
        help="auto, cpu, cuda or cuda:N. auto takes a GPU where there is one.",
    ),
]  # fmt: skip
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=1, rich_help_panel=RUN,
        help="Matrices decomposed at once on the CPU; one per core by default.",
    ),
]  # fmt: skip
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
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", rich_help_panel=OUTPUT, help="Show every row of the table."),
]
