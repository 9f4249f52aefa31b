"""Why a selection, or a part of it, keeps nothing, and what would."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from spectra.checkpoint import Skipped
from spectra.matrices.selection import Selection, fits, parse_layers
from spectra.matrices.view import View
from spectra.text import listed, nearest, quote
from spectra.words import in_order

LIKE = 0.6  # how alike a part of a glob and one of a name must be, from 0 to 1


def why_none(selection: Selection, views: Sequence[View], skipped: Sequence[Skipped]) -> str:
    """Say which filter leaves nothing, and what it could have been; of none, which do together.

    Args:
        selection: The filters, which keep none of the matrices.
        views: All matrices of the model.
        skipped: Its tensors that are no matrices.
    """
    kept = {}
    for name in ("include", "exclude", "roles", "layers"):
        if given := getattr(selection, name):
            kept[name] = len(Selection(**{name: given}).apply(views))
    nothing = next((name for name, number in kept.items() if not number), None)
    if nothing == "include":
        return " ".join(_glob("include", glob, views, skipped) for glob in selection.include)
    if nothing == "exclude":
        return f"{_option('exclude', selection.exclude)} fits all of them."
    if nothing == "roles":
        return _roles(selection.roles, views)
    if nothing == "layers":
        return _layers(str(selection.layers), views)
    pieces = [
        f"{_option(name, getattr(selection, name))} {number:,}" for name, number in kept.items()
    ]
    return f"Alone would keep {listed(pieces)}; together nothing is left."


def unfit(
    selection: Selection, views: Sequence[View], skipped: Sequence[Skipped]
) -> tuple[str, ...]:
    """Say of each filter that fits nothing, beside others that do, what `why_none` would.

    Args:
        selection: The filters, which keep some of the matrices.
        views: All matrices of the model.
        skipped: Its tensors that are no matrices.
    """
    return tuple(dict.fromkeys(_unfit(selection, views, skipped)))


def _unfit(
    selection: Selection, views: Sequence[View], skipped: Sequence[Skipped]
) -> Iterator[str]:
    for option in ("include", "exclude"):
        for glob in getattr(selection, option):
            if not any(_named(view, glob) for view in views):
                yield _glob(option, glob, views, skipped)
    for role in selection.roles:
        if not Selection(roles=role).apply(views):
            yield _roles([role], views)
    there = [view.role.layer for view in views if view.role.layer is not None]
    for piece in filter(None, str(selection.layers).split(",")):
        (wanted,) = parse_layers(piece)
        if wanted[-1] > max(there, default=-1) or not set(wanted).intersection(there):
            yield _layers(piece.strip(), views)
    yield from _beside_others(selection, views)


def _beside_others(selection: Selection, views: Sequence[View]) -> Iterator[str]:
    """Say of each filter that fits some which of the others leave nothing of it."""
    told = {name: getattr(selection, name) for name in ("include", "roles", "layers")}
    for name, given in told.items():
        pieces = str(given).split(",") if name == "layers" else given
        others = [_option(one, value) for one, value in told.items() if value and one != name]
        for piece in pieces if len(pieces) > 1 and others else ():
            alone = Selection(**{name: piece}).apply(views)
            if alone and not replace(selection, **{name: piece}).apply(alone):
                yield f"{_option(name, [piece])} keeps none beside {listed(others)}."


def _glob(option: str, glob: str, views: Sequence[View], skipped: Sequence[Skipped]) -> str:
    """Say what a glob that fits no matrix is close to."""
    told = f"--{option} {glob!r} fits none."
    other = next((one for one in skipped if fits(one.tensor, glob)), None)
    if other:
        return f"{told[:-1]}: {quote(other.tensor)} is no matrix ({other.reason})."
    bare = glob.strip("*")
    for wider in dict.fromkeys([f"*{bare}*", f"*{bare.lower()}*", _apart(glob)]):
        number = sum(_named(view, wider) for view in views) if bare else 0
        if number:
            return f"--{option} {glob!r} fits whole names; {wider!r} would fit {number:,}."
    if there := _elsewhere(glob, views) or _elsewhere(_apart(glob), views):
        return f"{told[:-1]}: {there}."
    if "," in bare:
        several = [piece.strip() for piece in glob.split(",")]
        if any(_named(view, piece) for view in views for piece in several):
            each = " ".join(f"--{option} {piece!r}" for piece in several)
            return f"{told[:-1]}: it is one glob. Give them one by one: {each}."
    return told[:-1] + _strange(glob, bare, views)


def _apart(glob: str) -> str:
    """Return a glob that allows for anything between the parts of a name."""
    between = re.sub(r"\.(?=[^\d.*])", ".*", glob.strip("*."))
    return f"*{between}*"


def _strange(glob: str, bare: str, views: Sequence[View]) -> str:
    """Say which parts of a glob are in no name, and the glob that may be meant."""
    known = [piece for piece in dict.fromkeys(p for view in views for p in view.name.split("."))
             if not piece.isdecimal()]  # fmt: skip
    strange = [
        piece
        for piece in dict.fromkeys(re.findall(r"[^.*?\[\],=]+", bare))
        if not piece.isdecimal() and not any(_named(view, f"*{piece}*") for view in views)
    ]
    near = {piece: found for piece in strange if (found := nearest(piece, known, LIKE))}
    meant = "".join(near.get(part, part) for part in re.split(r"([.*?\[\],=])", glob))
    fitting = next((one for one in (meant, f"*{meant.strip('*')}*")
                    if any(_named(view, one) for view in views)), None)  # fmt: skip
    parts = "" if strange in ([], [bare]) else (
        f": {listed([repr(piece) for piece in strange])} {'is' if len(strange) == 1 else 'are'} "
        "in no name"
    )  # fmt: skip
    if near and fitting:
        return f"{parts}. Did you mean {fitting!r}?"
    if near and (there := _elsewhere(meant, views) or _elsewhere(_apart(meant), views)):
        return f"{parts}, {listed([repr(one) for one in near.values()])} is, and {there}."
    offered = f" Did you mean '*{next(iter(near.values()))}*'?" if near else ""
    return f"{parts}.{offered}"


def _elsewhere(glob: str, views: Sequence[View]) -> str:
    """Say which numbers there are in place of one that leaves a glob without any matrix."""
    for wanted in dict.fromkeys(NUMBER.findall(glob)):
        fitting = [
            (view, int(one[0]))
            for view in views
            for name in dict.fromkeys([view.name, view.entry.name])
            for one in NUMBER.finditer(name)
            if fits(f"{name[: one.start()]}{wanted}{name[one.end() :]}", glob)
        ]
        if fitting:
            kinds = [name for name in ("layer", "expert")
                     if all(getattr(view.role, name) == one for view, one in fitting)]  # fmt: skip
            what = f"{kinds[0]}s are" if kinds else "numbers there are"
            return f"{what} {_ranges({number for _, number in fitting})}"
    return ""


NUMBER = re.compile(r"(?<![^.])[0-9]{1,9}(?!\w)")
"""A number that stands alone in a name or glob: of a layer, an expert, a step."""


def _named(view: View, glob: str) -> bool:
    return fits(view.name, glob) or fits(view.entry.name, glob)


def _roles(roles: Sequence[str], views: Iterable[View]) -> str:
    there = in_order(view.role.kind for view in views)
    return f"{_option('roles', roles)}: roles are {listed(there)}."


def _layers(layers: str, views: Iterable[View]) -> str:
    there = {view.role.layer for view in views if view.role.layer is not None}
    told = _option("layers", layers)
    return f"{told}: layers are {_ranges(there)}." if there else f"{told}: none lies in a layer."


def _ranges(numbers: Collection[int]) -> str:
    """Write whole numbers as ranges: `0 to 5 and 11`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return listed([str(low) if low == high else f"{low} to {high}" for low, high in found])


def _option(name: str, given: str | Sequence[str]) -> str:
    """Write a filter as it is typed."""
    option = {"roles": "--role"}.get(name, f"--{name}")
    if isinstance(given, str):
        return f"{option} {given}"
    write = repr if name in ("include", "exclude") else str
    return " ".join(f"{option} {write(one)}" for one in given)
