"""What merges add that is not the update that an adapter means: known mistakes, by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, sqrt

from spectra.matrices import LowRank
from spectra.matrices.pair import Factors

TWICE, NEVER, DOUBLED, WHOLE = (
    "alpha / r applied twice", "alpha / r left out", "the update added twice",
    "alpha for alpha / r",
)  # fmt: skip
ROOT, NO_ROOT, MINUS = (
    "alpha / sqrt(r) for alpha / r", "alpha / r for alpha / sqrt(r)", "the update subtracted",
)  # fmt: skip
TURNED, OTHER, PLAIN = (
    "the update transposed",
    "lora_B read expert by expert, not rank by rank",
    "DoRA's magnitudes left out",
)
UNTOUCHED = "the base's values"
DAMAGED = "the adapter's update holds NaN or Inf"
UNSOUND = "the base or the model holds NaN or Inf"
BEYOND = "changed, though the adapter leaves it alone"


@dataclass(frozen=True, slots=True)
class Form:
    """What a merge may have added."""

    fault: str  # what is wrong with it; empty: it is what the adapter means
    product: LowRank
    scale: float
    factor: float | None = None  # how often that is the update, where it is a multiple of it
    lengths: bool = False  # what comes out is made as long as DoRA's lengths say


def forms_of(factors: Factors, *, dora: bool) -> Iterator[Form]:
    """Yield what a merge may have added instead, what was meant first."""
    fault = PLAIN if dora else ""
    if factors.lengths is not None:
        for name, scale in (("", factors.scale), *scales_of(factors)):
            told = f"DoRA with {name}" if name else ""
            yield Form(told, factors.product, scale, lengths=True)
    yield Form(fault, factors.product, factors.scale)
    if factors.other is not None:
        yield Form(OTHER, factors.other, factors.scale)
    if factors.turned is not None:
        yield Form(TURNED, factors.turned, factors.scale)
    for name, scale in scales_of(factors):
        both = f"{fault}, {name}" if fault else name
        factor = None if dora else scale / factors.scale
        yield Form(both, factors.product, scale, factor)


def scales_of(factors: Factors) -> Iterator[tuple[str, float]]:
    """Yield the scales that mistakes make, those that are the adapter's own left out."""
    scale, rank = factors.scale, factors.rank
    told: dict[float, list[str]] = {}
    for name, other in (
        (TWICE, scale * scale), (NEVER, 1.0), (DOUBLED, 2.0 * scale), (WHOLE, scale * rank),
        (ROOT, scale * sqrt(rank)), (NO_ROOT, scale / sqrt(rank)), (MINUS, -scale),
    ):  # fmt: skip
        if not isclose(other, scale, rel_tol=1e-9):
            same = next((one for one in told if isclose(one, other, rel_tol=1e-9)), other)
            told.setdefault(same, []).append(name)
    for other, names in told.items():
        yield " or ".join(names), other
