"""What became of each matrix of a parameter, however the tuned model's files hold it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.lowrank.homes import homes_of
from spectra.lowrank.parameters import LOST, Matrix, Parameter, changed_shape, parameters_of
from spectra.matrices import View


@dataclass(frozen=True, slots=True)
class Counterpart:
    """One matrix of a parameter in the tuned model."""

    matrix: Matrix
    entries: Sequence[TensorEntry]  # of its pieces
    unfit: str = ""  # why it is none


@dataclass(slots=True)
class Counterparts:
    """A tuned model, beside the base of a fine-tune."""

    tuned: Checkpoint
    partners: Mapping[str, str]  # its names by those of the base
    held: Mapping[str, Sequence[View]]  # its matrices by tensor
    used: set[str] = field(default_factory=set)  # tensors that have other names in the base
    _made: Mapping[str, Parameter | str] | None = None

    def of(self, one: Parameter, number: int) -> Counterpart:
        """Return what became of a matrix.

        Args:
            one: A parameter of the base.
            number: Which of its matrices.
        """
        matrix = one.matrices[number]
        found = [self.held.get(self.partners.get(piece.entry.name, "")) for piece in matrix.pieces]
        entries = [views[0].entry for views in found if views]
        if len(entries) < len(found):
            return self._elsewhere(one, number)
        pairs = [(piece.entry, other) for piece, other in zip(matrix.pieces, entries, strict=True)]
        odd = next((pair for pair in pairs if pair[0].shape != pair[1].shape), None)
        return Counterpart(matrix, entries, f"not held: {changed_shape(*odd)}" if odd else "")

    def _elsewhere(self, one: Parameter, number: int) -> Counterpart:
        """Find a bare matrix by its name in memory: one file has stacks, another has experts."""
        lost = Counterpart(one.matrices[number], (), LOST)
        if not one.bare:
            return lost
        if self._made is None:
            self._made = parameters_of(homes_of(self.tuned), self.held)
        own = f".{one.name}"
        names = (
            name for name in self._made if f".{name}".endswith(own) or own.endswith(f".{name}")
        )
        other = self._made.get(next(names, ""))
        if not isinstance(other, Parameter) or len(other.matrices) != len(one.matrices):
            return lost
        matrix = other.matrices[number]
        entries = [piece.entry for piece in matrix.pieces]
        self.used |= {entry.name for entry in entries}
        return Counterpart(matrix, entries, "" if other.shape == one.shape else LOST)
