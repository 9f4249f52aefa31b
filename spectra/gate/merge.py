"""A merged model against its base plus the adapter it should hold: how often that was added."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from spectra.checkpoint import Checkpoint
from spectra.gate.reading import Reading
from spectra.kernels.merged import Store, added
from spectra.kernels.rounding import STORED, grid_of, half_steps
from spectra.matrices import Pair, Selection
from spectra.matrices.pair import widened
from spectra.text import counted, quote
from spectra.work import Plan, plan_pair
from spectra.work.load import Loader
from spectra.work.planning.changes import Replaced


@dataclass(frozen=True, slots=True)
class Merge:
    """Base, adapter and merged model, matrix by matrix."""

    meant: Plan  # of the base and the adapter
    model: Checkpoint
    found: Mapping[str, Replaced] = field(repr=False)  # in the model, by the base's matrix
    lacking: tuple[str, ...] = ()  # matrices of the base that it changes and the model lacks

    def text(self) -> str:
        """Say what of the adapter is not looked for in the model; empty where all is."""
        told = [self.meant.warning]
        if self.lacking:
            count = len(self.found) + len(self.lacking)
            told.append(
                f"{len(self.lacking):,} of {counted(count, 'matrix', 'matrices')} that the adapter "
                f"changes found no partner in the merged model, such as {quote(self.lacking[0])}."
            )
        return " ".join(text for text in told if text)

    def measure(self, device: str = "cpu") -> dict[str, dict[str, float | None]]:
        """Return by matrix of the model how the change compares with the adapter's.

        `merge_scale` is the factor c for which storing the base plus c U gives the model, with U
        the adapter's update at its own scale: 1 for a right merge, null where U lies below the
        rounding of the stored values. `merge_rest` is what of the change is neither that nor
        rounding, as a share. Neither is there where the adapter changes nothing.

        Raises:
            CheckpointError: A file ended early or cannot be read.
        """
        loader = Loader(self.meant)
        measured = {}
        for step in self.meant.steps:
            loaded = loader.load(step)
            for view in step.views:
                if view.name in self.found:
                    subject = loaded.subject(view, device)
                    assert isinstance(subject, Pair)  # noqa: S101 - the plan is one of pairs
                    change = self.found[view.name]
                    name = change.entry.name + change.parts[view.name].suffix
                    measured[name] = self._scale(subject, change, device)
            del loaded
        return measured

    def _scale(self, meant: Pair, change: Replaced, device: str) -> dict[str, float | None]:
        """Compare one matrix."""
        stored = self.model.read(change.entry, change.slab).to(device)
        part = change.parts[meant.view.name]
        tuned, base, update = widened(part.within(stored)), widened(meant.base), meant.delta()
        wide = torch.promote_types(torch.promote_types(tuned.dtype, base.dtype), update.dtype)
        tuned, base, update = tuned.to(wide), base.to(wide), update.to(wide)
        steps = self.model.rounding(change.entry, stored, change.slab)
        if steps is not None:
            store = Store(None, part.within(steps.to(device)).to(wide))
        else:
            own = STORED[stored.dtype]
            grid = grid_of(tuned, own)
            store = Store(grid.rounded, half_steps(tuned, grid, own))
        found = added(base, tuned, update, store)
        if found.scale is None and not bool(update.any()):
            return {}
        return {"merge_scale": found.scale, "merge_rest": found.rest if found.scale else None}


def plan_merge(base: Reading, tuned: Reading, adapter: Reading) -> Merge:
    """Plan the comparison of a merged model with what its adapter means.

    Raises:
        PairingError: The adapter or the model does not belong to the base.
    """
    meant = plan_pair(base.weights, adapter.survey.checkpoint, Selection(), lenient=True)
    pairs = plan_pair(base.weights, tuned.weights, Selection(), lenient=True)
    changed = {view.name for step in meant.steps if step.change for view in step.views}
    found = {
        view.name: step.change
        for step in pairs.steps
        if isinstance(step.change, Replaced)
        for view in step.views
        if view.name in changed
    }
    return Merge(meant, tuned.weights, found, tuple(sorted(changed - found.keys())))
