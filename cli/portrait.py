"""What `spectra report MODEL` does: every analysis that a page is made of, one after another."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectra.policy.given import policy_in_force
from spectra.portrait import steps
from spectra.report.saved import Saved
from spectra.work.device import chosen_device

from .run import settle_memory
from .terminal import note, progress_bar, warn


@dataclass(frozen=True, slots=True)
class Portrait:
    """A model, and what it was trained from."""

    model: str
    base: str | None
    device: str = "auto"
    quiet: bool = False
    cache: bool = True

    def measured(self) -> list[Saved]:
        """Run every analysis; where each would be saved stands for its file.

        Raises:
            SpectraError: A model cannot be read, or nothing in it can be analysed.
        """
        chosen_device(self.device)
        settle_memory()
        parts = list(steps(self.model, self.base, policy_in_force(None), warn))
        found, warned = [], dict[str, None]()
        for place, (name, told, plan) in enumerate(parts, 1):
            note(f"{place} of {len(parts)}: {told}", quiet=self.quiet)
            planned = replace(plan(), device=self.device, cache=self.cache, tell=warned.setdefault)
            with progress_bar(quiet=self.quiet) as report:
                document: dict[str, Any] = planned.run(report).document()
            found.append(Saved(Path(f"{name}.json"), document))
        for text in warned:
            warn(text)
        return found
