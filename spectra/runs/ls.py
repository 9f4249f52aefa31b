"""What a checkpoint holds, told from headers alone, without torch."""

import dataclasses
import time

from spectra import distribution
from spectra.analyzers import Row
from spectra.checkpoint import Adapter
from spectra.matrices import Selection
from spectra.runs.opening import Spec, open  # noqa: A004 - `spectra.open` is its name
from spectra.runs.result import Result, counted_codecs, not_read, unread_in
from spectra.text import counted
from spectra.work import Model
from spectra.work.planning.plan import selected


def ls(model: Spec, *, selection: Selection | None = None) -> Result:
    """Return every matrix of a model or adapter, and every tensor that is none.

    Args:
        model: What `spectra.open` accepts.
        selection: Which matrices; all by default.

    Raises:
        SpectraError: The model cannot be read or nothing passes the selection.
    """
    start = time.perf_counter()
    opened, chosen = open(model), selection or Selection()
    checkpoint = opened.weights if isinstance(opened, Adapter) else opened
    views, skipped = selected(checkpoint, chosen)
    rows = [Row(view.place(), "ok", None, {}) for view in views]
    parameters = sum(view.rows * view.cols for view in views)
    reading = (
        f"{counted(len(rows), 'matrix', 'matrices')}, {parameters:,} parameters, "
        f"{counted(len(skipped), 'tensor that is none', 'tensors that are none')}; "
        f"{checkpoint.nbytes:,} bytes in {counted(len(checkpoint.files), 'file')}."
    )
    reading = not_read(checkpoint, skipped) + reading
    if isinstance(opened, Adapter):
        ranks = sorted({factors.rank for factors in opened.factors.values()})
        coat = "" if opened.coat == "PEFT" else f" of {opened.coat}"
        reading = (
            f"A LoRA adapter{coat} on {len(opened.factors):,} modules, rank "
            f"{' '.join(map(str, ranks))}. {reading}"
        )
    summary = {
        "reading": reading,
        "matrices": len(rows),
        "parameters": parameters,
        "bytes": checkpoint.nbytes,
        "skipped": len(skipped),
        **unread_in(opened),
    }
    return Result(
        command="ls",
        version=distribution.version(),
        settings=dataclasses.asdict(chosen),
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
