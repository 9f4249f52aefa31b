"""An adapter: which modules it changes, by which factors, rows and whole tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from spectra.checkpoint.adapter.factors import LoraFactors
from spectra.checkpoint.adapter.updates.update import Update
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.text import shown

Naming = Literal["dotted", "parts", "flat", "gguf"]
"""How an adapter names modules of its base: as it does; after the part of a pipeline that they
are in (`unet.`); with underscores for dots; or as GGUF does."""


Changed = LoraFactors | Update
"""What an adapter stores for a module: factors, or what another method makes a change of."""


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows of an embedding that are replaced."""

    indices: tuple[int, ...]
    entry: TensorEntry  # one row each


@dataclass(frozen=True, slots=True, repr=False)
class Adapter:
    """Headers of one adapter; its factors stay on disk until read."""

    weights: Checkpoint
    factors: Mapping[str, LoraFactors]  # by module; wrappers of its parameters add `.base_layer`
    saved: Mapping[str, TensorEntry]  # whole tensors stored beside the factors, by name
    config: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[Skipped] = ()  # tensors of the weights that are none of the adapter
    rows: Mapping[str, NewRows] = field(default_factory=dict)  # by module
    coat: str = "PEFT"  # whose way of writing it is, for messages
    naming: Naming = "dotted"
    assumed: str = ""  # what a file that lacks it should have said of the scale, in a sentence
    updates: Mapping[str, Update] = field(default_factory=dict)  # by module, of other methods
    method: str = "LoRA"
    contradictions: Mapping[str, str] = field(default_factory=dict)
    """By module, what its settings say otherwise than its tensors, in a sentence."""

    def __repr__(self) -> str:
        """Say what it is; all that it holds would fill pages."""
        return f"<Adapter {shown(self.spec)}: {self.coat}, on {len(self.modules):,} modules>"

    @property
    def modules(self) -> Mapping[str, Changed]:
        """Everything that changes a weight, by module."""
        return {**self.factors, **self.updates}

    @property
    def untold(self) -> tuple[Skipped, ...]:
        """Modules that it changes in a way that is not read, and why."""
        return tuple(item for item in self.beside if item.tensor not in self.weights.entries)

    @property
    def noun(self) -> str:
        """What it is, in words."""
        return "a LoRA adapter" if self.method == "LoRA" else f"an adapter ({self.method})"

    @property
    def spec(self) -> str:
        """How it was asked for."""
        return self.weights.spec

    @property
    def resolved(self) -> str:
        """Where it was found."""
        return self.weights.resolved

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Tensors that take no part, and why."""
        return (*self.weights.skipped, *self.beside)
