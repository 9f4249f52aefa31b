"""What every analysis command does: check outputs, plan, run, write, show."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spectra.deferred import when_loaded
from spectra.errors import OutputError, UsageError
from spectra.report import formats
from spectra.report.kind import noun_of
from spectra.report.onward import Typed
from spectra.report.pictures import require_picture, write_pictures
from spectra.report.screens import screen_of
from spectra.report.sentences import noted
from spectra.runs.result import Result, failed_in
from spectra.text import shown
from spectra.words import UNMEASURED
from spectra.work.device import chosen_device
from spectra.work.result import SCHEMA
from spectra.writing.atomic import require_picture_suffix, require_writable, wrong_suffix

from .guard import DONE, NOTHING
from .options import Common
from .terminal import fail, is_terminal, note, progress_bar, show, warn, width

if TYPE_CHECKING:
    from spectra.exports import Export
    from spectra.report.kind import Document
    from spectra.runs.planned import Planned

M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def run_analysis(common: Common, plan: "Callable[[], Planned]") -> int:
    """Plan and run one analysis, write what was asked for, and return the exit code."""
    result = measured(common, plan)
    if result is None:
        return DONE
    broken = [row for row in result.rows if row.status in UNMEASURED]
    failed = failed_in(broken)
    if result.summary.get("relation") == "nothing":  # of two models: zeros, or NaN and Inf
        first = f" {broken[0].matrix}: {broken[0].error}." if broken else ""
        fail(f"{result.summary['reading']} Nothing was written.{first}")
        return NOTHING
    if len(broken) == len(result.rows):
        why = "could not be measured" if failed else "holds NaN or Inf"
        one, several = noun_of(result.document())
        whose = f"every one of the {len(broken):,} {several}" if broken[1:] else f"the only {one}"
        fail(
            f"{whose} {why}: nothing was measured or written. "
            f"{broken[0].matrix}: {broken[0].error}."
        )
        return NOTHING
    deliver(result, common)
    if failed:
        fail(f"{failed} The others are told. SPECTRA_DEBUG=1 shows where it went wrong.")
    return NOTHING if failed else DONE


def measured(
    common: Common, plan: "Callable[[], Planned]", *, findings: bool = False
) -> Result | None:
    """Plan and run; of a dry run tell what it would cost, and return nothing."""
    prepare(common, findings=findings)
    from spectra.runs.engine import Where  # noqa: PLC0415 - loads torch, which no listing needs

    Where(common.engine, common.address, common.memory).require(common.device)
    settle_memory()
    planned = replace(
        plan(), device=common.device, workers=common.workers, cache=not common.no_cache, tell=warn,
        engine=common.engine, address=common.address, memory=common.memory,
    )  # fmt: skip
    gc.freeze()  # what planning imported and made stays too
    if common.plot:
        require_picture(planned.command, kept=not common.no_cache)
    if common.dry_run:
        _show_estimate(planned, common)
        return None
    with progress_bar(quiet=common.quiet) as report:
        return planned.run(report)


def show_listing(common: Common, listing: Callable[[], Result]) -> int:
    """Write and show what was found without a plan."""
    prepare(common)
    settle_memory()
    deliver(listing(), common)
    return DONE


def prepare(common: Common, *, findings: bool = False) -> None:
    """Refuse what could not be written, before any work.

    Raises:
        OutputError: A suffix is unknown or a place cannot be written.
        UsageError: Two documents would go to standard output.
    """
    exported = _exported(common)
    if common.export and common.output and not exported:
        raise _not_exported(common.export, common.output[0])
    for path in _files(common):
        require_writable(path)
    for path in common.output:
        if path in exported:
            continue
        if common.export and _suffix(path) not in formats.SUFFIXES:
            raise _not_exported(common.export, path)
        formats.format_of(path, findings=findings)
    if common.export and not exported and common.format != "table":
        raise UsageError(
            f"--export {common.export} and --format {common.format} both go to standard output. "
            "Write one to a file: -o FILE."
        )
    for path in common.plot:
        require_picture_suffix(path)
    if common.values:
        formats.require_values_suffix(common.values)
    if common.format == "parquet":
        _require_no_terminal(common)


def _require_no_terminal(common: Common) -> None:
    """Refuse Parquet on a terminal, which would choke on it.

    Raises:
        OutputError: It would go there, or is not installed.
    """
    formats.require_parquet()
    if is_terminal(sys.stdout) and not common.dry_run:
        file = next((path for path in common.output if _suffix(path) == ".parquet"), None)
        raise OutputError(
            "Parquet is no text for a terminal. Leave out --format parquet: "
            f"-o {'FILE.parquet' if file is None else shown(file)} writes it."
        )


def _files(common: Common) -> list[Path]:
    return [*common.output, *common.plot, *([common.values] if common.values else [])]


def _exported(common: Common) -> list[Path]:
    if not common.export:
        return []
    from spectra.exports import SUFFIXES  # noqa: PLC0415 - few need it

    return [path for path in common.output if _suffix(path) in SUFFIXES[common.export]]


def _not_exported(form: str, path: Path) -> OutputError:
    """Return the error for files of which none would hold the export."""
    from spectra.exports import SUFFIXES  # noqa: PLC0415 - as above

    own = SUFFIXES[form]
    expected = (
        f"The export for {form} is written as {' or '.join(own)}: "
        f"-o {shown(path.with_suffix(own[0]))}; without -o it goes to standard output."
    )
    return wrong_suffix(path, own, expected)


def deliver(result: Result, common: Common) -> None:
    """Write the files, then the payload on standard output."""
    export = result.export(common.export) if common.export else None
    document = result.document()
    _write_files(result, document, common, export)
    own = export is not None and not _exported(common)
    if export is not None and own:
        sys.stdout.write(export.text)
        note(str(result.summary["reading"]), quiet=common.quiet)
    else:
        _show(result, document, common)
    if own or common.format != "table":  # a table tells them itself
        for text in noted(document):
            note(text, quiet=common.quiet)
    for text in export.notes if export is not None else ():
        note(f"note: {text}")
    for path in _files(common):
        note(f"wrote {path}", quiet=common.quiet)


def _write_files(
    result: Result, document: "Document", common: Common, export: "Export | None"
) -> None:
    exported = _exported(common)
    if export is not None:
        formats.write_texts({path: export.files[_suffix(path)] for path in exported})
    for path in common.output:
        if path not in exported:
            formats.write_result(document, path, full=common.verbose)
    if common.values:
        formats.write_values(result.arrays, common.values)
    for text in write_pictures(result, common.plot) if common.plot else ():
        warn(f"{text}.")


def _show(result: Result, document: "Document", common: Common) -> None:
    if common.format == "table":
        reader = is_terminal(sys.stdout)
        hints = reader and not common.quiet
        full = common.verbose or not reader
        show(screen_of(
            document, seconds=result.seconds, full=full, hints=hints,
            legend=common.verbose, typed=_typed(common),
        ))  # fmt: skip
    elif common.format == "parquet":
        sys.stdout.buffer.write(formats.parquet(document, full=common.verbose))
    else:
        sys.stdout.write(formats.to_text(document, common.format, full=common.verbose))
        for row in result.rows:
            if row.error:
                note(f"warning: {row.matrix!a} has no numbers: {row.error}", quiet=common.quiet)


def _typed(common: Common) -> Typed:
    """Return what the next command keeps, and what this one wrote."""
    made = {"--plot": common.plot, "--export": common.export, "--values": common.values}
    exported = _exported(common)
    saved = [path for path in common.output if path not in exported and _suffix(path) == ".json"]
    return Typed(
        common.typed,
        frozenset(option for option, files in made.items() if files),
        str(saved[0]) if saved else "",
    )


def _suffix(path: Path) -> str:
    found = path.suffix.lower()
    return ".yaml" if found == ".yml" else found


def _show_estimate(planned: "Planned", common: Common) -> None:
    from .planned import estimated, since_start  # noqa: PLC0415 - few need it

    found = planned.estimate().begun(since_start())
    for text in planned.question.notes:
        note(f"note: {text}", quiet=common.quiet)
    if common.format != "table":
        data = {"schema": SCHEMA, "command": planned.command, "dry_run": asdict(found)}
        sys.stdout.write(formats.dumps(data, indent=2))
        return
    device = str(planned.device)
    if planned.engine == "local" and found.known < found.matrices:
        device = chosen_device(device)
    sys.stdout.write(estimated(found, planned.command, device=device, limit=width()))


def settle_memory() -> None:
    """Have the collector look less often, and freed blocks go back to the system.

    What is frozen costs nothing more, at exit least. A listing makes hundreds of thousands of
    small objects that all stay, and what was imported stays too, torch whenever that is. glibc
    keeps up to 32 MiB a block by default, in one arena a thread, and the peak of a long run over
    many matrices creeps up by hundreds of megabytes; from 4 MiB on blocks are given back here.
    """
    gc.freeze()
    when_loaded(gc.freeze)
    gc.set_threshold(50_000)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 4 << 20)
