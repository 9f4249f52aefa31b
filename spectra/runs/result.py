"""A finished analysis, and what every summary says of what was not read."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from spectra.analyzers import Row
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.errors import UsageError
from spectra.matrices.view import unread_share, unread_weights, views_of
from spectra.numbers import percent
from spectra.report.command_line import command_line
from spectra.runs.arguments import typed
from spectra.text import counted
from spectra.wording import worded
from spectra.words import FAILED
from spectra.work import Result as Data

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

    from spectra.exports import Export

NEGLIGIBLE = 0.01  # share of the parameters that goes without a word


class Result(Data):
    """A finished analysis: `.frame` (pandas), `.rows`, `.summary`, `.save()`, `.plot()`.

    Of `kappa` with a selection also `.export()`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Show one screen: the sentence on top, and the rows that carry it."""
        from spectra.report.notebook import one_screen  # noqa: PLC0415 - few need it

        return one_screen(self.document())

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows as a pandas table, one column per key."""
        from spectra.report.formats import frame_of  # noqa: PLC0415 - pandas is slow to load

        return frame_of(self.document())

    @typed
    def save(self, path: str | Path) -> Path:
        """Write the result; the suffix is the format.

        Args:
            path: `.json`, which `spectra.load` reads, `.jsonl`, `.csv`, `.md`, `.parquet`, `.txt`;
                `.html`, a page; of a check also `.sarif` and `.xml` (JUnit).

        Returns:
            The path.

        Raises:
            OutputError: The suffix is unknown or the file cannot be written.
        """
        from spectra.report.saving import save  # noqa: PLC0415 - few need it

        save({self.command: self.document()}, Path(path))
        return Path(path)

    @typed
    def plot(
        self,
        path: str | Path | None = None,
        *,
        ax: "Axes | Iterable[Axes] | FigureBase | None" = None,
    ) -> "Figure":
        """Draw the analysis; write it where a path is given (`.png` or `.svg`).

        Args:
            path: The file.
            ax: Where of your own to draw, without heading and notes: a figure or subfigure of
                matplotlib, which holds every picture; or axes, as many as it has panels, of
                which `kappa` has one. One is enough of `diff` (the leading vectors where
                intruders were looked for, else the most changed matrices) and of `heads` (what
                each copies, or the strongest pairs). `layout="constrained"` makes room for the
                scales and names beside them.

        Returns:
            The figure, which is yours where it was drawn into.

        Raises:
            UsageError: The picture has another number of panels, which is told, or there is
                nothing to draw.
            OutputError: The file cannot be written.
        """
        from spectra.report import draw, save_figure  # noqa: PLC0415 - matplotlib is slow to load

        figure = draw(self.document(), self.arrays, ax)
        if path is not None:
            save_figure(figure, Path(path))
        return figure

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        from spectra.report.notebook import notebook  # noqa: PLC0415 - few need it

        return notebook(self.document())

    @typed
    def export(self, form: str) -> "Export":
        """Write the selected matrices as settings of what is to train them.

        Args:
            form: `peft`, `axolotl`, `llamafactory`, `python` or `names`; docs/exports.md.

        Returns:
            `.text` to write, `.files` by suffix where there are several, and `.notes`.

        Raises:
            UsageError: The form is none, nothing is selected, the consumer would find another
                set than the selected one, or the result was read back from a file.
        """
        from spectra.exports import export, require_form, require_some  # noqa: PLC0415 - few need it

        require_form(form)
        names = self.summary.get("selected", ())
        if self.settings.get("select") is not None and not names:
            raise UsageError(f"nothing is selected to export: {self.summary['reading']}")
        require_some(names)
        if not self.checkpoints:
            again = command_line(self.document(), ["--export", form])
            raise UsageError(
                f"{form} is matched against all names of the model, which a saved {self.command} "
                f"does not hold; expected one just made. Run: {again}"
            )
        views = {view.name: view for view in views_of(self.checkpoints[0])[0]}
        chosen = [views[name] for name in names]
        return export(chosen, self.checkpoints[0], form, cached=self.cached)


def not_read(model: Checkpoint, skipped: Iterable[Skipped]) -> str:
    """Return the first sentence where a share of a model was not read; else nothing."""
    share = unread_share(model, skipped)
    told = ""
    if share >= NEGLIGIBLE:
        told = f"{percent(share)} of the parameters are in tensors that were not read. "
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


def failed_in(rows: Iterable[Row]) -> str:
    """Say which matrices could not be measured and why, as a sentence; empty: all could."""
    found = [row for row in rows if row.status == FAILED]
    if not found:
        return ""
    first = "" if len(found) == 1 else "the first "
    many = counted(len(found), "matrix", "matrices")
    return f"{many} could not be measured: {first}{found[0].matrix}, {found[0].error}."


def noted(notes: Iterable[str]) -> dict[str, list[str]]:
    """Return what a summary says of filters and numbers that went past what is there."""
    found = [worded(text) for text in notes]
    return {"notes": found} if found else {}


def counted_codecs(entries: Iterable[TensorEntry]) -> dict[str, int]:
    """Return how many matrices each scheme decodes, most first; stored values need none."""
    names = Counter(entry.codec.name for entry in entries if entry.codec is not None)
    return dict(names.most_common())
