"""What a method other than LoRA stores for one module, and what it makes of the base's weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from spectra.checkpoint.adapter.factors import Kind, LoraFactors
from spectra.checkpoint.codecs.parts import Coded
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor, torch
from spectra.errors import CheckpointError
from spectra.text import quote

if TYPE_CHECKING:
    from spectra.checkpoint.adapter.updates.merges import Made as Merged

HOME = "spectra.checkpoint.adapter.updates"

Form = Literal["products", "wholes", "turns"]
"""The file that makes it: two thin matrices, a whole update, or new values from the base's."""

DRAWN = ("vera", "randlora")
ROUNDED = ("oft", "road", "glora", "glora_bias")
"""Methods whose merges round on the way as `merges` does."""

Shape = tuple[int, int]  # rows and columns; 0: the base alone knows
Sizes = Mapping[str, tuple[int, ...]]  # of stored tensors, by PEFT's names
Told = Mapping[str, Any]


class Held(dict[str, Tensor]):
    """The stored tensors of a module, by PEFT's names."""

    def __init__(self, module: str, found: Mapping[str, Tensor]) -> None:
        """Hold what is there.

        Args:
            module: Whose they are, for messages.
            found: The tensors.
        """
        super().__init__(found)
        self.module = module

    def __missing__(self, part: str) -> Tensor:
        """Refuse a module without a tensor that its method takes.

        Raises:
            CheckpointError: It is asked for.
        """
        raise CheckpointError(
            f"{quote(self.module)} lacks {part}, which its method takes beside "
            f"{', '.join(sorted(self))}. Save the adapter again."
        )


@dataclass(frozen=True, slots=True)
class Update:
    """One module's update, still on disk."""

    module: str  # as the adapter names it
    method: str  # the name of the function that makes it
    form: Form
    parts: tuple[tuple[str, TensorEntry], ...]  # by PEFT's names, those that modules share too
    told: tuple[tuple[str, Any], ...]  # what settings say
    shape: Shape
    rank: int = 0  # columns of the left one of two factors; 0: of full rank
    kind: Kind = "linear"
    bias: bool = False  # it changes the module's bias too

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all parts."""
        return {name: entry.shape for name, entry in self.parts}

    @property
    def drawn(self) -> bool:
        """Say whether it takes random matrices that are not stored: as large as any module."""
        stored = any(name.endswith(("_A", "_B")) for name, _ in self.parts)
        return self.method in DRAWN and not stored

    @property
    def known(self) -> bool:
        """Say whether the weight that it is of is known."""
        return "rows" in dict(self.told)

    def fits(self, rows: int, cols: int) -> bool:
        """Say whether it can be the update of a weight of that size, in canonical orientation."""
        return all(own in (0, size) for own, size in zip(self.shape, (rows, cols), strict=True))

    def of(self, rows: int, cols: int, largest: Shape) -> "Update":
        """Return the update of a weight of the base, now that it is known.

        Args:
            rows: Of the weight, in canonical orientation.
            cols: Likewise.
            largest: Rows and columns that any module of the adapter has.
        """
        told = {**dict(self.told), "rows": rows, "cols": cols, "largest": largest}
        return replace(self, told=tuple(told.items()), shape=(rows, cols))

    def factors(self, inputs: tuple[int, ...] = ()) -> LoraFactors:
        """Return it as factors that are made when they are read; a whole one times ones.

        Args:
            inputs: The shape behind the rank of A, of a convolution; as columns by default.
        """
        rows, cols = self.shape
        rank = self.rank or min(rows, cols)
        right = (rank, *(inputs if prod(inputs) == cols and inputs else (cols,)))
        left = (rows, rank, *(1,) * (len(right) - 2))
        a, b = self._entry("right", right), self._entry("left", left)
        return LoraFactors(self.module, "linear", a, b, rank, 1.0)

    def _entry(self, side: Literal["left", "right"], shape: tuple[int, ...]) -> TensorEntry:
        first = self.parts[0][1]
        dtypes = {entry.dtype for _, entry in self.parts if entry.is_weights}
        dtype = dtypes.pop() if len(dtypes) == 1 else "F32"
        name = f"{self.module}.{self.method}.{side}"
        return replace(first, name=name, dtype=dtype, shape=shape, codec=Made(self.method,
                       self.form, side, self.parts, self.told, shape))  # fmt: skip

    def turned(
        self,
        weight: Tensor,
        read: Callable[[TensorEntry], Tensor],
        beside: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return what it makes of a weight, in float64.

        Args:
            weight: float64, rows = outputs.
            read: Returns a stored tensor.
            beside: What the method takes beside these, by name.
        """
        stored = Held(self.module, {name: read(entry) for name, entry in self.parts})
        stored.update(beside or {})
        try:
            made: Tensor = function(self.form, self.method)(weight, stored, dict(self.told))
        except RuntimeError as error:  # torch's, of shapes
            raise self._misfit(list(weight.shape)) from error
        if made.shape != weight.shape:
            raise self._misfit(list(weight.shape))
        return made

    def merged(
        self,
        weight: Tensor,
        read: Callable[[TensorEntry], Tensor],
        beside: Mapping[str, Tensor] | None = None,
    ) -> "list[Merged]":
        """Return what PEFT's merge makes of a weight in its dtype and in float32; empty: as meant.

        Args:
            weight: As stored, rows = outputs.
            read: Returns a stored tensor.
            beside: What the method takes beside these, by name.
        """
        if self.method not in ROUNDED:
            return []
        from spectra.checkpoint.adapter.updates.merges import MERGES  # noqa: PLC0415 - takes torch

        stored = Held(self.module, {name: read(entry) for name, entry in self.parts})
        stored.update(beside or {})
        made = MERGES[self.method]
        wide = weight if weight.element_size() == 8 else weight.float()
        same = weight.dtype == wide.dtype or self.method == "oft"  # in the adapter's dtype
        each = [wide] if same else [weight, wide]
        return [made(one, stored, dict(self.told)) for one in each]

    def _misfit(self, shape: list[int]) -> CheckpointError:
        return misfit(self.module, self.parts, shape)


