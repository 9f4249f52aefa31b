"""What an adapter starts from in place of noise: chosen singular triplets of each weight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from spectra.analyzers.analyzer import Each, Summary, Takes
from spectra.analyzers.cut import WORDS, stored_factors
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.started import concluded, drawn
from spectra.analyzers.storage import likely_roundoff
from spectra.checkpoint.entry import torch_dtype
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError, UsageError
from spectra.kernels.columns import leading_columns
from spectra.kernels.components import (
    Which,
    components,
    components_memory,
    components_work,
)
from spectra.kernels.entries import entry_norm, largest_entry
from spectra.kernels.noise import mean_rounding_floor
from spectra.kernels.rounding import EPS64
from spectra.kernels.work import DOUBLE, Work
from spectra.matrices import Matrix, View
from spectra.words import Chosen, InitForm, InitMethod, Stored

ROWS = 512  # of a residual at a time, in float64
CHOICES: Final[dict[InitMethod, tuple[Chosen, ...]]] = {
    "pissa": ("max",), "milora": ("min", "mid", "max", "random"), "soma": ("min", "max"),
    "mica": ("min",), "olora": (),
}  # fmt: skip
"""What of the singular values each takes, the published default first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initial:
    """B and A of each weight, and what is left of it beside s B A.

    Of triplets u, sigma, v: B = U sqrt(S / s), A = sqrt(S / s) V^T, s = alpha / rank; of `olora`
    the first columns of Q and rows of R of W = Q R; of `mica` B = U and A = 0, whatever W is.

    Source:
        Meng et al. 2024, arXiv:2404.02948 (PiSSA); Wang et al. 2024, arXiv:2406.09044 (MiLoRA),
        and its `svd_init.py`; Yun et al. 2024, arXiv:2412.04077 (SoMA), and its `sora.py`;
        Büyükakyüz 2024, arXiv:2406.01775 (OLoRA); arXiv:2604.01694 (MiCA); PEFT's `lora/layer.py`.
    """

    name: ClassVar[str] = "lowrank_init"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = (
        "rank_kept", "lora_scale", "chosen_share", "chosen_max", "chosen_min", "chosen_gap",
        "floor", "chosen_drowned", "determined", "missed", "missed_max", "rounding", "frobenius",
        "decided_by", "nbytes",
    )  # fmt: skip

    method: InitMethod
    rank: int = 16  # directions of each module
    alpha: float | None = None  # None: as published, so that s is 1 before a ramp
    chosen: Chosen | None = None  # which singular values; None: as published
    seed: int = 0  # of `random`
    start_block: int = 0  # layers before it are left as they are
    ramp: tuple[int, ...] = ()  # layers from each of which on the rank is doubled
    form: InitForm | None = None  # None: with the residual, where the base changes
    dtype: Stored = "float32"  # of the factors

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"--rank {self.rank} is too small. Expected at least 1.")
        if self.alpha is not None and not 0.0 < self.alpha < 1e9:
            raise UsageError(f"--alpha {self.alpha!r} is no scale. Expected a number above 0.")
        if self.start_block < 0:
            raise UsageError(f"--start-block {self.start_block} is no layer. Expected 0 or more.")
        if list(self.ramp) != sorted(set(self.ramp)) or any(one < 0 for one in self.ramp):
            given = ",".join(map(str, self.ramp))
            raise UsageError(f"--ramp {given} is no ascending list of layers. Expected 12,16,20.")
        known = CHOICES[self.method]
        if self.chosen is not None and self.chosen not in known:
            expected = (
                f"Expected {' or '.join(known)}." if known else "It takes none: leave it out."
            )
            raise UsageError(f"--chosen {self.chosen} is not known of {self.method}. {expected}")
        if self.method == "mica" and self.form not in (None, "bare"):
            raise UsageError(
                f"--form {self.form} is not known of mica: its A is 0 and the base stays as it is. "
                "Leave it out."
            )

    def idle(self) -> Sequence[str]:
        """Say which settings do nothing."""
        unused = self.seed and self.taken != "random"
        return ["--seed does nothing without --chosen random"] if unused else []

    @property
    def written(self) -> InitForm:
        """What is written."""
        return self.form or ("bare" if self.method == "mica" else "residual")

    @property
    def taken(self) -> Chosen | None:
        """Which singular values; None where the method knows none."""
        return self.chosen or next(iter(CHOICES[self.method]), None)

    def rank_of(self, rows: int, cols: int, layer: int | None) -> int:
        """Return the rank of a module, at most its short side."""
        steps = sum(layer is not None and layer >= one for one in self.ramp)
        return min(self.rank << steps, rows, cols)

    def alpha_of(self, rank: int) -> float:
        """Return alpha of a module of some rank: SoMA's is one of all, others follow the rank."""
        if self.alpha is not None:
            return self.alpha
        return float(self.rank if self.method == "soma" else rank)

    def cost(self, view: View) -> Work:
        """Triplets at an end, or all of them; a thin QR; and the residual."""
        rank = self.rank_of(view.rows, view.cols, view.role.layer)
        residual = Work(6.0 * view.rows * view.cols * rank * DOUBLE)
        if self.method == "olora":
            return residual + Work(2.0 * view.rows * rank * (view.cols + 2 * rank) * DOUBLE)
        return residual + components_work(view.rows, view.cols, self._end, rank)

    def memory(self, view: View) -> int:
        """The values, what telling their triplets takes, and the residual."""
        rank = self.rank_of(view.rows, view.cols, view.role.layer)
        own = 8 * view.rows * view.cols + 60 * rank * (view.rows + view.cols)
        if self.method == "olora":
            return own + 16 * view.rows * rank
        wide = 2 if view.entry.dtype == "F64" else 1
        return own + wide * components_memory(view.rows, view.cols, rank)

    def measure(self, matrix: Matrix) -> Measurement:
        """Return the keys, the factors, and the residual where it is written."""
        view = matrix.view
        rank = self.rank_of(view.rows, view.cols, view.role.layer)
        scale = self.alpha_of(rank) / rank
        start = self._start(matrix, rank, scale)
        dtype, norm = WORDS[self.dtype], math.sqrt(start.energy)
        tensors, moved = stored_factors(start.left, start.right, dtype)
        floor = mean_rounding_floor(norm, view.rows, view.cols, likely_roundoff(matrix))
        width = torch_dtype(dtype).itemsize * (view.rows + view.cols)  # of one direction
        keys: dict[str, Value] = dict.fromkeys(self.keys) | {
            "rank_kept": rank, "lora_scale": scale, "floor": floor, "frobenius": norm,
            "chosen_share": start.share, "chosen_gap": start.gap,
            "determined": start.gap is None or start.gap > floor,
            "rounding": math.sqrt(float(moved[-1])) / start.size if start.size else 0.0,
            "decided_by": start.decided_by, "nbytes": width * rank,
        }  # fmt: skip
        if start.sigma is not None:
            keys |= {
                "chosen_max": float(start.sigma[0]), "chosen_min": float(start.sigma[-1]),
                "chosen_drowned": int((start.sigma <= floor).sum()),
            }  # fmt: skip
        if self.written == "residual":
            rest, off, most = residual(matrix.values, tensors["left"], tensors["right"], scale)
            tensors["residual"] = rest
            keys |= {"missed": off / norm if norm else 0.0, "missed_max": most}
        elif self.written == "difference":
            tensors = {
                "left": torch.cat([tensors["left"], -tensors["left"]]),
                "right": torch.cat([tensors["right"], tensors["right"]]),
            }
            keys |= {"rank_kept": 2 * rank, "nbytes": 2 * width * rank}
        if self.written == "difference" or self.method == "mica":
            keys |= {"missed": 0.0, "missed_max": 0.0}
        return Measurement(keys, tensors=tensors)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Say what is written, how near base and adapter are to the original, and what is any."""
        return rows, concluded(rows, self.method, self.written)

    @property
    def _end(self) -> Which | None:
        ends: dict[Chosen | None, Which] = {"max": "largest", "min": "smallest"}
        return ends.get(self.taken)

    def _start(self, matrix: Matrix, rank: int, scale: float) -> "_Start":
        if self.method == "olora":
            left, right, apart = leading_columns(matrix.values, rank)
            norm = entry_norm(matrix.values)
            share = (float(torch.linalg.vector_norm(right)) / norm) ** 2 if norm else 0.0
            size = float(torch.linalg.vector_norm(right))
            return _Start(left, right, share, size, norm**2, apart, None, "exact")
        found = components(matrix.values, self._which(matrix.view, rank), rank)
        sigma = found.sigma
        own = float(sigma.square().sum())
        share = own / found.energy if found.energy else 0.0
        gap = found.gap if math.isfinite(found.gap) else None
        if self.method == "mica":
            left, right, size = found.left, torch.zeros_like(found.right.mT), 0.0
        else:
            root = (sigma / scale).sqrt()
            left, right, size = found.left * root, root[:, None] * found.right.mT, own**0.5 / scale
        return _Start(left, right, share, size, found.energy, gap, sigma, found.decided_by)

    def _which(self, view: View, rank: int) -> Which | list[int]:
        """Return the indices of what is chosen, or the end that it lies at."""
        if self._end is not None:
            return self._end
        short = min(view.rows, view.cols)
        if self.taken == "mid":
            first = (short - rank) // 2
            return list(range(first, first + rank))
        return drawn(view.name, short, rank, self.seed)


@dataclass(frozen=True, slots=True)
class _Start:
    """What one module starts from."""

    left: Tensor  # rows x rank, float64
    right: Tensor  # rank x cols, likewise
    share: float  # of sum sigma^2
    size: float  # ||B A||_F
    energy: float  # of W
    gap: float | None  # to what is not chosen
    sigma: Tensor | None  # of what is chosen
    decided_by: str


def residual(
    values: Tensor, left: Tensor, right: Tensor, scale: float
) -> tuple[Tensor, float, float]:
    """Return W - s B A as W is stored, and how far it and the factors are from W.

    Args:
        values: W, rows x cols.
        left: B as it is stored, a direction a row.
        right: A as it is stored.
        scale: s.

    Returns:
        The residual, ||W - (W_res + s B A)||_F and the largest entry of that, no less than
        float64's rounding of either.

    Raises:
        NonFiniteError: It is too large for the dtype.
    """
    rest = torch.empty_like(values, memory_format=torch.contiguous_format)
    outer, inner = (scale * left.double()).mT, right.double()
    outer, inner = outer.to(values.device), inner.to(values.device)
    total = most = 0.0
    for start in range(0, len(values), ROWS):
        here = slice(start, start + ROWS)
        block = values[here].double() - outer[here] @ inner
        rest[here] = block
        block -= rest[here].double()
        total += float(torch.linalg.vector_norm(block)) ** 2
        most = max(most, float(block.abs().max()))
    if not math.isfinite(most):
        raise NonFiniteError(f"its residual is too large for {values.dtype}".replace("torch.", ""))
    # No difference is known better than float64 rounds what it is of.
    return (
        rest.cpu(),
        max(math.sqrt(total), EPS64 * entry_norm(values)),
        max(most, EPS64 * largest_entry(values)),
    )
