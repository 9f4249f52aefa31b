"""Heads of attention, told by their weights: OV, what each moves, and QK, where it looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar

from spectra.analyzers.analyzer import Attentions, Summary, Takes
from spectra.analyzers.heads_factors import Lines, Logit, lines_of
from spectra.analyzers.heads_reading import HEAD_KEYS, TWIN, concluded, reading_of, twins_of
from spectra.analyzers.row import Measurement, Row, Value
from spectra.deferred import Tensor, torch
from spectra.kernels.heads import (
    CHUNK,
    FLOOR,
    copying,
    grams,
    inner_products,
    root_norms,
    roots,
    tied,
    unturned,
    values_of,
)
from spectra.kernels.work import DOUBLE, SINGLE, Work
from spectra.matrices import Matrix
from spectra.matrices.attention import Attention
from spectra.numbers import kept
from spectra.text import listed

PROFILE = 17  # singular values that a row keeps, at even ranks
SIZES = "sigma", "sigma_max", "frobenius", "unturned"  # which go with the scale of the weights
EIGEN = 1 / 0.9e9  # seconds of an operation among the 8 size^3 of eigenvalues that have no order


@dataclass(frozen=True, slots=True)
class Heads:
    """The two maps of every head: OV = O^T V of what it moves, QK = Q^T K of where it looks.

    Source:
        Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
    """

    name: ClassVar[str] = "heads"
    version: ClassVar[int] = 5
    takes: ClassVar[Takes] = Attentions()
    keys: ClassVar[tuple[str, ...]] = ("heads",)

    fold: bool = True  # norms into what reads through them

    def cost(self, about: Attention) -> Work:
        """Gram matrices, small decompositions, and products of heads with each other."""
        size, value = about.size, about.value_size
        lines = about.heads * (size**2 * about.width + value**2 * about.written)
        lines += about.keys * (size**2 + value**2) * about.memory
        shared = about.heads**2 * value**2 * about.written  # a half each of 2 operations
        shared += about.keys**2 * value**2 * about.memory
        cubes = about.heads * (size**3 + value**3)
        return Work(
            products=2.0 * lines * DOUBLE + shared * SINGLE,
            eigenvalues=8.0 * cubes / 34e9,
            decompositions=4.0 * cubes / 30e9 + 8.0 * about.heads * value**3 * EIGEN,
            calls=2e-3,
        )

    def memory(self, about: Attention) -> int:
        """The lines in float32, twice while norms are folded in, and products of heads."""
        lines = about.heads * (about.size * about.width + about.value_size * about.written)
        lines += about.keys * (about.size + about.value_size) * about.memory
        squares = about.heads * max(about.size, about.value_size) ** 2
        return 8 * lines + 8 * (12 * squares + min(lines, 2 * CHUNK))

    def measure(self, subject: tuple[Attention, Mapping[str, Matrix]]) -> Measurement:
        """Return a row of values for each head of queries, and its singular values as arrays.

        Of a head that holds NaN or Inf there is `broken` instead, which says what of it does.
        """
        about, held = subject
        lines = lines_of(about, held, fold=self.fold)
        key_of = lines.key_of
        query, key = grams(lines.queries), grams(lines.keys)
        known = {id(lines.queries): roots(query), id(lines.keys): roots(key)}
        a, b = known[id(lines.queries)], known[id(lines.keys)][key_of]
        v, o = (roots(grams(one)) for one in (lines.values, lines.written))
        found: dict[str, Tensor] = {}
        for name, left, right in (("qk", a, b), ("ov", o, v[key_of])):
            found |= _spectra(name, left, right)
        if about.known:
            halves = about.pairing != "neighbours"
            found["qk_unturned"] = unturned(query, key[key_of], _lines(about), halves=halves)
        if not about.across and about.memory == about.written:
            found["copying"] = copying(lines.values[key_of], lines.written)
        cosines = _cosines(lines, found["ov_frobenius"])
        found |= _nearest(cosines)
        for name, scale in (("qk", lines.qk_scale), ("ov", lines.ov_scale)):
            for size in {f"{name}_{what}" for what in SIZES} & found.keys():
                one = found[size]
                found[size] = one * (scale if one.ndim == 1 else scale[:, None])
        bounds = self._bounds(about, lines, known)
        if bounds is not None:
            found["logit_bound"] = bounds
        sigma = {name: found.pop(f"{name}_sigma") for name in ("qk", "ov")}
        told = {name: values.tolist() for name, values in found.items()}
        rows: list[Mapping[str, Value]] = [
            {"head": head, "kv_head": int(key_of[head]), "broken": why} if why else
            self._row(about, head, int(key_of[head]), told) | _alike(cosines[head]) | {
                f"{name}_profile": _profile(values[head]) for name, values in sigma.items()
            }
            for head, broken in enumerate(lines.broken) for why in [broken or _beyond(sigma, head)]
        ]  # fmt: skip
        return Measurement({"heads": rows}, arrays=sigma)

    def _row(
        self, about: Attention, head: int, key: int, told: Mapping[str, Sequence[float]]
    ) -> dict[str, Value]:
        """Return the numbers of one head; those that do not exist are None."""
        own: dict[str, Value] = {
            name: values[head] if isfinite(values[head]) else None for name, values in told.items()
        }
        return {
            "head": head, "kv_head": key, "attends": "across" if about.across else "self",
            **{name: own.get(name) for name in HEAD_KEYS[3:]},
            "folded": self._folded(about), "logit_scale": about.scale, "logit_cap": about.cap,
            "logit_added": about.added if about.known else None,
            "qk_norm": bool(about.each) if about.known else None,
            "turning": about.turning if about.known else None,
        }  # fmt: skip

    def _folded(self, about: Attention) -> str:
        """Say which norms are in the numbers."""
        if not about.known:
            return "unknown"
        if not self.fold:
            return "no"
        words = {"rms": "rms", "rms1": "rms", "layer": "layer", "gain": "gain"}
        told = [words[about.before]] if about.before else []
        told += [f"memory {words[about.through]}"] if about.through else []
        told += ["latent rms"] if about.latent else []
        of = "all heads" if about.spans else "each head"
        told += [f"rms of {of}"] if about.each else []
        told += [f"{words[about.behind]} behind"] if about.behind else []
        return ", ".join(told) or "none before"

    def _bounds(self, about: Attention, lines: Lines, known: Mapping[int, Tensor]) -> Tensor | None:
        """Return what no logit of a head exceeds in size, at any distance; None: not known."""
        if not lines.logits or about.scale is None:
            return None
        parts = [_bound(one, lines.key_of, about, known) for one in lines.logits]
        if any(one is None for one in parts):
            return None
        total = about.scale * torch.stack([one for one in parts if one is not None]).sum(dim=0)
        return total if about.cap is None else about.cap * torch.tanh(total / about.cap)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Return a row for each head, those that are dead or twins marked, and what they show."""
        each = [one for row in rows for one in _each(row)]
        heads = concluded(each)
        return heads, reading_of(heads, twins_of(each, heads))


