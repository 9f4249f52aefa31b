"""What is said around tables: names, figures, and the lines under them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectra.report import cells
from spectra.report.kind import Document, kind_of, noun_of
from spectra.text import listed, printable

SHORT = 12  # digits of a digest that are shown
MOST_DIGESTS = 3  # models whose digests fit on a line
SAMPLED_ALIKE = "the bytes of the weights that their digests sample are the same; others may differ"
GENERIC = ("model", "model.safetensors", "snapshot")
"""Names that say nothing about a model; the folder above is shown with them."""


def figures(document: Document) -> list[tuple[str, str]]:
    """Return a few numbers that sum a result up, each with its name."""
    kind = kind_of(document["command"])
    own = [] if kind.judges else [(noun_of(document)[1], f"{len(document['rows']):,}")]
    return [*own, *kind.figures(document)]


def models_named(document: Document, *, owners: bool = True) -> str:
    """Return short names of the models: `base → tuned`; of a series, at most four.

    Args:
        document: A result.
        owners: Name a repository with its owner.
    """
    kind, models = kind_of(document["command"]), document["models"]
    main = [model for model in models if model["part"] in kind.parts] or models
    names = [short_name(model, owners=owners) for model in main]
    if kind.series:
        return ", ".join(names if len(names) <= 4 else [*names[:2], "…", names[-1]])
    return " → ".join(names)


def short_name(model: Mapping[str, Any], *, owners: bool = True) -> str:
    """Return a short name of one of the models of a document."""
    return str(model.get("model") or _base_name(model, owners))


def made_of(document: Document, *, date: bool) -> str:
    """Say by which version a result was made, when, and of which weights.

    Args:
        document: A result.
        date: Say when; without, the same weights give the same text.
    """
    pieces = [f"spectra {printable(str(document['spectra']))}"]
    if date and document.get("date"):
        pieces.append(f"made {printable(str(document['date']))}")
    models = _compared(document) if document["command"] == "compare" else document["models"]
    known = [model for model in models if model.get("digest")]
    if 0 < len(known) <= MOST_DIGESTS:
        parts = [str(model["part"]) for model in models]
        # Models of one part, as of several widths, are told apart by their names.
        names = parts if len(set(parts)) == len(parts) else map(short_name, models)
        named = dict(zip(map(id, models), names, strict=True))
        told = [
            f"{named[id(model)]} {short_digest(model)}" if len(parts) > 1 else short_digest(model)
            for model in known
        ]
        pieces.append(f"weights {printable(', '.join(told))}")
    return " · ".join(pieces)


def _compared(document: Document) -> list[Mapping[str, Any]]:
    """Return the models of both results that were compared; one of both, such as a base, once."""
    one, other = (side["models"] for side in document["summary"]["sides"].values())
    both = [model for model in one if model.get("digest") and model in other]
    alone = [
        {**model, "part": part if len(models) == 1 else f"{part} {model['part']}"}
        for part, models in zip(document["summary"]["sides"], (one, other), strict=True)
        for model in models if model not in both
    ]  # fmt: skip
    return [*both, *alone]


def sampled_alike(document: Document) -> str:
    """Say of models whose digests are one sample what that leaves open; empty: there are none."""
    named: dict[str, list[str]] = {}
    for model in document["models"]:
        digest = str(model.get("digest") or "")
        if digest.startswith("sample:"):
            named.setdefault(digest, []).append(str(model["part"]))
    found = [listed(parts) for parts in named.values() if len(parts) > 1]
    return printable(f"{listed(found)}: {SAMPLED_ALIKE}") if found else ""


def short_digest(model: Mapping[str, Any]) -> str:
    """Return as much of a digest as tells two models apart."""
    form, colon, digits = str(model["digest"]).partition(":")
    return f"{form}{colon}{digits[:SHORT]}"


def closing(document: Document, full: bool, first: Sequence[str] = ()) -> list[str]:
    """Return the lines under a table: verdicts, skips, rows without numbers.

    Args:
        document: A result.
        full: Also name the files of weights that were not opened.
        first: Verdicts.
    """
    skips = ", ".join(skip_counts(document))
    pieces = [*first, *([f"skipped: {skips}"] if skips else ())]
    facts = ["   ".join(pieces)] if pieces else []
    for model in document["models"]:
        schemes = ", ".join(f"{n:,} by {printable(name)}" for name, n in model["codecs"].items())
        if schemes:
            which = "" if model["part"] == "model" else f" ({model['part']})"
            facts.append(f"decoded{which}: {schemes}")
    facts += [
        f"no numbers: {printable(row['matrix'])}: {printable(row['error'])}"
        for row in document["rows"]
        if row["error"]
    ]
    return facts + (unread(document) if full else [])


def unresolved_told(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the mark before a kappa means, where there is one."""
    found = [row for row in rows if cells.is_unresolved(row)]
    if not found:
        return []
    dtypes = listed(sorted({printable(row["dtype"]) for row in found}))
    what = "1 kappa measures" if len(found) == 1 else f"{len(found):,} kappas measure"
    return [f"{cells.MARK}{what} the rounding of {dtypes}, not the model: sigma_min lies below it."]


def skip_counts(document: Document) -> list[str]:
    """Say how many tensors were skipped for which reason."""
    counts = Counter(item["reason"] for item in document["skipped"])
    return [f"{count:,} {printable(reason)}" for reason, count in counts.most_common()]


def unread(document: Document) -> list[str]:
    """Name the files of weights that were not opened; of several models also whose they are."""
    several = len(document["models"]) > 1
    found = []
    for one in document["summary"].get("unread", ()):
        whose = f" ({printable(one['model'])})" if several else ""
        found.append(f"not read{whose}: {printable(one['file'])}: {printable(one['reason'])}")
    return found


def noted(document: Document) -> list[str]:
    """Say which filters fit nothing, and which numbers are above what is there."""
    return [f"note: {printable(str(note))}" for note in document["summary"].get("notes", ())]


def _base_name(model: Mapping[str, Any], owners: bool) -> str:
    """Return the last part of a spec, and the one above where it says nothing."""
    spec = str(model["spec"])
    if owners and spec.count("/") == 1 and not spec.startswith((".", "/")) and spec[-1] != "/":
        return spec
    path = Path(spec)
    if path.name in ("", ".."):
        path = Path(model["resolved"])
    if path.name in GENERIC and path.parent.name not in ("", ".."):
        return f"{path.parent.name}/{path.name}"
    return path.name or spec
