"""Verdicts on a real model's matrices, changed by a real adapter: all as the reference's."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kernels.pairs import holds
from spectra.kernels.decomposed import merged
from spectra.kernels.leading import SINGLE
from spectra.kernels.similarity import exact_similarity
from spectra.kernels.verdicts import Ladder, proven_similarity
from spectra.words import Side

Updates = dict[str, tuple[Tensor, Tensor]]
EPSILON = 0.5
WAYS = {
    "dense": Ladder(),
    "krylov float32": Ladder(short=24, dense=24, single=replace(SINGLE, fewest=4), float32=1),
}


@pytest.mark.parametrize("way", WAYS)
def test_all_360_verdicts(way: str, real: dict[str, Tensor], updates: Updates) -> None:
    same = intruders = proven = 0
    for name, update in updates.items():
        base = real[name]
        found = proven_similarity(base, update, 10, EPSILON, ladder=WAYS[way])
        expected = exact_similarity(base, merged(base, update), 10)
        same += int(((found.cosine < EPSILON) == (expected.cosine < EPSILON)).sum())
        intruders += int((found.cosine < EPSILON).sum())
        proven += sum(decided != "exact" for decided in found.decided_by)
    assert (same, intruders) == (360, 3)
    assert proven >= (300 if way == "dense" else 150)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("way", WAYS)
def test_every_claim_on_merged_weights(
    way: str, side: Side, real: dict[str, Tensor], updates: Updates
) -> None:
    for name, update in list(updates.items())[::6]:
        base = real[name]
        for tuned in (update, (base + update[0] @ update[1]).bfloat16()):
            found = proven_similarity(base, tuned, 10, EPSILON, side, WAYS[way])
            holds(found, base, tuned, 10, EPSILON, side)


def test_unrelated_layers_share_nothing(real: dict[str, Tensor]) -> None:
    names = [f"encoder.layer.{layer}.attention.self.query.weight" for layer in range(4)]
    for first, second in pairwise(names):
        found = proven_similarity(real[first], real[second], 10, EPSILON)
        holds(found, real[first], real[second], 10, EPSILON)
        assert torch.equal(found.cosine < EPSILON, torch.ones(10, dtype=torch.bool))
