"""What a result says in a sentence and a few numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spectra.report.html.markup import badge, brief, text

Document = Mapping[str, Any]
Facts = list[tuple[str, str]]

TITLES: Mapping[str, str] = {
    "ls": "Contents",
    "spectrum": "Singular spectra",
    "diff": "What fine-tuning changed",
    "kappa": "Condition numbers",
    "width": "Scaling with width",
    "trend": "Spectra over the run",
    "check": "Release check",
}


def answer(document: Document) -> str:
    """Return the sentence on top; of a check its first word as a mark."""
    reading = str(document["summary"]["reading"])
    word, gap, rest = reading.partition("  ")
    if document["command"] != "check" or not gap:
        return text(reading)
    passed = document["summary"]["passed"]
    return f"{badge('passed' if passed else 'error', word)} {text(rest)}"


def facts(document: Document) -> Facts:
    """Return a few numbers that sum a result up, each with its name."""
    tell: Mapping[str, Callable[[Document], Facts]] = {
        "ls": _listed, "spectrum": _spectrum, "diff": _diff, "kappa": _kappa, "width": _width,
        "trend": _trend, "check": _check,
    }  # fmt: skip
    command = document["command"]
    more = tell[command](document) if command in tell else []
    if command == "check":
        return more
    return [("matrices", f"{len(document['rows']):,}"), *more]


def models_named(document: Document) -> str:
    """Return short names of the models."""
    models = document["models"]
    wanted = ("model",) if document["command"] == "check" else ("model", "base", "tuned")
    main = [model for model in models if model["part"] in wanted] or models
    names = [_base_name(model) for model in main]
    if document["command"] in ("width", "trend"):
        return ", ".join(names if len(names) <= 4 else [*names[:2], "…", names[-1]])
    return " → ".join(names)


def _listed(document: Document) -> Facts:
    """How large the model is."""
    return [("parameters", _large(document["summary"]["parameters"]))]


def _spectrum(document: Document) -> Facts:
    """How large, and how far its values spread."""
    rows = document["rows"]
    ends = _extreme(rows, "kappa", "highest κ") + _extreme(rows, "sigma_max", "highest σ")
    return [*_listed(document), *ends]


def _diff(document: Document) -> Facts:
    """How many matrices changed, and intruders or the largest change."""
    summary = document["summary"]
    found = [("changed", f"{summary['changed']:,}")]
    if summary.get("intruders") is not None:
        return [*found, ("intruders", f"{summary['intruders']:,}")]
    return found + _extreme(document["rows"], "delta_relative", "largest change", percent=True)


def _kappa(document: Document) -> Facts:
    """How many were selected, and the highest, or the cut where that was not looked for."""
    summary, rows = document["summary"], document["rows"]
    found = [("selected", f"{len(summary['selected']):,}")]
    if not any(row["status"] == "outside" for row in rows):
        return found + _extreme(rows, "kappa", "highest κ")
    return found if summary["cut"] is None else [*found, ("cut", brief(summary["cut"]))]


def _width(document: Document) -> Facts:
    """The slope of the typical role."""
    overall = document["summary"].get("overall")
    known = isinstance(overall, Mapping) and overall.get("slope") is not None
    return [("slope", f"{overall['slope']:+.2f}")] if known and overall else []


def _trend(document: Document) -> Facts:
    """How many checkpoints there are."""
    return [("checkpoints", f"{len(document['summary']['steps']):,}")]


def _check(document: Document) -> Facts:
    """How many tensors and findings."""
    counts, tensors = document["summary"]["counts"], document["summary"]["coverage"].get("tensors")
    found = [("tensors", f"{tensors:,}")] if isinstance(tensors, int) else []
    for word, name in (("error", "errors"), ("warning", "warnings"), ("new", "new")):
        count = counts.get(word)
        if isinstance(count, int) and (word != "new" or count):
            found.append((name, f"{count:,}"))
    return found


def _extreme(
    rows: Sequence[Mapping[str, Any]], key: str, name: str, *, percent: bool = False
) -> list[tuple[str, str]]:
    """Return the highest value of a key."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return []
    highest = max(values)
    return [(name, f"{100 * highest:.1f} %" if percent else brief(highest))]


def _large(count: int) -> str:
    """Write a number of parameters."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _base_name(model: Document) -> str:
    """Return the last part of a spec; of a repository, with its owner."""
    spec = str(model.get("model") or model["spec"])
    if spec.count("/") == 1 and not spec.startswith((".", "/")) and not spec.endswith("/"):
        return spec
    path = Path(spec)
    if path.name in ("model", "model.safetensors", "snapshot") and path.parent.name:
        return f"{path.parent.name}/{path.name}"
    return path.name or spec