def _each(row: Row) -> list[Row]:
    """Return the rows of the heads of one module; of one without numbers a single one."""
    told: Any = row.values["heads"]
    nothing: Mapping[str, Value] = dict.fromkeys(HEAD_KEYS)
    if told is None:
        return [replace(row, values=nothing)]
    found = []
    for index, one in enumerate(told):
        place = replace(row.place, matrix=f"{row.place.matrix}[head={one['head']}]")
        if "broken" in one:
            own = {**nothing, "head": one["head"], "kv_head": one["kv_head"]}
            made = Row(place, "non-finite", one["broken"], own)
        else:
            arrays = {name: array[index] for name, array in row.arrays.items()}
            values = {**one, "dead": None, "twin": None}
            made = replace(row, place=place, values=values, arrays=arrays)
        found.append(made)
    return found


def _beyond(sigma: Mapping[str, Tensor], head: int) -> str:
    """Say which map of a head is larger than a number of float64; empty: none."""
    large = [name.upper() for name in sigma if not bool(sigma[name][head, 0].isfinite())]
    return f"{listed(large)} {'is' if len(large) == 1 else 'are'} beyond float64" if large else ""


def _lines(about: Attention) -> slice:
    """Return the lines of a query that rotate."""
    start = about.size - about.turning if about.latent else 0
    return slice(start, start + about.turning)


