"""The beginnings of modules' names, in which adapters of one base may differ: `bert.encoder`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from spectra.checkpoint import Checkpoint
from spectra.errors import AdapterError
from spectra.lowrank.sources import Source
from spectra.matrices.layers import place_in
from spectra.text import listed, quote, shown
from spectra.work.planning.placing import place_modules
from spectra.writing.peft import PREFIX


@dataclass(frozen=True, slots=True)
class Shift:
    """What makes one adapter's names of another's."""

    added: str = ""  # in front, with a dot behind it
    dropped: str = ""  # likewise
    known: Mapping[str, str] = field(default_factory=dict)  # names that the base tells one by one

    def of(self, name: str) -> str:
        """Return the name of a module, or of a tensor in it."""
        return self.known.get(name, self.added + name.removeprefix(self.dropped))

    def stored(self, name: str) -> str:
        """Return the name of a tensor in a file."""
        inner = name.removeprefix(PREFIX)
        return (PREFIX if inner != name else "") + self.of(inner)


@dataclass(frozen=True, slots=True)
class Named:
    """An adapter among several, and how its names become those of the first."""

    source: Source
    shift: Shift = Shift()


def named_alike(sources: Sequence[Source], base: Checkpoint | None) -> list[Named]:
    """Return adapters with the names of modules that the first has, where only beginnings differ.

    Args:
        sources: They have no stacks of experts where they differ.
        base: Tells whose tensors modules are; None: that their layers' names end alike has to do.

    Raises:
        AdapterError: Several beginnings may be meant.
    """
    first, *others = sources
    return [Named(first), *(_named(first, other, base) for other in others)]


def _named(first: Source, other: Source, base: Checkpoint | None) -> Named:
    if not {*first.factors, *first.stacks}.isdisjoint({*other.factors, *other.stacks}):
        return Named(other)
    shift = (_by_base(base, first, other) if base is not None else None) or _by_layers(first, other)
    if shift is None:
        return Named(other)
    if first.stacks or other.stacks:
        raise AdapterError(
            f"{_differ(first, other)}, and hold stacks of experts, which are not renamed. Save one "
            "of them again on the other's class of model."
        )
    names = {name: shift.of(name) for name in {*other.factors, *other.names}}
    told = (f"{shown(other.adapter.spec)} begins the names of modules otherwise, and gets those of "
            f"{shown(first.adapter.spec)}: {_told(names)}")  # fmt: skip
    renamed = replace(
        other,
        factors={names[name]: own for name, own in other.factors.items()},
        names={names[name]: replace(home, name=shift.of(home.name))
               for name, home in other.names.items()},
        turned={names.get(name, name): own for name, own in other.turned.items()},
        whole=frozenset(names.get(name, name) for name in other.whole),
        notes=(*other.notes, told),
    )  # fmt: skip
    return Named(renamed, shift)


def _told(names: Mapping[str, str]) -> str:
    old = min(names)
    return f"{quote(old)} is {quote(names[old])}"


def _by_base(base: Checkpoint, first: Source, other: Source) -> Shift | None:
    """Return what tells names from the base's tensors; None where no tensor is both's."""
    homes = [
        {tensor: key for tensor, (key, rows) in place_modules(base, one.adapter).tensors.items()
         if rows is None and key in one.factors}
        for one in (first, other)
    ]  # fmt: skip
    known = {key: homes[0][tensor] for tensor, key in homes[1].items() if tensor in homes[0]}
    if not known:
        return None
    shifts = {_shift(new, old) for old, new in known.items()}
    found = shifts.pop() if len(shifts) == 1 else None
    added, dropped = found or ("", "")
    return Shift(added, dropped, known)


def _by_layers(first: Source, other: Source) -> Shift | None:
    """Return what the names of the layers differ by, where one ends with the other.

    Raises:
        AdapterError: Several do.
    """
    one, two = (
        {place.stack for name in source.factors if (place := place_in(f"{name}.weight"))}
        for source in (first, other)
    )
    shifts = {found for new in one for old in two if (found := _shift(new, old))}
    if len(shifts) > 1:
        several = listed([quote(added or dropped) for added, dropped in sorted(shifts)])
        raise AdapterError(
            f"{_differ(first, other)} ({several}), and which modules are the same is not known. "
            "Expected --base and the model they were trained on."
        )
    if not shifts:
        return None
    shift = Shift(*shifts.pop())
    same = {name: new for name in other.factors if (new := shift.of(name)) in first.factors}
    sizes = all(first.factors[new].shape == other.factors[old].shape for old, new in same.items())
    return shift if sizes else None


def _shift(new: str, old: str) -> tuple[str, str] | None:
    """Return what is put before a name, and what is taken away; None where neither does."""
    if new.endswith(f".{old}"):
        return new.removesuffix(old), ""
    return ("", old.removesuffix(new)) if old.endswith(f".{new}") else None


def _differ(first: Source, other: Source) -> str:
    one, two = (min([*source.factors, *source.stacks]) for source in (first, other))
    return (f"{shown(first.adapter.spec)} and {shown(other.adapter.spec)} have no module in "
            f"common: their names begin otherwise, {quote(one)} and {quote(two)}")  # fmt: skip
