"""The experts of a layer as one: the spectrum of their matrices along one diagonal."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from jaxtyping import Float

from spectra.analyzers.facts import Facts, Shuffled
from spectra.analyzers.metrics import told_of
from spectra.analyzers.row import Row, Value
from spectra.deferred import Tensor, torch
from spectra.kernels.summary import numerical_rank
from spectra.matrices.layers import of_any_expert
from spectra.text import counted
from spectra.words import UNMEASURED, Status


class Pooled(Facts):
    """What is known of several matrices of one shape by the singular values of all."""

    def __init__(self, rows: Sequence[Row], energy: float) -> None:
        """Take what was measured of each."""
        held = [row.arrays["sigma"] for row in rows]
        self.sigma: Float[Tensor, " all"] = torch.cat(held).sort(descending=True).values
        self.energy, self.largest = energy, float(self.sigma[0])
        self.rows, self.cols, self.count = rows[0].place.rows, rows[0].place.cols, len(rows)
        ranks = [int(row.number("resolved_rank") or 0) for row in rows]
        least = min(rows, key=lambda row: float(row.arrays["sigma"][-1]))
        self._clear = least.values.get("kappa_resolved")
        self._above = torch.cat([one[:rank] for one, rank in zip(held, ranks, strict=True)])

    @property
    def product(self) -> bool:
        """Nothing is known of entries beside each other."""
        return True

    @property
    def every(self) -> Float[Tensor, " all"]:
        """All singular values."""
        return self.sigma

    @property
    def numel(self) -> int:
        """Number of entries of all."""
        return self.rows * self.cols * self.count

    @cached_property
    def floor(self) -> float:
        """None of its own: what is below that of each expert is left out already."""
        return 0.0

    @property
    def resolved(self) -> bool | None:
        """Whether the smallest singular value of all stands above the rounding of its expert."""
        return self._clear if isinstance(self._clear, bool) else None

    @cached_property
    def rank(self) -> int:
        """How many singular values storing cannot have made, of all."""
        return len(self._above)

    @cached_property
    def eigenvalues(self) -> Float[Tensor, " rank"]:
        """The lambda above rounding, over the largest."""
        return (self._above.sort(descending=True).values / self.largest).square()

    @cached_property
    def shuffled(self) -> Shuffled:
        """Nothing that is asked for."""
        raise AssertionError

    @property
    def numerical_rank(self) -> int:
        """How many singular values exceed LAPACK's threshold, of all."""
        epsilon = torch.finfo(torch.float32).eps
        return numerical_rank(self.sigma, max(self.rows, self.cols), epsilon)


def pooled(rows: Sequence[Row], keys: Sequence[str], energy: float) -> tuple[list[Row], str]:
    """Return rows with one in the place of those of a layer's experts, and a sentence on it.

    Its singular values are those of all of them, as of their matrices along the diagonal of one:
    sigma_max and sigma_min are the largest and smallest of any expert, kappa is their ratio, and
    the power law is fitted to all lambda together. Experts of another shape, or that could not be
    measured, are told singly.

    Source:
        The eigenvalues of several matrices in one density: `pool` of WeightWatcher, for the slices
        of a convolution.
    """
    groups: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        if row.place.expert is not None and row.status not in UNMEASURED:
            name = _any(row.matrix, row.place.expert)
            groups.setdefault((name, row.place.rows, row.place.cols), []).append(row)
    found: list[Row] = []
    many = {key: group for key, group in groups.items() if len(group) > 1}
    first = {id(group[0]): key for key, group in many.items()}
    inside = {id(row) for group in many.values() for row in group}
    for row in rows:
        if id(row) in first:
            found.append(_together(first[id(row)][0], many[first[id(row)]], keys, energy))
        elif id(row) not in inside:
            found.append(row)
    if not many:
        return found, "No layer has several experts to pool."
    matrices = counted(len(inside), "matrix", "matrices")
    return found, (
        f"{matrices} of experts are pooled in {counted(len(many), 'row')}: "
        "each has the singular values of all experts of its layer and role."
    )


def _any(matrix: str, expert: int) -> str:
    """Return a matrix's name with `*` for its expert."""
    return of_any_expert(matrix).replace(f"[expert={expert}", "[expert=*", 1)


def _together(name: str, rows: Sequence[Row], keys: Sequence[str], energy: float) -> Row:
    facts, place = Pooled(rows, energy), rows[0].place
    values: dict[str, Value] = {**told_of(facts, keys), "experts": len(rows)}
    status: Status = "singular" if float(facts.sigma[-1]) == 0.0 else "ok"
    tensor = of_any_expert(place.tensor)
    codecs = {row.place.codec for row in rows}
    told = replace(place, tensor=tensor, matrix=name, expert=None,
                   codec=codecs.pop() if len(codecs) == 1 else None)  # fmt: skip
    return Row(told, status, None, values, {"sigma": facts.sigma})