def _spectra(name: str, left: Tensor, right: Tensor) -> dict[str, Tensor]:
    """Return singular values and what sums them up."""
    sigma = values_of(left, right)
    square, total = sigma.square().sum(dim=1), sigma.sum(dim=1)
    share = sigma / total[:, None]
    entropy = -(share * share.clamp(min=1e-300).log()).sum(dim=1)
    return {
        f"{name}_sigma": sigma,
        f"{name}_sigma_max": sigma[:, 0],
        f"{name}_frobenius": square.sqrt(),
        f"{name}_stable_rank": square / sigma[:, 0].square(),
        f"{name}_effective_rank": entropy.exp(),
        f"{name}_tied": tied(sigma, FLOOR * root_norms(left) * root_norms(right)),
    }


def _cosines(lines: Lines, norms: Tensor) -> Tensor:
    """Return the cosines of the OV of all heads of a module, NaN of a head with itself."""
    products = inner_products(lines.values, lines.written, lines.key_of)
    cosines = (products / (norms[:, None] * norms[None])).clamp(-1.0, 1.0)
    return cosines.fill_diagonal_(torch.nan)


def _nearest(cosines: Tensor) -> dict[str, Tensor]:
    """Return the head of the same module whose OV is most alike, and their cosine."""
    if len(cosines) < 2:
        return {}
    nearest = cosines.abs().nan_to_num(0.0).argmax(dim=1)
    found = cosines.gather(1, nearest[:, None])[:, 0]
    return {"nearest": torch.where(found.isnan(), torch.nan, nearest.double()),
            "nearest_cosine": found}  # fmt: skip


def _alike(cosines: Tensor) -> dict[str, Value]:
    """Return the heads that move the same as one or the opposite, of which a row tells one."""
    others = (cosines.abs() >= TWIN).nonzero().flatten()
    return {"alike": others.tolist(), "alike_cosines": cosines[others].tolist()}


def _bound(
    one: Logit, key_of: Tensor, about: Attention, known: Mapping[int, Tensor]
) -> Tensor | None:
    """Return what one summand of a logit does not exceed, before the scale.

    |q| <= |x| sigma_1(Q) + |b|, and where nothing rotates |x^T Q^T K y| <= |x| |y| sigma_1(Q^T K).
    The roots of some lines are known, by the lines' own identity.
    """
    query, key = one.query, one.key
    if query.reach is None or key.reach is None:
        return None
    if about.each:
        longest = query.reach * key.reach * about.length**2
        return torch.full((len(key_of),), longest, dtype=torch.float64, device=key_of.device)
    a, b = (
        known[id(side.lines)] if id(side.lines) in known else roots(grams(side.lines))
        for side in (query, key)
    )
    b = b[key_of]
    of_query, of_key = root_norms(a), root_norms(b)
    together = of_query * of_key if one.turns else values_of(a, b)[:, 0]
    scales = (side.scale for side in (query, key))
    of_query_scale, of_key_scale = (
        torch.as_tensor(one, dtype=torch.float64, device=key_of.device) for one in scales
    )
    bias = [
        0.0 if side.bias is None else torch.linalg.vector_norm(side.bias.double(), dim=1)
        for side in (query, key)
    ]
    of_bias = bias[1][key_of] if isinstance(bias[1], Tensor) else bias[1]
    total: Tensor = (
        query.reach * key.reach * together
        + bias[0] * (key.reach * of_key + of_bias)
        + query.reach * of_query * of_bias
    )
    return total * of_query_scale * (of_key_scale[key_of] if of_key_scale.ndim else of_key_scale)


def _profile(sigma: Tensor) -> list[float]:
    """Return singular values at even ranks, in six digits."""
    last = len(sigma) - 1
    ranks = range(last + 1) if last < PROFILE else [
        round(i * last / (PROFILE - 1)) for i in range(PROFILE)
    ]  # fmt: skip
    return [kept(float(sigma[rank])) for rank in ranks]
