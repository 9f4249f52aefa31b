"""What a checkpoint holds, told from headers alone, without torch."""

import dataclasses
import time
from collections.abc import Sequence

from spectra import distribution
from spectra.analyzers import Row
from spectra.checkpoint import Adapter
from spectra.checkpoint.codecs.composed import made_of, rank_of
from spectra.matrices import Selection, View, views_of
from spectra.runs.arguments import typed
from spectra.runs.opening import (
    Globs,
    Layers,
    Spec,
    chosen,
    open,  # noqa: A004 - `spectra.open` is its name
)
from spectra.runs.result import Result, counted_codecs, not_read, noted, unread_in
from spectra.runs.revisions import compared
from spectra.text import counted
from spectra.work import Model
from spectra.work.planning.plan import selected

RANKS = 4  # that are told, the lowest


@typed
def ls(  # noqa: PLR0913 - the options of a question are its keyword arguments
    model: Spec,
    other: Spec | None = None,
    *,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    variant: str = "",
) -> Result:
    """Return every matrix of a model or adapter, and every tensor that is none.

    Of two models, what became of every tensor of the first: as far as headers and hashes tell,
    and what was digested when both were read.

    Args:
        model: What `spectra.open` accepts.
        other: What became of it, such as the next revision of a repository.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`.
        variant: As for `spectra.open`.

    Raises:
        SpectraError: The model cannot be read or nothing passes the selection.
    """
    start = time.perf_counter()
    some = chosen(selection, include, exclude, role, layers)
    opened = open(model, allow_pickle=allow_pickle, variant=variant)
    if other is not None:
        after = open(other, allow_pickle=allow_pickle, variant=variant)
        return compared((opened, after), some, start)
    checkpoint = opened.weights if isinstance(opened, Adapter) else opened
    views, skipped, notes = selected(checkpoint, some)
    reading = not_read(checkpoint, views_of(checkpoint)[1])
    rows = [Row(view.place(), "ok", None, {}) for view in views]
    parameters = sum(view.rows * view.cols for view in views)
    reading += (
        f"{counted(len(rows), 'matrix', 'matrices')}, {parameters:,} parameters, "
        f"{counted(len(skipped), 'tensor that is none', 'tensors that are none')}; "
        f"{checkpoint.nbytes:,} bytes in {counted(len(checkpoint.files), 'file')}."
    )
    reading += _made(views)
    if isinstance(opened, Adapter):
        coat = "" if opened.coat == "PEFT" else f" of {opened.coat}"
        kind = opened.noun[0].upper() + opened.noun[1:]
        ranks = f", rank {' '.join(map(str, _ranks(opened)))}" if opened.factors else ""
        reading = f"{kind}{coat} on {len(opened.modules):,} modules{ranks}. {reading}"
    summary = {
        "reading": reading,
        "matrices": len(rows),
        "parameters": parameters,
        "bytes": checkpoint.nbytes,
        "skipped": len(skipped),
        **(_adapter(opened) if isinstance(opened, Adapter) else {}),
        **noted(notes),
        **unread_in(opened),
    }
    return Result(
        command="ls",
        version=distribution.version(),
        settings=dataclasses.asdict(some),
        models=[
            Model(
                opened.spec,
                opened.resolved,
                "model",
                counted_codecs(view.entry for view in views),
            )
        ],
        rows=rows,
        skipped=skipped,
        summary=summary,
        seconds=time.perf_counter() - start,
    )


def _made(views: Sequence[View]) -> str:
    """Say which matrices are put together of factors and sparse entries; empty where none is."""
    stored = {view.entry.name: view.entry for view in views if made_of(view.entry)}
    if not stored:
        return ""
    ranks = sorted({rank for one in stored.values() if (rank := rank_of(one)) is not None})
    told = f", of rank {', '.join(map(str, ranks[:RANKS]))}{', ...' if ranks[RANKS:] else ''}"
    are = counted(len(stored), "tensor is", "tensors are")
    return f" {are} put together of stored factors{told if ranks else ''}."


def _ranks(adapter: Adapter) -> list[int]:
    return sorted({factors.rank for factors in adapter.factors.values()})


def _adapter(adapter: Adapter) -> dict[str, dict[str, object]]:
    return {"adapter": {"modules": len(adapter.modules), "ranks": _ranks(adapter)}}
