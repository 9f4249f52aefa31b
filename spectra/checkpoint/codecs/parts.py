"""The stored parts of one quantised weight, found by the endings of their names."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields

from spectra.checkpoint.codecs.settings import Settings
from spectra.checkpoint.entry import MLX, Codec, TensorEntry
from spectra.deferred import Tensor
from spectra.errors import CorruptError
from spectra.text import quote

Shape = tuple[int, ...]

FLOAT8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
SCALES = frozenset({"F32", "F16", "BF16"})


class Coded:
    """What codecs are whose fields are their stored parts, the one with the weights first."""

    __slots__ = ()
    bits: int
    """Of one code of the first part, along whose last axis they follow each other without gaps;
    0 where the stored values are the values, or where a step is not known."""

    @property
    def parts(self) -> tuple[TensorEntry, ...]:
        """Every stored part."""
        values = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return tuple(value for value in values if isinstance(value, TensorEntry))

    def nudge(self, main: Tensor) -> "Tensor | None":
        """Return the first part, or a slab of it, with the lowest bit of each code turned."""
        if not self.bits:
            return None
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        return numbers.flip_lowest(main, self.bits)


class MisfitError(Exception):
    """Parts that make no weight, or a scheme that is not read; the text is a skip's reason."""


@dataclass(frozen=True, slots=True)
class Found:
    """One weight's parts, before anything is checked."""

    name: str  # of the weight in the model
    main: TensorEntry  # the part with the weights
    others: Mapping[str, TensorEntry]  # by the ending of their names
    settings: Settings
    early: Mapping[str, bytes]  # the bytes of small parts read at once, by tensor
    bias: TensorEntry | None = None  # of the same module, which has as many entries as rows

    def need(
        self, ending: str, dtypes: frozenset[str] | None = None, *shapes: Shape
    ) -> TensorEntry:
        """Return a part that must be there.

        Args:
            ending: Of its name.
            dtypes: Those that it may have; None: any.
            *shapes: Those that it may have; none: any that is not empty.

        Raises:
            MisfitError: It is missing, empty, or of another dtype or shape.
        """
        part = self.others.get(ending)
        if part is None:
            raise MisfitError(f"{ending.lstrip('._')} is missing")
        fits = part.shape in shapes if shapes else part.numel > 0
        if not fits or (dtypes is not None and part.dtype not in dtypes):
            kinds = " or ".join(sorted(dtypes)) if dtypes else ""
            forms = " or ".join(str(list(shape)) for shape in shapes[:3])
            raise MisfitError(
                f"{ending.lstrip('._')} is {part.dtype} {list(part.shape)}, expected "
                f"{' '.join(filter(None, (kinds, forms))) or 'values'}"
            )
        return part

    def matrix(self, dtypes: frozenset[str], axes: tuple[int, ...] = (2,)) -> Shape:
        """Return the shape of the part with the weights.

        Raises:
            MisfitError: It is empty, or of another dtype or number of axes.
        """
        shape = self.main.shape
        if self.main.dtype not in dtypes or len(shape) not in axes or not self.main.numel:
            raise MisfitError(
                f"the weights are {self.main.dtype} {list(shape)}, expected "
                f"{' or '.join(sorted(dtypes))} in {' or '.join(map(str, axes))} dimensions"
            )
        return shape

    def whole(self, shape: Shape, codec: Codec) -> TensorEntry:
        """Return the weight as one tensor."""
        main = self.main
        return TensorEntry(self.name, main.dtype, shape, main.shard, main.start, main.stop, codec)


def nothing(_found: Found) -> Sequence[TensorEntry]:
    """Say that headers tell all."""
    return ()


@dataclass(frozen=True, slots=True)
class Family:
    """How the parts of one way to store a weight are named, and what puts them together."""

    main: str  # the ending of the part with the weights
    weight: str  # the ending of the weight's own name, in place of `main`
    others: tuple[str, ...]  # the endings of the other parts, in place of `main`
    make: Callable[[Found], TensorEntry]
    needs: tuple[str, ...] = ()  # one of these must be there; none: `main` tells enough
    dtypes: frozenset[str] = frozenset()  # of the part with the weights; none: any
    early: Callable[[Found], Sequence[TensorEntry]] = nothing  # parts that `make` must read
    noted: bool = False  # the file's metadata may say what it is in place of `needs`

    def may_be_in(self, tails: Collection[str], dtypes: Set[str], notes: Set[str]) -> bool:
        """Say whether a model with these tails, dtypes and notes may hold such weights at all."""
        if self.dtypes and not self.dtypes & dtypes:
            return False
        if self.noted and notes - {"", MLX}:
            return True
        endings = self.needs or (self.main,)
        return any(tail.endswith(endings) for tail in tails)

    def find(
        self, entry: TensorEntry, entries: Mapping[str, TensorEntry], settings: Settings
    ) -> Found | None:
        """Return the parts of the weight that this entry is the main part of, if it is."""
        if self.dtypes and entry.dtype not in self.dtypes:
            return None
        if not entry.name.endswith(self.main):
            return None
        stem = entry.name[: len(entry.name) - len(self.main)]
        told = self.noted and entry.note not in {"", MLX}
        if self.needs and not told and not any(stem + end in entries for end in self.needs):
            return None
        others = {
            ending: entries[stem + ending] for ending in self.others if stem + ending in entries
        }
        bias = entries.get(stem + "bias")
        return Found(stem + self.weight, entry, others, settings, {}, bias)


def tails_of(names: Iterable[str]) -> frozenset[str]:
    """Return how names end, from the last dot but one on: few, however many names there are."""
    return frozenset(f".{'.'.join(name.rsplit('.', 2)[-2:])}" for name in names)


def corrupt(entry: TensorEntry, got: str, expected: str) -> CorruptError:
    """Return the error for a part whose values cannot be meant."""
    return CorruptError(
        f"tensor {quote(entry.name)} of {entry.shard} holds {got}, expected {expected}. "
        "Fetch that file again, or leave it out."
    )
