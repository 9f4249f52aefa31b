"""A tiny model, and its matrices as we read them back from its file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spectra.checkpoint import Checkpoint, open_spec
from spectra.matrices.view import View, views_of

FORMATS = pytest.mark.parametrize("original", [True, False], ids=["as_published", "as_in_memory"])
"""transformers 5 renames and fuses on loading, and undoes it on saving unless told not to."""


@dataclass
class Saved:
    """A model in memory, and what we see of it on disk."""

    model: Any  # a PreTrainedModel; its modules differ by family
    checkpoint: Checkpoint
    views: list[View]

    def values(self, view: View) -> Tensor:
        """Return one matrix."""
        return view.of(self.checkpoint.read(view.entry))

    def find(
        self, kind: str, layer: int | None = 1, expert: int | None = None, within: str = ""
    ) -> Tensor:
        """Return the one matrix with this role whose name contains `within`."""
        place = (kind, layer, expert)
        found = [
            view
            for view in self.views
            if (view.role.kind, view.role.layer, view.role.expert) == place and within in view.name
        ]
        assert len(found) == 1, f"{place} is in {[view.name for view in found]}, expected one"
        return self.values(found[0])


Save = Callable[..., Saved]


def save(model: Any, folder: Path, *, original: bool) -> Saved:  # noqa: ANN401 - see Saved
    """Let transformers write the model, and open what it wrote."""
    model.save_pretrained(folder, save_original_format=original)
    checkpoint = open_spec(folder)
    assert isinstance(checkpoint, Checkpoint)
    return Saved(model, checkpoint, views_of(checkpoint)[0])


def close(actual: Tensor, expected: Tensor) -> None:
    """Compare what two orders of the same float32 operations gave."""
    assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def same_direction(actual: Tensor, expected: Tensor) -> None:
    """Compare up to a positive factor: some models fold the softmax's scale into q or k."""
    unit = torch.nn.functional.normalize
    close(unit(actual), unit(expected))
