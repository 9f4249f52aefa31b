"""Names: the tensors of the checkpoint that hold the selected matrices, one a line."""

from spectra.exports.export import Export, Job, require_exact


def write(job: Job) -> Export:
    """Return the export, in the order of the ranking.

    Raises:
        UsageError: A name does not fit on one line.
    """
    wanted = list(dict.fromkeys(view.entry.name for view in job.selected))
    text = "".join(f"{name}\n" for name in wanted)
    lines = {line for line in text.splitlines() if line}
    # A line that is no tensor is as wrong as a tensor that is on no line.
    hit = [name for name in job.checkpoint.entries if name in lines] + sorted(
        lines - set(job.checkpoint.entries)
    )
    require_exact("names", wanted, hit)
    return Export("names", {".txt": text}, _notes(job))


def _notes(job: Job) -> tuple[str, ...]:
    parts = [view.name for view in job.selected if view.name != view.entry.name]
    if not parts:
        return ()
    count = "1 selected matrix is" if len(parts) == 1 else f"{len(parts):,} selected matrices are"
    return (f"{count} a part of a tensor that holds others: the list names the tensor.",)
