"""Leading singular directions of two matrices, by a Krylov space, against dense NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spectra.kernels.matching import aligned, frame_of, leading_frame, top_of

ROWS, COLS, K = 900, 600, 8


def spiked(seed: int, common: Tensor) -> Tensor:
    """Noise below some directions, of which a part is common."""
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn(ROWS, COLS, generator=source)
    own = torch.randn(ROWS, 12, generator=source) @ torch.randn(12, COLS, generator=source)
    return noise + 0.3 * own + common


@pytest.mark.parametrize("turned", [False, True])
def test_leading_directions_are_those_of_numpy(turned: bool) -> None:
    source = torch.Generator().manual_seed(0)
    common = (
        torch.randn(ROWS, 5, generator=source)
        @ torch.diag(torch.arange(5.0) + 1.0)
        @ (torch.randn(5, COLS, generator=source))
    )
    one, other = (spiked(seed, common) for seed in (1, 2))
    if turned:
        one, other = one.mT.contiguous(), other.mT.contiguous()
    few = [leading_frame(matrix, K) for matrix in (one, other)]
    assert few[0] is not None
    assert few[1] is not None
    assert not few[0].whole
    gamma = 0.6
    found = aligned(few[0], few[1], gamma, K)
    (u, s, v), (x, t, y) = (np.linalg.svd(m.double().numpy(), full_matrices=False)
                            for m in (one, other))  # fmt: skip
    a, b = (int((values >= gamma * values[0]).sum()) for values in (s, t))
    assert top_of(few[0], gamma) == a < K
    some = (u[:, :a].T @ x[:, :b]) * (v[:a] @ y[:b].T)
    assert found.top == pytest.approx(some.sum() / np.sqrt(a * b), abs=1e-6)
    weighted = s[:a] @ some @ t[:b] / np.linalg.norm(s[:a]) / np.linalg.norm(t[:b])
    assert found.weighted_top == pytest.approx(weighted, abs=1e-6)
    sides = (u[:, :K].T @ x[:, :K], v[:K] @ y[:K].T)
    overlap = sum((side**2).sum() for side in sides) / (2 * K)
    assert found.overlap == pytest.approx(overlap, abs=1e-6)
    assert found.all is None
    # All directions tell the same, and what the leading ones leave open.
    every = aligned(frame_of(one), frame_of(other), 0.0, K)
    assert every.all == pytest.approx((u @ v * (x @ y)).sum() / COLS, abs=1e-9)
    assert every.overlap == pytest.approx(overlap, abs=1e-9)
    # More of them than were looked for: how far they agree is not known.
    assert top_of(few[0], 0.0) is None
    assert aligned(few[0], few[1], 0.0, K).top is None


def test_values_too_close_for_leading_vectors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra.kernels.components.MODERATE", 500)
    source = torch.Generator().manual_seed(4)
    assert leading_frame(torch.randn(600, 600, generator=source), K) is None
    assert leading_frame(torch.randn(600, 600, generator=source), 600) is not None
    none = leading_frame(torch.zeros(40, 30), K)
    assert none is not None
    assert none.whole
