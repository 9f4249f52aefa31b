"""What changed between two models, told from headers and hashes: no weights are read."""

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from spectra import distribution
from spectra.analyzers import Row
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.fingerprints import Ledger, fingerprint_of, plain
from spectra.checkpoint.source import Source
from spectra.errors import NothingToAnalyseError, PairingError, UsageError
from spectra.matrices import Selection, View, match_names, views_of
from spectra.matrices.part import Part
from spectra.matrices.role import roles_of
from spectra.matrices.unmatched import unfit, why_none
from spectra.runs.result import Result, noted, unread_in
from spectra.text import counted, listed, natural, shown, size
from spectra.words import BECAME, VECTOR, Became
from spectra.work import Model
from spectra.work.planning.plan import weights_of
from spectra.work.read import Read
from spectra.work.store import Store, place

SIDES = "before", "after"
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
TOLD: Mapping[Became, tuple[str, str]] = {
    "same": ("{} is the same", "{} are the same"),
    "changed": ("{} holds other values", "{} hold other values"),
    "recast": ("{} has another dtype", "{} have another dtype"),
    "reshaped": ("{} has another shape", "{} have another shape"),
    "added": ("{} is new", "{} are new"),
    "removed": ("{} is gone", "{} are gone"),
}


def compared(
    models: Sequence[Checkpoint | Adapter], selection: Selection, start: float | None = None
) -> Result:
    """Return what became of every tensor of a model in another one.

    Of equal names the shape, dtype and scheme are compared first. Then two hashes of the Hub
    tell what is the same: files with one hash hold the same bytes. Where those differ, or there
    are none, what was digested when both were read tells whether values changed; where they
    were not, that is not known.

    Args:
        models: Before and after.
        selection: Filters on the tensors.
        start: When the question was asked, by `time.perf_counter`.

    Raises:
        UsageError: One is an adapter and the other is none.
        NothingToAnalyseError: No tensor is left.
    """
    start = time.perf_counter() if start is None else start
    _require_alike(models)
    before, after = (weights_of(model) for model in models)
    names = _paired(before, after)
    own = {names.get(name, name): entry for name, entry in before.entries.items()}
    # What both have is listed once, as the second has it.
    found = {**_views(before, own), **_views(after, after.entries)}
    views = sorted(found.values(), key=lambda view: natural(view.name))
    kept = selection.apply(views)
    if not kept:
        raise NothingToAnalyseError(
            f"none of the {counted(len(views), 'tensor')} of {shown(before.spec)} and "
            f"{shown(after.spec)} passes the selection. {why_none(selection, views, ())}"
        )
    with _ledger() as ledger:
        rows = [
            _row(view, _side(before, own.get(view.name)),
                 _side(after, after.entries.get(view.name)), ledger)
            for view in kept
        ]  # fmt: skip
    files = _files(before.files, after.files)
    unknown = sum(
        view.entry.nbytes
        for view, row in zip(kept, rows, strict=True)
        if row.values["became"] == "unknown"
    )
    counts = Counter(str(row.values["became"]) for row in rows)
    return Result(
        command="revisions",
        version=distribution.version(),
        settings=dataclasses.asdict(selection),
        models=[
            Model(model.spec, model.resolved, side)
            for model, side in zip(models, SIDES, strict=True)
        ],
        rows=rows,
        skipped=[
            Skipped(item.tensor, item.reason, model.spec)
            for model in (before, after)
            for item in model.skipped
        ],
        summary={
            "reading": _reading(counts, unknown),
            "tensors": len(rows),
            "counts": [{"became": word, "tensors": counts[word]} for word in BECAME],
            "unknown_bytes": unknown,
            "files": files,
            "skipped": len(before.skipped) + len(after.skipped),
            **noted(unfit(selection, views, ())),
            **unread_in(*models),
        },
        seconds=time.perf_counter() - start,
    )


def _require_alike(models: Sequence[Checkpoint | Adapter]) -> None:
    adapters = [model for model in models if isinstance(model, Adapter)]
    if len(adapters) == 1:
        (other,) = (model for model in models if not isinstance(model, Adapter))
        raise UsageError(
            f"{shown(adapters[0].spec)} is a LoRA adapter and {shown(other.spec)} is none: they "
            f"share no tensors. What it changes: `spectra diff {shown(other.spec)} "
            f"{shown(adapters[0].spec)}`."
        )


