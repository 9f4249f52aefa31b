"""What every analysis command does: check outputs, plan, run, write, show."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .guard import DONE, NOTHING
from .terminal import fail, is_terminal, note, progress_bar, show

if TYPE_CHECKING:
    from spectra.checkpoint import Adapter, Checkpoint
    from spectra.exports import Export
    from spectra.runs.analysis import Planned
    from spectra.runs.listing import Result

M_MMAP_THRESHOLD = -3  # glibc's malloc.h


@dataclass(frozen=True, slots=True)
class Opening:
    """How models are opened, as given."""

    allow_pickle: bool = False
    download: bool = False
    variant: str = ""

    def __call__(self, spec: str) -> "Checkpoint | Adapter":
        """Open one."""
        from spectra.runs.listing import open as open_spec  # noqa: PLC0415 - slow to load

        return open_spec(
            spec, allow_pickle=self.allow_pickle, download=self.download, variant=self.variant
        )


@dataclass(frozen=True, slots=True)
class Request:
    """The options that all analyses share, as given."""

    format: str = "table"
    output: Sequence[Path] = ()
    plot: Sequence[Path] = ()
    values: Path | None = None
    dry_run: bool = False
    device: str = "cpu"
    workers: int | None = None
    quiet: bool = False
    verbose: bool = False
    export: str | None = None  # form in which a selection is written
    check: bool = False  # findings, which have formats of their own

    @property
    def exported(self) -> list[Path]:
        """The files among the outputs that the export is written to."""
        if self.export is None:
            return []
        from spectra.exports import SUFFIXES  # noqa: PLC0415 - slow to load

        return [path for path in self.output if _suffix(path) in SUFFIXES[self.export]]

    def check_targets(self) -> None:
        """Refuse what could not be written, before any work.

        Raises:
            OutputError: A suffix is unknown or a place cannot be written.
            UsageError: Two documents would go to standard output.
        """
        from spectra.errors import UsageError  # noqa: PLC0415
        from spectra.report.documents import (  # noqa: PLC0415 - needs torch
            format_of,
            require_parquet,
            require_values_suffix,
        )
        from spectra.writing.atomic import (  # noqa: PLC0415
            require_picture_suffix,
            require_writable,
        )

        values = [self.values] if self.values else []
        for path in (*self.output, *self.plot, *values):
            require_writable(path)
        for path in self.output:
            if path not in self.exported:
                format_of(path, findings=self.check)
        if self.export and not self.exported and self.format != "table":
            raise UsageError(
                f"--export {self.export} and --format {self.format} both go to standard output. "
                "Write one to a file: -o FILE."
            )
        for path in self.plot:
            require_picture_suffix(path)
        for path in values:
            require_values_suffix(path)
        if self.format == "parquet":
            require_parquet()


def run_analysis(request: Request, plan: Callable[[], "Planned"]) -> int:
    """Plan and run one analysis, write what was asked for, and return the exit code."""
    from spectra.work.local import Resources  # noqa: PLC0415 - needs torch

    request.check_targets()
    settle_memory()
    resources = Resources(workers=request.workers, device=chosen_device(request.device))
    analysis = plan()
    if request.dry_run:
        show_estimate(analysis, request)
        return DONE
    with progress_bar(quiet=request.quiet) as report:
        result = analysis.run(resources, report)
    broken = [row for row in result.rows if row.status == "non-finite"]
    if len(broken) == len(result.rows):
        fail(
            f"every one of the {len(broken):,} matrices holds NaN or Inf: nothing was measured or "
            f"written. {broken[0].matrix}: {broken[0].error}."
        )
        return NOTHING
    deliver(result, request)
    return DONE


def deliver(result: "Result", request: Request) -> None:
    """Write the files, then the payload on standard output."""
    export = result.export(request.export) if request.export else None
    written = _write_files(result, request, export)
    if export is not None and not request.exported:
        sys.stdout.write(export.text)
        note(str(result.summary["reading"]), quiet=request.quiet)
    else:
        _show(result, request)
    for text in export.notes if export is not None else ():
        note(f"note: {text}")
    for path in written:
        note(f"wrote {path}", quiet=request.quiet)


def _write_files(result: "Result", request: Request, export: "Export | None") -> list[Path]:
    """Write every file that was asked for, and return their places."""
    from spectra.report import draw, save_figure  # noqa: PLC0415 - needs torch
    from spectra.report.documents import (  # noqa: PLC0415
        write_result,
        write_texts,
        write_values,
    )

    exported, document = request.exported, result.document()
    if export is not None:
        write_texts({path: export.files[_suffix(path)] for path in exported})
    for path in request.output:
        if path not in exported:
            write_result(document, path)
    if request.values:
        sigma = [(row.matrix, row.arrays["sigma"]) for row in result.rows if "sigma" in row.arrays]
        write_values(sigma, request.values)
    if request.plot:
        figure = draw(result)
        for path in request.plot:
            save_figure(figure, path)
    return [*request.output, *request.plot, *([request.values] if request.values else [])]


def _show(result: "Result", request: Request) -> None:
    """Put the result on standard output."""
    from spectra.report.documents import to_text  # noqa: PLC0415 - needs torch
    from spectra.report.screens import screen_of  # noqa: PLC0415

    if request.format == "table":
        reader = is_terminal(sys.stdout)
        hints = reader and not request.quiet
        full = request.verbose or not reader
        show(screen_of(result.document(), seconds=result.seconds, full=full, hints=hints))
    elif request.format == "parquet":
        _parquet_to_stdout(result)
    else:
        sys.stdout.write(to_text(result.document(), request.format))
        for row in result.rows:
            if row.error:
                note(f"warning: {row.matrix!a} has no numbers: {row.error}", quiet=request.quiet)


def _suffix(path: Path) -> str:
    """Return a file's suffix, in one spelling."""
    found = path.suffix.lower()
    return ".yaml" if found == ".yml" else found


