"""A merged model against its base plus the adapter it should hold: how often that was added."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, sqrt

import torch
from torch import Tensor

from spectra.checkpoint import Checkpoint
from spectra.engine import Plan, plan_pair
from spectra.engine.changes import Replaced
from spectra.engine.load import Loader
from spectra.gate.reading import Reading
from spectra.matrices import Pair, Selection
from spectra.matrices.pair import widened

BLOCK = 1 << 21  # entries whose products are summed at once


@dataclass(frozen=True, slots=True)
class Merge:
    """Base, adapter and merged model, matrix by matrix."""

    meant: Plan  # of the base and the adapter
    model: Checkpoint
    found: Mapping[str, Replaced] = field(repr=False)  # in the model, by the base's matrix

    def measure(self, device: str = "cpu") -> dict[str, dict[str, float]]:
        """Return by matrix of the model how the change compares with the adapter's.

        `merge_scale` is the factor c that makes c U closest to D, with U the adapter's update at
        its own scale and D the merged model less the base: <D, U> / <U, U>, 1 for a right merge.
        `merge_rest` is what of D is no multiple of U, as a share of D: ||D - c U|| / ||D||. Both
        are null where the adapter changes nothing.

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

    def _scale(self, meant: Pair, change: Replaced, device: str) -> dict[str, float]:
        """Compare one matrix."""
        stored = self.model.read(change.entry, change.slab).to(device)
        tuned = widened(change.parts[meant.view.name].within(stored))
        update = meant.delta()
        delta = tuned - widened(meant.base)
        inner, size, whole = products(delta, update)
        if not size or not isfinite(inner):
            return {}
        scale = inner / size
        rest = max(whole - scale * inner, 0.0)
        return {"merge_scale": scale, "merge_rest": sqrt(rest / whole) if whole else 0.0}


def products(delta: Tensor, update: Tensor) -> tuple[float, float, float]:
    """Return <D, U>, <U, U> and <D, D>, some rows at a time in float64."""
    sums = torch.zeros(3, dtype=torch.float64)
    step = max(1, BLOCK // max(delta.shape[1], 1))
    for d, u in zip(delta.split(step), update.split(step), strict=True):
        one, other = d.double(), u.double()
        sums += torch.stack([(one * other).sum(), other.square().sum(), one.square().sum()]).cpu()
    inner, size, whole = sums.tolist()
    return inner, size, whole


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
    return Merge(meant, tuned.weights, found)