@dataclass(frozen=True, slots=True)
class Made(Coded):
    """One of the two factors that a method makes of what it stores."""

    method: str
    form: Form
    side: Literal["left", "right"]
    stored: tuple[tuple[str, TensorEntry], ...]
    told: tuple[tuple[str, Any], ...]
    shape: tuple[int, ...]
    bits: int = 0

    @property
    def name(self) -> str:
        """The method's."""
        return self.method

    @property
    def parts(self) -> tuple[TensorEntry, ...]:
        """Every stored tensor."""
        return tuple(entry for _, entry in self.stored)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab, in float32 or float64."""
        rows, cols = dict(self.told)["rows"], dict(self.told)["cols"]
        if self.form == "wholes" and (self.side == "left") != (rows >= cols):
            values = torch.eye(min(rows, cols))
        else:
            first = self.stored[0][1].name
            stored = Held(first, {name: _wide(read(entry, None)) for name, entry in self.stored})
            try:
                made = function(self.form, self.method)(stored, dict(self.told))
            except (RuntimeError, IndexError) as error:  # torch's, of shapes and places
                raise misfit("", self.stored, [rows, cols]) from error
            values = made if self.form == "wholes" else made[self.side == "right"]
        if values.numel() != prod(self.shape):
            raise misfit("", self.stored, [rows, cols])
        values = values.reshape(self.shape).contiguous()
        return values if slab is None else values[slab[0] : slab[1]]


def _wide(values: Tensor) -> Tensor:
    narrow = values.is_floating_point() and values.element_size() < 4
    return values.float() if narrow else values


def misfit(
    module: str, parts: tuple[tuple[str, TensorEntry], ...], shape: list[int]
) -> CheckpointError:
    """Return the error for tensors that make no update of a weight."""
    held = ", ".join(f"{name} {list(entry.shape)}" for name, entry in parts)
    own = quote(module or parts[0][1].name)
    return CheckpointError(
        f"{own} has {held}, which make no update of a weight {shape}. Save the adapter again, or "
        "give the base it was trained on."
    )


def function(form: Form, method: str) -> Callable[..., Any]:
    """Return what makes an update."""
    found: Callable[..., Any] = getattr(import_module(f"{HOME}.{form}"), method)
    return found