def _paired(before: Checkpoint, after: Checkpoint) -> Mapping[str, str]:
    """Return names after by names before; they may differ by a prefix, such as `bert.`."""
    try:
        return match_names(list(before.entries), list(after.entries), "tensor")[0]
    except PairingError:
        return {}


def _views(model: Checkpoint, entries: Mapping[str, TensorEntry]) -> dict[str, View]:
    """Return every tensor by name, whatever it is, as one matrix that a selection can choose."""
    held = {view.entry.name for view in views_of(model)[0]}
    roles = roles_of({name: len(entry.shape) for name, entry in entries.items()})
    found = {}
    for name, entry in entries.items():
        role, rows = roles[name], entry.shape[0] if entry.shape else 1
        if entry.name not in held:
            role = dataclasses.replace(role, kind=VECTOR)
        found[name] = View(name, role, entry, Part(), rows, entry.numel // rows if rows else 0)
    return found


def _side(model: Checkpoint, entry: TensorEntry | None) -> Read | None:
    return None if entry is None else Read(model, entry)


def _row(view: View, before: Read | None, after: Read | None, ledger: Ledger | None) -> Row:
    became: Became
    if before is None or after is None:
        became = "added" if before is None else "removed"
    elif before.entry.shape != after.entry.shape:
        became = "reshaped"
    elif _scheme(before.entry) != _scheme(after.entry):
        became = "recast"
    else:
        became = _content(before, after, ledger)
    was, now = (None if one is None else _stored(one.entry) for one in (before, after))
    return Row(view.place(), "ok", None, {"became": became, "was": was, "now": now})


def _content(before: Read, after: Read, ledger: Ledger | None) -> Became:
    """Say what is known of the values of two tensors of one shape, dtype and scheme."""
    by_hash, by_digest = (
        [fingerprint_of(one.entry, None, one.source.files, known) for one in (before, after)]
        for known in (None, ledger)
    )
    if _at(before) == _at(after) or _equal(by_hash) or _equal(by_digest):
        return "same"
    # Other hashes are of whole files; and a view that lies otherwise has other bytes anyway.
    known = ledger is not None and None not in by_digest
    return "changed" if known and before.entry.strides == after.entry.strides else "unknown"


def _equal(prints: Sequence[str | None]) -> bool:
    return None not in prints and prints[0] == prints[1]


def _at(read: Read) -> list[object]:
    """Return where the bytes lie, of local files as they are now."""
    files, parts = read.source.files, read.entry.parts
    return [files[part.shard].span(part.start, part.stop) for part in parts]


def _scheme(entry: TensorEntry) -> object:
    return entry.dtype, plain(entry.codec)


def _stored(entry: TensorEntry) -> str:
    shape = " x ".join(map(str, entry.shape)) or "scalar"
    return f"{shape} {entry.dtype}{f', {entry.codec.name}' if entry.codec else ''}"


def _files(before: Mapping[str, Source], after: Mapping[str, Source]) -> list[dict[str, str]]:
    """Return what became of every file of weights."""
    found = []
    for name in sorted({*before, *after}, key=natural):
        if name in before and name in after:
            became = _of_files(before[name], after[name])
        else:
            became = "removed" if name in before else "added"
        found.append({"file": name, "became": became})
    return found


def _of_files(before: Source, after: Source) -> Became:
    if before.size != after.size:
        return "changed"
    if before.span(0, before.size) == after.span(0, after.size):
        return "same"
    hashes = [(file.fingerprint(0, file.size) or "").partition(":")[0] for file in (before, after)]
    told = all(HASH.fullmatch(one) for one in hashes) and len(hashes[0]) == len(hashes[1])
    return "changed" if told else "unknown"


def _reading(counts: Mapping[str, int], unknown: int) -> str:
    told = [
        many.format(f"{counts[word]:,}") if counts[word] > 1 else one.format("1")
        for word, (one, many) in TOLD.items()
        if counts.get(word)
    ]
    number = sum(counts.values())
    total = counted(number, "tensor")
    if number and counts.get("same") == number:
        return f"Nothing changed: {total}, every one the same."
    sentence = f"Of {total} {listed(told)}." if told else f"{total} in both."
    if not counts.get("unknown"):
        return sentence
    return (
        f"{sentence} Whether {counts['unknown']:,} of equal shape changed is not known without "
        f"reading them ({size(unknown)} of each)."
    )


@contextmanager
def _ledger() -> Iterator[Store | None]:
    """Yield the store, where there is one: none is begun for a question."""
    if not place().is_file():
        yield None
        return
    with closing(Store()) as store:
        yield store
