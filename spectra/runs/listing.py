"""What a checkpoint holds, told from headers alone, without torch."""

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from spectra.analyzers import Row
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry, open_spec
from spectra.matrices import Selection
from spectra.matrices.view import unread_share, unread_weights
from spectra.text import counted
from spectra.work import Model
from spectra.work import Result as Data
from spectra.work.planning.plan import selected

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spectra.exports import Export

Spec: TypeAlias = str | Path | Checkpoint | Adapter


class Result(Data):
    """A finished analysis: `.frame` (pandas), `.rows`, `.skipped`, `.summary`, `.plot()`.

    Of `kappa` with a selection also `.export()`.
    """

    __slots__ = ()

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw the analysis; write it where a path is given (`.png` or `.svg`).

        Raises:
            OutputError: The file cannot be written.
        """
        from spectra.report import draw, save_figure  # noqa: PLC0415 - matplotlib is slow to load

        figure = draw(self)
        if path is not None:
            save_figure(figure, Path(path))
        return figure

    def export(self, form: str) -> "Export":
        """Write the selected matrices as settings of what is to train them.

        Args:
            form: `peft`, `axolotl`, `llamafactory`, `python` or `names`; docs/exports.md.

        Returns:
            `.text` to write, `.files` by suffix where there are several, and `.notes`.

        Raises:
            UsageError: The form is none, nothing is selected, or the consumer would find
                another set than the selected one.
        """
        from spectra.exports import export, require_form  # noqa: PLC0415 - few need it

        require_form(form)
        views = {row.matrix: row.view for row in self.rows}
        names = self.summary.get("selected", ()) if self.command == "kappa" else ()
        return export([views[name] for name in names], self.checkpoints[0], form)


def open(  # noqa: A001 - `spectra.open` is its name
    spec: Spec, *, allow_pickle: bool = False, download: bool = False, variant: str = ""
) -> Checkpoint | Adapter:
    """Open a checkpoint or adapter: headers only, no weights.

    Args:
        spec: A file of weights (safetensors, GGUF), a folder that holds one or an index with
            its shards, a PEFT LoRA folder, or a repository of the Hub: `org/name[@revision]`.
        allow_pickle: Also open PyTorch pickle files, read as data: nothing in them is run.
        download: Fetch whole files from the Hub into its cache, where otherwise the ranges
            that are needed are read into memory.
        variant: Of a folder that holds several, such as `fp16`.

    Raises:
        CheckpointError: It is not there or cannot be read.
    """
    if isinstance(spec, Checkpoint | Adapter):
        return spec
    return open_spec(spec, allow_pickle=allow_pickle, download=download, variant=variant)


def select(
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    roles: str | Sequence[str] = (),
    layers: str = "",
) -> Selection:
    """Return a selection of matrices for the analyses.

    Args:
        include: Globs on tensor or matrix names; any may match.
        exclude: Globs; none may match.
        roles: Such as `attn.q`, or `attn` for all of them.
        layers: Such as `0-5,11`.

    Raises:
        UsageError: A role or layer range cannot be meant as written.
    """
    return Selection(_texts(include), _texts(exclude), _texts(roles), layers)


def ls(model: Spec, *, selection: Selection | None = None) -> Result:
    """Return every matrix of a model or adapter, and every tensor that is none.

    Args:
        model: What `spectra.open` accepts.
        selection: From `spectra.select`; all matrices by default.

    Raises:
        SpectraError: The model cannot be read or nothing passes the selection.
    """
    start = time.perf_counter()
    opened, chosen = open(model), selection or Selection()
    checkpoint = opened.weights if isinstance(opened, Adapter) else opened
    views, skipped = selected(checkpoint, chosen)
    rows = [Row(view, "ok", None, {}) for view in views]
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
        version=package_version(),
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


NEGLIGIBLE = 0.01  # share of the parameters that goes without a word


def not_read(model: Checkpoint, skipped: Iterable[Skipped]) -> str:
    """Return the first sentence where a share of a model was not read; else nothing."""
    share = unread_share(model, skipped)
    told = ""
    if share >= NEGLIGIBLE:
        told = f"{100 * share:.3g} % of the parameters are in tensors that were not read. "
    if left := unread_weights(model):
        (reason, _), *_ = Counter(item.reason for item in left).most_common(1)
        were = counted(len(left), "weight was", "weights were")
        told += f"{were} not read: {reason}. "
    return told


def unread_in(*models: Checkpoint | Adapter | None) -> dict[str, list[dict[str, str]]]:
    """Return what a summary says of files of weights that were not opened; empty: all were."""
    found = [
        {"file": one.tensor, "reason": one.reason, "model": model.spec}
        for model in models
        if model is not None
        for one in (model.weights if isinstance(model, Adapter) else model).unread
    ]
    return {"unread": found} if found else {}


def counted_codecs(entries: Iterable[TensorEntry]) -> dict[str, int]:
    """Return how many matrices each scheme decodes, most first; stored values need none."""
    names = Counter(entry.codec.name for entry in entries if entry.codec is not None)
    return dict(names.most_common())


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    """Take one text for a list of one."""
    return (given,) if isinstance(given, str) else tuple(given)


def package_version() -> str:
    """Return the installed version."""
    try:
        return version("spectra-weights")
    except PackageNotFoundError:
        return "unknown"
