"""What a matrix is made of, as matrices of their own beside it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from spectra.checkpoint import Adapter, Skipped, TensorEntry
from spectra.checkpoint.codecs.composed import Product
from spectra.checkpoint.factored import factors_of, parts_of, product
from spectra.matrices.part import Part
from spectra.matrices.role import Role, roles_of
from spectra.matrices.view import View, views_of
from spectra.text import natural

LOW_RANK, SPARSE, FACTOR, UPDATE = "low-rank", "sparse", "factor", "update"
"""What a part is called that is such a piece; a part of its own goes before, with a comma."""

PIECES: Final = frozenset((LOW_RANK, SPARSE, FACTOR, UPDATE))

STACK: Final = "its rank and scale hang on the parameter that it updates, which --base tells"
FORMED: Final = "what {} makes of it takes the model that it was trained on: --base"


def is_piece(part: str) -> bool:
    """Say whether a part, as its row has it, is a piece of what has a row too."""
    return part.rpartition(",")[2] in PIECES


def with_pieces(views: Iterable[View], *, factors: bool) -> list[View]:
    """Return matrices with what they are sums of, and where asked for the factors of products."""
    found, told = [], set()
    for view in views:
        found.append(view)
        for entry in parts_of(view.entry):
            kind = LOW_RANK if isinstance(entry.codec, Product) else SPARSE
            found.append(_piece(view, entry, kind))
        if factors and view.entry.name not in told:
            told.add(view.entry.name)
            layer, expert = view.role.layer, view.role.expert
            found += [
                View(one.name, Role("other", layer, expert), one, Part(FACTOR), *one.shape[:2])
                for one in factors_of(view.entry)
            ]
    return sorted(found, key=lambda view: natural(view.name))


def _piece(view: View, entry: TensorEntry, kind: str) -> View:
    label = ",".join(filter(None, (view.part.label, kind)))
    part = replace(view.part, label=label)
    return replace(view, name=entry.name + part.suffix, entry=entry, part=part)


def adapter_views(adapter: Adapter) -> tuple[list[View], list[Skipped]]:
    """Return an adapter's own matrices, and the update scale * B A of each of its modules.

    Returns:
        Them, and with its reason each update that its base alone tells.
    """
    views, skipped = views_of(adapter.weights)
    updates = [*_updates(adapter, skipped)]
    roles = roles_of({entry.name: 2 for entry in updates})
    views += [
        View(f"{one.name}[{UPDATE}]", roles[one.name], one, Part(UPDATE), *one.shape[:2])
        for one in updates
    ]
    return sorted(views, key=lambda view: natural(view.name)), skipped


def _updates(adapter: Adapter, skipped: list[Skipped]) -> Iterator[TensorEntry]:
    for module, own in adapter.factors.items():
        name = f"{module}.weight"
        if own.kind == "parameter" or own.count > 1:
            skipped.append(Skipped(f"{name}[{UPDATE}]", STACK))
            continue
        made = Product(own.b, own.a, own.scale, turned=own.kind == "embedding")
        yield product(name, made, own.shape)
    for module in adapter.updates:
        told = FORMED.format(adapter.method)
        skipped.append(Skipped(f"{module}.weight[{UPDATE}]", told))
