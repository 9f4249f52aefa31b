"""What `spectra report MODEL` does: every analysis that a page is made of, one after another."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectra.policy.given import policy_in_force
from spectra.portrait import steps
from spectra.report.saved import Saved
from spectra.runs.engine import Where

from .reporting import Asked
from .run import settle_memory
from .terminal import note, progress_bar, warn


@dataclass(frozen=True, slots=True)
class Portrait:
    """A model, and how it is measured."""

    model: str
    asked: Asked

    def measured(self) -> list[Saved]:
        """Run every analysis; where each would be saved stands for its file.

        Raises:
            SpectraError: A model cannot be read, or nothing in it can be analysed.
        """
        device, quiet = self.asked.device, self.asked.quiet
        policy = policy_in_force(self.asked.policy)
        Where().require(device)
        settle_memory()
        asked = self.asked
        parts = list(steps(self.model, asked.base, policy, warn, tokens=asked.tokens))
        found, warned = [], dict[str, None]()
        for place, (name, told, plan) in enumerate(parts, 1):
            note(f"{place} of {len(parts)}: {told}", quiet=quiet)
            planned = replace(plan(), device=device, cache=self.asked.cache, tell=warned.setdefault)
            with progress_bar(quiet=quiet) as report:
                document: dict[str, Any] = planned.run(report).document()
            found.append(Saved(Path(f"{name}.json"), document))
        for text in warned:
            warn(text)
        return found
