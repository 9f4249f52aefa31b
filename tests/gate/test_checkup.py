"""What a check measures of one matrix and its references, and what that costs."""

from typing import Any

import torch

from analyzers.subjects import matrix_of, pair_of, view_of
from spectra.analyzers import Diff, Spectrum
from spectra.analyzers.soundness import Soundness
from spectra.gate.checkup import Checkup
from spectra.kernels.gaussian import kappa_null
from spectra.matrices import Matrix, Pair

VIEW = view_of("layers.0.q_proj.weight", 40, 30)


def test_cost_and_memory_are_of_what_is_asked() -> None:
    sound, full, diff = Soundness(), Spectrum(), Diff()
    alone, beside = (VIEW,), (VIEW, VIEW)
    assert Checkup(spectra=frozenset()).cost(*beside) == sound.cost(VIEW)
    assert Checkup().cost(*alone) == sound.cost(VIEW) + full.cost(VIEW)
    both = Checkup(diff=diff)
    assert both.cost(*alone) == Checkup().cost(*alone)
    assert both.cost(*beside) == Checkup().cost(*alone) + diff.cost(VIEW)
    assert Checkup(spectra=frozenset()).memory(*beside) == sound.memory(VIEW)
    assert both.memory(*alone) == max(sound.memory(VIEW), full.memory(VIEW))
    assert both.memory(*beside) == max(both.memory(*alone), diff.memory(VIEW))


def test_each_side_has_what_is_asked_of_it(generator: torch.Generator) -> None:
    values = torch.randn(40, 30, generator=generator)
    matrix, pair = matrix_of(values), pair_of(values, values + 1)
    sides: dict[str, Matrix | Pair] = {
        "model": matrix,
        "base": matrix,
        "change": pair,
        "meant": pair,
    }
    found: dict[str, Any] = dict(Checkup(diff=Diff()).measure(sides).values)
    model, base, change = (found[side]["values"] for side in ("model", "base", "change"))
    assert model["kappa_excess"] == model["kappa"] / kappa_null(40, 30)
    assert set(base) == set(Soundness.keys)
    assert {"delta_norm", "delta_rank"} <= set(change) <= set(Diff.keys)
    assert not set(found["meant"]["values"]) & set(Diff.keys)
