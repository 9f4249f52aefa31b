"""A result read back from the file that a command wrote."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.analyzers import Row
from spectra.checkpoint import Skipped
from spectra.matrices import Place
from spectra.matrices.place import COLUMNS
from spectra.report.saved import intact, read_saved
from spectra.runs.arguments import typed
from spectra.runs.result import Result
from spectra.work import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

LABELS = ("model", "width", "step")
"""What tells rows of several models apart."""


@dataclass(frozen=True, slots=True, repr=False)
class Loaded(Result):
    """A result without the weights' headers and without arrays: of those a file holds none."""

    path: Path = Path()

    def __repr__(self) -> str:
        """Show one screen of what the file holds."""
        with intact(self.path):
            return Result.__repr__(self)

    def plot(
        self,
        path: str | Path | None = None,
        *,
        ax: "Axes | Iterable[Axes] | FigureBase | None" = None,
    ) -> "Figure":
        """Draw what the file holds; write it where a path is given (`.png` or `.svg`).

        Args:
            path: The file.
            ax: As for any result.

        Raises:
            UsageError: The picture has another number of panels, or there is nothing to draw.
            OutputError: The picture cannot be written.
            SavedError: A part that the picture needs is damaged.
        """
        with intact(self.path):
            return Result.plot(self, path, ax=ax)

    def save(self, path: str | Path) -> Path:
        """Write what the file holds in another format; as of any result.

        Raises:
            OutputError: The suffix is unknown or the file cannot be written.
            SavedError: A part of it is damaged.
        """
        with intact(self.path):
            return Result.save(self, path)

    def _repr_html_(self) -> str:
        with intact(self.path):
            return Result._repr_html_(self)


@typed
def load(path: str | Path) -> Loaded:
    """Return the result that a command wrote with `-o FILE.json`, or Python with `.document()`.

    It is read as the one it was written from, and no weights are needed: `.rows`, `.summary`,
    `.settings`, `.models`, `.skipped`, `.frame`, `.document()`; `.plot()` draws what the file
    holds.

    Args:
        path: The file.

    Raises:
        SavedError: It cannot be read, is no JSON, or is no result of spectra.
    """
    document = read_saved(Path(path)).document
    return Loaded(
        command=document["command"],
        version=document["spectra"],
        settings=document["settings"],
        models=[_model(one) for one in document["models"]],
        rows=[_row(one) for one in document["rows"]],
        skipped=[
            Skipped(one["tensor"], one["reason"], one.get("model") or "")
            for one in document["skipped"]
        ],
        summary=document["summary"],
        seconds=0.0,
        date=document.get("date", ""),
        path=Path(path),
    )


def _model(found: Mapping[str, Any]) -> Model:
    labels = _rest(found, ("spec", "resolved", "part", "codecs", "digest"))
    return Model(
        found["spec"], found["resolved"], found["part"], found["codecs"], labels,
        found.get("digest"),
    )  # fmt: skip


def _row(found: Mapping[str, Any]) -> Row:
    labels = {key: found[key] for key in LABELS if key in found}
    place = Place(**{key: found[key] for key in COLUMNS}, labels=labels)
    known = (*LABELS, *COLUMNS, "status", "error")
    return Row(place, found["status"], found["error"], _rest(found, known))


def _rest(found: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in known}