def chosen_device(wanted: str) -> str:
    """Return the torch device that `auto` means here, or the one named.

    Raises:
        UsageError: The device is not there.
    """
    import torch  # noqa: PLC0415 - needs torch

    from spectra.errors import UsageError  # noqa: PLC0415

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count()
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise UsageError(
                f"--device {wanted} is not there: torch sees {count} CUDA devices. "
                "Use --device cpu."
            )
    return wanted


def show_estimate(analysis: "Planned", request: Request) -> None:
    """Print what the analysis would cost."""
    from dataclasses import asdict  # noqa: PLC0415

    from spectra.report.documents import dumps  # noqa: PLC0415
    from spectra.work.result import SCHEMA  # noqa: PLC0415

    found = analysis.estimate(request.workers)
    if request.format != "table":
        data: dict[str, Any] = {
            "schema": SCHEMA,
            "command": analysis.command,
            "dry_run": asdict(found),
        }
        sys.stdout.write(dumps(data, indent=2))
        return
    sys.stdout.write(
        f"\n  {found.matrices:,} matrices in {found.tensors:,} tensors, "
        f"{found.skipped:,} skipped; nothing was read but headers.\n\n"
        f"  to read       {size(found.nbytes)}\n"
        f"  peak memory   about {size(found.memory)} beside the program itself\n"
        f"  time          about {duration(found.seconds)}\n"
    )


def _parquet_to_stdout(result: "Result") -> None:
    """Write Parquet into a pipe; a terminal would choke on it.

    Raises:
        OutputError: Standard output is a terminal.
    """
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from spectra.errors import OutputError  # noqa: PLC0415
    from spectra.report.documents import write_result  # noqa: PLC0415

    if is_terminal(sys.stdout):
        raise OutputError("Parquet is no text. Write it to a file: -o FILE.parquet.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "result.parquet"
        write_result(result.document(), path)
        sys.stdout.buffer.write(path.read_bytes())


def settle_memory() -> None:
    """Have the collector look less often, and freed blocks go back to the system.

    A listing makes hundreds of thousands of small objects that all stay, and what was
    imported stays too. glibc keeps up to 32 MiB a block by default, in one arena a thread,
    and the peak of a long run over many matrices creeps up by hundreds of megabytes; from
    4 MiB on blocks are given back here.
    """
    gc.freeze()
    gc.set_threshold(50_000)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 4 << 20)


def size(nbytes: int) -> str:
    """Write a number of bytes."""
    value = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Write a time span."""
    if seconds < 90:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
