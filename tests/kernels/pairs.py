"""Bases and updates of every kind that a verdict can meet, and what a verdict claims."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from spectra.kernels.decomposed import merged
from spectra.kernels.similarity import Similarity, exact_similarity
from spectra.words import Side

SPECTRA = (
    "gaussian", "slow", "power", "clustered", "near", "graded", "mild", "strong and noise",
    "strong and tiny", "deficient", "flat",
)  # fmt: skip
UPDATES = ("spread", "decaying", "between", "turned", "noise", "scaled", "removed")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MARGIN = 1e-3


def random(rows: int, cols: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=source, dtype=torch.float64)


def orthonormal(rows: int, cols: int, seed: int) -> Tensor:
    vectors: Tensor = torch.linalg.qr(random(rows, cols, seed)).Q
    return vectors


def made(shape: tuple[int, int], sigma: Tensor, seed: int) -> Tensor:
    """Return a matrix of these singular values."""
    rank = len(sigma)
    return (orthonormal(shape[0], rank, seed) * sigma) @ orthonormal(shape[1], rank, seed + 1).mT


def spectrum(kind: str, rank: int, seed: int) -> Tensor:
    """Return `rank` descending singular values, the first of about 1."""
    index = torch.arange(rank, dtype=torch.float64)
    spread = (
        0.5 + 0.5 * torch.rand(rank, generator=torch.Generator().manual_seed(seed + 5)).double()
    )
    strong, leading = index < min(12, rank // 3), 1.0 / (1.0 + 0.2 * index)
    made: dict[str, Callable[[], Tensor]] = {
        "gaussian": lambda: (
            torch.linalg.svdvals(random(rank, rank + 10, seed)) / (2 * math.sqrt(rank))
        ),
        "slow": lambda: (index + 1) ** -0.3 + 0.05 * spread,
        "power": lambda: 1.0 / (index + 1),
        "clustered": lambda: clusters(rank, 0.0),
        "near": lambda: clusters(rank, (1e-9, 1e-6, 1e-4)[seed % 3]),
        "graded": lambda: torch.logspace(0, -18, rank, dtype=torch.float64),
        "mild": lambda: torch.logspace(0, -3, rank, dtype=torch.float64),
        "strong and noise": lambda: torch.where(strong, leading, 0.05 * spread),
        "strong and tiny": lambda: torch.where(strong, leading, 1e-5 * spread),
        "deficient": lambda: torch.where(index < rank // 2, spread, 0.0),
        "flat": lambda: torch.ones(rank, dtype=torch.float64),
    }
    return made[kind]().sort(descending=True).values


def clusters(rank: int, split: float) -> Tensor:
    """Return values of which 2, 3 and 100 coincide but for a relative `split`."""
    index = torch.arange(rank, dtype=torch.float64)
    sigma = 1.0 / (1.0 + 0.3 * index)
    first = 0
    for size in (1, 2, 1, 3, 1, 100):
        members = sigma[first : first + size]
        if len(members):
            members.copy_(members[0] * (1.0 - split * index[: len(members)]))
        first += size
    return sigma


@dataclass(frozen=True)
class Case:
    """A base, an update and a question, small enough to print."""

    rows: int
    cols: int
    base: str
    update: str
    rank: int
    strength: float
    seed: int
    dtype: torch.dtype
    factors: bool
    exponent: int  # both matrices are scaled by ten to it
    side: Side
    k: int
    epsilon: float

    def pair(self) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Return the base, and the tuned matrix or the factors of its update."""
        short = min(self.rows, self.cols)
        sigma = spectrum(self.base, short, self.seed)
        left = orthonormal(self.rows, short, self.seed)
        right = orthonormal(self.cols, short, self.seed + 1)
        scale = 10.0**self.exponent
        base = ((left * sigma * scale) @ right.mT).to(self.dtype)
        up, down = self._factors(left, sigma, right)
        if not self.factors:
            return base, (base.double() + scale * up @ down).to(self.dtype)
        root = math.sqrt(scale)
        dtype = torch.float32 if self.dtype == torch.float64 and self.seed % 2 else self.dtype
        return base, ((up * root).to(dtype), (down * root).to(dtype))

    def _factors(self, left: Tensor, sigma: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return the update as a product."""
        rank = min(self.rank, len(sigma))
        size = self.strength * float(sigma[0])
        if self.update == "noise":
            noise = random(self.rows, self.cols, self.seed + 2)
            return size * noise / math.sqrt(self.rows), torch.eye(self.cols, dtype=torch.float64)
        if self.update == "scaled":
            return left * sigma * self.strength, right.mT
        if self.update == "removed":
            return -left[:, :rank] * sigma[:rank], right[:, :rank].mT
        amount = torch.linspace(1.0, 0.5, rank, dtype=torch.float64) * size
        if self.update == "decaying":
            amount = size * 0.5 ** torch.arange(rank, dtype=torch.float64)
        up = orthonormal(self.rows, rank, self.seed + 3)
        down = orthonormal(self.cols, rank, self.seed + 4)
        if self.update == "between" and len(sigma) > 1:
            first = self.seed % (len(sigma) - 1)
            up = up.clone()
            up[:, 0] = (left[:, first] + left[:, first + 1]) / math.sqrt(2.0)
        if self.update == "turned":  # towards a random direction, by an angle near epsilon's
            cosine = min(self.epsilon + (self.seed % 7 - 3) * 5e-4, 0.999)
            held = left[:, :rank] if rank else left
            out = up - left @ (left.mT @ up) if self.rows > len(sigma) else up
            up = cosine * held + math.sqrt(1.0 - cosine**2) * out
        return up * amount, down.mT


@st.composite
def cases(
    draw: st.DrawFn,
    sides: st.SearchStrategy[int],
    ks: st.SearchStrategy[int],
) -> Case:
    rows, cols = draw(sides), draw(sides)
    if draw(st.booleans()):
        cols = rows
    exponent = draw(st.sampled_from([0] * 9 + [-25, 20]))
    return Case(
        rows=rows,
        cols=cols,
        base=draw(st.sampled_from(SPECTRA)),
        update=draw(st.sampled_from(UPDATES)),
        rank=draw(st.integers(1, 16)),
        strength=draw(st.sampled_from([0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 100.0])),
        seed=draw(st.integers(0, 2**20)),
        dtype=draw(st.sampled_from(DTYPES[:3] if exponent else DTYPES)),
        factors=draw(st.booleans()),
        exponent=exponent,
        side=draw(st.sampled_from(["left", "right"])),
        k=draw(ks),
        epsilon=draw(st.sampled_from([0.05, 0.2, 0.5, 0.5, 0.5, 0.7, 0.8, 0.95])),
    )


def undetermined(sigma: Tensor, index: int) -> float:
    """Return how far float64 lets a singular vector turn: rounding over its distance to others."""
    apart = (sigma - sigma[index]).abs()
    rounding = len(sigma) * 2.0**-52 * float(sigma[0])
    if index < 0 or not rounding:
        return 1e-9
    others = apart[apart > rounding]  # what is nearer is one with it
    gap = float(others.min()) if len(others) else float(sigma[0])
    return 1e-9 + 10.0 * rounding / gap * float(sigma[0] / sigma[index].clamp(min=1e-300))


@lru_cache(maxsize=32)
def _decomposition(shape: tuple[int, int], entries: bytes) -> tuple[Tensor, Tensor]:
    """Return left singular vectors and singular values; what is asked for next has often them."""
    matrix = torch.frombuffer(bytearray(entries), dtype=torch.float64).view(shape)
    left, sigma, _ = torch.linalg.svd(matrix, full_matrices=False)
    return left, sigma


def decomposition(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The full decomposition that claims are held against; it is not written into."""
    entries = matrix.double().contiguous()
    return _decomposition((entries.shape[0], entries.shape[1]), entries.numpy().tobytes())


def holds(
    found: Similarity,
    base: Tensor,
    tuned: Tensor | tuple[Tensor, Tensor],
    k: int,
    epsilon: float,
    side: Side = "left",
) -> None:
    """Hold every claim of proven verdicts against two full decompositions."""
    whole = merged(base, tuned)
    expected = exact_similarity(base, whole, k, side)
    (basis, before), (vectors, tuned_sigma) = (
        decomposition(one if side == "left" else one.mT) for one in (base, whole)
    )
    cosines = (vectors.mT @ basis).abs()
    count = len(expected.cosine)
    split = count == len(before) or float(before[count - 1] - before[count]) > 1e-7 * before[0]
    assert len(found.cosine) == len(found.decided_by) == count
    doubt = [
        2.0
        if bool(expected.tied[j])  # any vector of a plane
        else max(undetermined(before, int(expected.best[j])), undetermined(tuned_sigma, j))
        for j in range(count)
    ]
    for j in range(count):
        if abs(float(expected.cosine[j]) - epsilon) > doubt[j]:
            assert bool(found.cosine[j] < epsilon) == bool(expected.cosine[j] < epsilon)
    rounding = 8.0 * 2.0**-52 * float(tuned_sigma[0])
    torch.testing.assert_close(found.sigma, expected.sigma, rtol=1e-5, atol=rounding)
    torch.testing.assert_close(found.energy, expected.energy, rtol=2e-5, atol=1e-28)
    # Gaps about as large as rounding are on either side of it, by luck.
    gaps = (tuned_sigma[:-1] - tuned_sigma[1:]) / (max(base.shape) * 2.0**-52 * tuned_sigma[0])
    near = torch.nn.functional.pad((gaps > 0.2) & (gaps < 5.0), (1, 1))
    told = ~(near[:-1] | near[1:])[:count]
    assert torch.equal(found.tied[told], expected.tied[told])

    for j, way in enumerate(found.decided_by):
        cosine, exact = float(found.cosine[j]), float(expected.cosine[j])
        error, best = float(found.error[j]), int(found.best[j])
        if way == "exact":
            assert cosine == pytest.approx(exact, abs=doubt[j] + error)
            assert error <= 1e-6
            continue
        if expected.overlap is None:
            assert found.overlap is None or not split
        else:
            assert found.overlap is not None
            assert abs(found.overlap - expected.overlap) <= 5e-3 or not split
        if way.startswith("match"):
            assert abs(cosine - exact) <= error + 1e-9, (j, cosine, exact, error)
            assert cosine - error >= epsilon + MARGIN - 1e-12
            if best != int(expected.best[j]):
                assert exact - float(cosines[j, best]) <= 2.0 * error + 1e-9, (j, best)
        else:
            assert error == 0.0
            assert exact <= cosine + 1e-9, (j, cosine, exact)
            assert cosine < epsilon - MARGIN + 1e-12
