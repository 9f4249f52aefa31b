"""The models of a check by the texts that a policy has for them, also those opened before."""

from collections.abc import Callable
from dataclasses import dataclass, field

from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.damaged import Survey, open_damaged, survey_of
from spectra.errors import UsageError
from spectra.runs.opening import Spec
from spectra.text import shown


@dataclass(frozen=True, slots=True)
class References:
    """What was opened before, by what it was opened from."""

    opener: Callable[[str], Survey] = open_damaged
    known: dict[str, Checkpoint | Adapter] = field(default_factory=dict)

    def named(self, spec: Spec | None) -> str | None:
        """Return a reference as text, and keep what was opened.

        Raises:
            UsageError: The same text was opened twice, so perhaps not alike.
        """
        if not isinstance(spec, Checkpoint | Adapter):
            return None if spec is None else str(spec)
        if self.known.setdefault(spec.spec, spec) is not spec:
            raise UsageError(
                f"{shown(spec.spec)} was opened twice. Give the one that was opened first."
            )
        return spec.spec

    def opened(self, spec: str) -> Survey:
        """Return what was opened, or open it as far as it is whole.

        Raises:
            CheckpointError: Nothing is there, or nothing of it is whole.
        """
        return survey_of(self.known[spec]) if spec in self.known else self.opener(spec)
