"""A way that a LoRA is written in, and what it takes of a module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from spectra.writing.tensors import Slot

Kind = Literal["linear", "embedding"]


@dataclass(frozen=True, slots=True)
class Worn:
    """One module as it is written: factors at a scale that the coat tells."""

    name: str  # as the coat has it
    rank: int
    kind: Kind = "linear"
    told: float = 1.0  # the scale that the factors have yet to be multiplied by
    axes: int = 2  # of the weight
    lengths: bool = False  # DoRA gives each output one
    experts: int = 0  # of a stack


@dataclass(frozen=True, slots=True)
class Names:
    """The tensors of one module."""

    a: str
    b: str
    turned: tuple[bool, bool] = (False, False)  # which of them lies the other way round


class Coat(Protocol):
    """One way."""

    word: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """Of its file; empty: a folder of several."""
    one_rank: ClassVar[bool]
    """All modules have the same; those of fewer directions are filled up with zeros."""
    stacks: ClassVar[Literal["", "memory", "each"]]
    """Of experts: none, as in memory, or gate, up and down each by itself."""

    def names(self, module: Worn) -> Names:
        """Return what a module's factors are called."""

    def beside(self, module: Worn) -> dict[str, Slot]:
        """Return what goes with the factors of a module."""

    def lengths(self, module: str, count: int, axes: int) -> tuple[str, tuple[int, ...]]:
        """Return what DoRA's lengths of a module are called, and their shape."""

    def refused(self, module: Worn) -> str:
        """Say why a module cannot be written so; empty where it can."""

    def settings(self, modules: Sequence[Worn], config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the settings say; `config` is what PEFT's would."""

    def write(
        self, place: Path, slots: Mapping[str, Slot], settings: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> int:  # fmt: skip
        """Write into a folder that is there, or a file, and return its size in bytes."""
