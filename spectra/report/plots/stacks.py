"""Columns of a picture of heads: layers, or modules of attention where several share a layer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from spectra.analyzers.heads_reading import ACROSS, stack_of

MOST = 24  # names of columns that there is room for


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each module stands, what columns are called, and their axis."""

    places: Mapping[str, int]  # by module
    names: Sequence[str]
    axis: str = "layer (index)"
    note: str = ""

    @property
    def noun(self) -> str:
        """What one is."""
        return self.axis.partition(" ")[0]

    def label(self, axes: Axes, shift: float, *, upright: bool = False) -> None:
        """Name the columns along x, and with `upright` along y too, every few where many are."""
        step = -(-len(self.names) // (MOST // 3 if upright else MOST))
        some = range(0, len(self.names), step)
        at, names = np.array(some) + shift, [self.names[i] for i in some]
        axes.set_xticks(at, names)
        if upright:
            axes.set_yticks(at, names)


def columns_of(modules: Iterable[tuple[str, int | None]]) -> Columns:
    """Return a column a layer; where two modules are of one layer, a column a module.

    An encoder stands before its decoder.

    Args:
        modules: Their names and layers.
    """
    layers = dict(modules)
    known = [layer for layer in layers.values() if layer is not None]
    if len({*known}) == len(layers):
        count = 1 + max(known, default=0)
        return Columns({name: layer for name, layer in layers.items() if layer is not None},
                       [str(layer) for layer in range(count)])  # fmt: skip

    def order(name: str) -> tuple[bool, str, int, bool]:
        stack, across = stack_of(name), bool(ACROSS.search(name))
        return stack == "decoder", stack, layers[name] or 0, across

    found = sorted(layers, key=order)
    names = []
    for name in found:
        own = "" if layers[name] is None else str(layers[name])
        names.append(f"{stack_of(name)[:1]}{own}{'×' * bool(ACROSS.search(name))}")
    words = sorted({stack_of(name) for name in found} - {""})
    told = [f"{word[:1]}: {word}" for word in words]
    told += ["×: attends across"] if any(map(ACROSS.search, found)) else []
    note = f"Of the columns {', '.join(told)}." if told else ""
    return Columns({name: at for at, name in enumerate(found)}, names, "module of attention", note)
