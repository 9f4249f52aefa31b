"""What `spectra report MODEL` does: every analysis that a page is made of, one after another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import spectra
from spectra.checkpoint import Adapter
from spectra.errors import CheckpointError, UsageError
from spectra.gate import plan_check
from spectra.policy.given import Options, changed, policy_in_force
from spectra.report.saved import Saved
from spectra.runs.planned import Planned
from spectra.work.device import chosen_device

from .run import settle_memory
from .terminal import note, progress_bar


@dataclass(frozen=True, slots=True)
class Portrait:
    """A model, and what it was trained from."""

    model: str
    base: str | None
    device: str = "auto"
    quiet: bool = False

    def measured(self) -> list[Saved]:
        """Run every analysis; where each would be saved stands for its file.

        Raises:
            SpectraError: A model cannot be read, or nothing in it can be analysed.
        """
        chosen_device(self.device)
        settle_memory()
        steps = list(self._steps())
        found = []
        for place, (name, told, plan) in enumerate(steps, 1):
            note(f"{place} of {len(steps)}: {told}", quiet=self.quiet)
            planned = replace(plan(), device=self.device)
            with progress_bar(quiet=self.quiet) as report:
                document: dict[str, Any] = planned.run(report).document()
            found.append(Saved(Path(f"{name}.json"), document))
        return found

    def _steps(self) -> Iterator[tuple[str, str, Callable[[], Planned]]]:
        """Yield names, what is told, and plans: models are opened before anything is measured."""
        policy = changed(policy_in_force(None), Options(base=self.base))
        check = plan_check(self.model, policy)  # also of one that is damaged
        try:
            model = spectra.open(self.model)
        except CheckpointError as error:
            yield "check", f"check of {self.model}", lambda: Planned(check)
            note(f"warning: {error} The report holds the check alone.")
            return
        if isinstance(model, Adapter) and self.base is None:
            raise UsageError(
                f"{self.model} is an adapter, which says little without its base. Give it: "
                f"spectra report {self.model} --base BASE."
            )
        yield "check", f"check of {self.model}", lambda: Planned(check)
        base = None
        if self.base is not None:
            base = spectra.open(self.base)
            pair = spectra.diff.plan(base, model, intruders=True)
            yield "diff", f"diff of {self.base} and {self.model}", lambda: pair
            start = spectra.spectrum.plan(base)
            yield "base-spectrum", f"spectrum of {self.base}", lambda: start
        of_base = base if isinstance(model, Adapter) else None
        spectrum = spectra.spectrum.plan(model, base=of_base)
        yield "spectrum", f"spectrum of {self.model}", lambda: spectrum
