"""How the largest singular values of a family of models grow with its width."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import ClassVar

from spectra.analyzers.analyzer import Each, Summary, Takes
from spectra.analyzers.row import Measurement, Row
from spectra.analyzers.width_reading import (
    Scaling,
    Target,
    Trained,
    advice_of,
    is_near,
    reading_of,
)
from spectra.deferred import torch
from spectra.errors import UsageError
from spectra.kernels.extremes import largest_singular_value
from spectra.kernels.slope import (
    Scatter,
    fit_line,
    log_medians,
    paired_scatter,
    slope_interval,
    unpaired_scatter,
)
from spectra.kernels.work import Work, extremes_memory, largest_work
from spectra.matrices import Matrix, View
from spectra.matrices.layers import of_any_expert
from spectra.words import UNMEASURED, in_order

OUTSIDE = ("embed", "lm_head", "router")
"""Roles that the law is not about: one of their sides does not grow with the width."""

LAW = 0.75  # slope of sigma_1 / sqrt(eta / lambda)
LIMIT = 1e150  # of ratios, whose squares must be numbers

Layers = Mapping[str, float]  # sigma_max of every layer of one role, by name


@dataclass(frozen=True, slots=True)
class Member:
    """One model of the family, and how it was trained, as far as that is known."""

    model: str  # its name, as in the label of its rows
    width: int
    eta: float | None = None  # learning rate of the matrices
    weight_decay: float | None = None  # lambda of the matrices, decoupled
    proxy: bool = False  # the others are to match it


@dataclass(frozen=True, slots=True)
class Width:
    """The largest singular value of every matrix, and its slope against the width.

    Rows carry the labels `model` and `width`. A role's value in one model is the median over
    its layers; experts of one layer count once, as their median.

    Source:
        arXiv:2510.15262: under AdamW sigma_1 ~ sqrt(eta / lambda) * d^0.75. With
        eta ~ 1/d, widths match where lambda ~ sqrt(d).
    """

    name: ClassVar[str] = "width"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = ("sigma_max", "sigma_max_low", "sigma_max_high")
    concluding: ClassVar[frozenset[str]] = frozenset({"members", "tolerance", "confidence"})

    members: tuple[Member, ...] = ()
    tolerance: float = 0.1  # a ratio to the proxy matches within 1 +- this
    confidence: float = 0.95  # of the slopes' intervals

    def __post_init__(self) -> None:
        for what, share in (("tolerance", self.tolerance), ("confidence", self.confidence)):
            if not 0.0 < share < 1.0:
                raise UsageError(f"{what} {share!r} is no share. Expected above 0 and below 1.")

    def cost(self, view: View) -> Work:
        """The large end of the spectrum."""
        return largest_work(view.rows, view.cols)

    def memory(self, view: View) -> int:
        """The values, their Krylov space, and the exact way out."""
        return extremes_memory(view.rows, view.cols)

    def measure(self, matrix: Matrix) -> Measurement:
        """Return sigma_max and what it is proven to lie between."""
        found = largest_singular_value(matrix.values)
        # The low end is a Rayleigh quotient, far nearer than the proof of the high end.
        return Measurement(
            {"sigma_max": found.low, "sigma_max_low": found.low, "sigma_max_high": found.high}
        )

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Fit every role's slope, compare the models with the proxy, and say what to change."""
        members = self._members(rows)
        finite = [row for row in rows if row.status not in UNMEASURED]
        known = [row for row in finite if above_zero(row)]
        scalings = [self._scaling(kind, found) for kind, found in layers_by_role(known, members)]
        counted = [scaling for scaling in scalings if scaling.counted]
        overall = self._overall(counted, members)
        targets = [self._target(one, _proxy(members), counted) for one in _others(members)]
        main = targets[0] if targets else None
        scalings = [self._matched(scaling, main) for scaling in scalings]
        if overall and main:
            overall = replace(overall, ratio=main.ratio, ok=main.ok)
        trained = [Trained(one.width, one.eta, one.weight_decay) for one in members]
        every = any(member.proxy for member in members)
        summary = {
            "reading": reading_of(overall, main, trained, len(finite) - len(known)),
            "roles": [asdict(scaling) for scaling in scalings],
            "overall": asdict(overall) if overall else None,
            "matching": [
                {
                    "role": kind,
                    "model": target.model,
                    "proxy": target.proxy,
                    "ratio": ratio,
                    "ok": is_near(ratio, self.tolerance),
                    "weight_decay_factor": ratio * ratio,
                }
                for target in targets
                for kind, ratio in target.ratios.items()
            ],
            "targets": [asdict(target) for target in targets],
            "advice": advice_of(targets, self.tolerance, every=every),
            "widths": {member.model: member.width for member in members},
            "proxy": _proxy(members).model if targets else None,
            "zero": len(finite) - len(known),
            "non_finite": sum(row.status == "non-finite" for row in rows),
        }
        return rows, summary

    def _members(self, rows: Sequence[Row]) -> list[Member]:
        members = {member.model: member for member in self.members}
        for row in rows:
            name, width = _model(row), row.place.labels.get("width")
            members.setdefault(name, Member(name, width if isinstance(width, int) else 0))
        return list(members.values())

    def _scaling(self, role: str, found: Sequence[tuple[Member, Layers]]) -> Scaling:
        sigma = {member.model: median(layers.values()) for member, layers in found}
        scaling = Scaling(
            role,
            counted=role not in OUTSIDE,
            models=len(found),
            layers=min((len(layers) for _, layers in found), default=0),
            sigma=sigma,
        )
        fitted = [(member, layers) for member, layers in found if member.width > 0]
        widths = {member.width for member, _ in fitted}
        if len(widths) < 2:
            return replace(scaling, reason="one width has no slope")
        return self._fitted(scaling, fitted)

    def _fitted(self, scaling: Scaling, found: Sequence[tuple[Member, Layers]]) -> Scaling:
        x = torch.tensor([member.width for member, _ in found], dtype=torch.float64).log()
        names = sorted(found[0][1])
        values = [
            torch.tensor([layers[name] for name in sorted(layers)], dtype=torch.float64)
            for _, layers in found
        ]
        scatter: Scatter | None
        if all(sorted(layers) == names for _, layers in found):
            scatter = paired_scatter(x, torch.stack(values))
        else:
            scatter = unpaired_scatter(x, values)
        y = log_medians(values)
        line = fit_line(x, y)
        interval = slope_interval(line, scatter, self.confidence)
        scaling = replace(scaling, slope=line.slope, widths=len(x.unique()))
        if interval is None:
            scaling = replace(scaling, reason="two models and one layer leave nothing to judge by")
        else:
            low, high, source = interval
            scaling = replace(scaling, low=low, high=high, interval_from=source)
        units = [_log_unit(member) for member, _ in found]
        known = [unit for unit in units if unit is not None]
        if len(known) < len(units):
            return scaling
        unit = torch.tensor(known, dtype=torch.float64)
        normalised = fit_line(x, y - unit)
        # What divides all layers of a model alike moves the slope of each draw as much.
        reach = slope_interval(normalised, scatter, self.confidence)
        return replace(
            scaling,
            expected=LAW + fit_line(x, unit).slope,
            normalised_slope=normalised.slope,
            normalised_low=reach.low if reach else None,
            normalised_high=reach.high if reach else None,
        )

    def _overall(self, roles: Sequence[Scaling], members: Sequence[Member]) -> Scaling | None:
        """Return the typical role's slope: each against its own mean, then their median.

        Roles play the part that layers have in one role. A single role speaks for itself.
        """
        names = {name for role in roles for name in role.sigma}
        shared = [role for role in roles if set(role.sigma) == names]
        if not shared:
            return None
        if len(shared) == 1:
            return replace(shared[0], role="overall")
        means = [_mean_log(role.sigma.values()) for role in shared]
        level = sum(means) / len(means)
        found = [
            (
                member,
                {
                    role.role: math.exp(math.log(role.sigma[member.model]) - mean + level)
                    for role, mean in zip(shared, means, strict=True)
                },
            )
            for member in members
            if member.model in names
        ]
        whole = self._scaling("overall", found)
        if whole.interval_from == "layers":
            whole = replace(whole, interval_from="roles")
        return whole

    def _target(self, member: Member, proxy: Member, roles: Sequence[Scaling]) -> Target:
        ratios = {
            role.role: _ratio(role.sigma, member.model, proxy.model)
            for role in roles
            if member.model in role.sigma and proxy.model in role.sigma
        }
        ratio = median(ratios.values()) if ratios else None
        now = member.weight_decay
        return Target(
            member.model,
            proxy.model,
            ratios,
            ratio,
            ok=None if ratio is None else is_near(ratio, self.tolerance),
            weight_decay_factor=None if ratio is None else ratio * ratio,
            weight_decay=now,
            weight_decay_needed=now * ratio * ratio if now and ratio else None,
        )

    def _matched(self, scaling: Scaling, main: Target | None) -> Scaling:
        if main is None or not {main.model, main.proxy} <= set(scaling.sigma):
            return scaling
        ratio = _ratio(scaling.sigma, main.model, main.proxy)
        return replace(
            scaling, ratio=ratio, ok=is_near(ratio, self.tolerance) if scaling.counted else None
        )


def layers_by_role(
    rows: Sequence[Row], members: Sequence[Member]
) -> list[tuple[str, list[tuple[Member, Layers]]]]:
    """Return every role that is there, with the sigma_max of every layer of each model.

    Args:
        rows: With a sigma_max above zero.
        members: The models, in the order in which they come back.
    """
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        layers = groups.setdefault((row.place.role, _model(row)), {})
        layers.setdefault(layer_name(row), []).append(row.number("sigma_max") or 0.0)
    return [
        (
            kind,
            [
                (member, {name: median(of) for name, of in groups[kind, member.model].items()})
                for member in members
                if (kind, member.model) in groups
            ],
        )
        for kind in in_order(kind for kind, _ in groups)
    ]


def above_zero(row: Row) -> bool:
    """Say whether a row has a sigma_max that has a logarithm."""
    return (row.number("sigma_max") or 0.0) > 0.0


def layer_name(row: Row) -> str:
    """Return the name of the layer's part that a matrix is; experts of one layer share it."""
    return f"{of_any_expert(row.place.tensor)}[{row.place.part}]"


def _model(row: Row) -> str:
    return str(row.place.labels.get("model", ""))


def _proxy(members: Sequence[Member]) -> Member:
    """Return the model that the others are to match: the one so marked, or the narrowest."""
    marked = [member for member in members if member.proxy]
    return marked[0] if marked else min(members, key=lambda member: member.width)


def _others(members: Sequence[Member]) -> list[Member]:
    if len(members) < 2:
        return []
    proxy = _proxy(members)
    others = [member for member in members if member is not proxy]
    return sorted(others, key=lambda member: -member.width)


def _ratio(sigma: Mapping[str, float], model: str, proxy: str) -> float:
    return min(max(sigma[model] / sigma[proxy], 1.0 / LIMIT), LIMIT)


def _log_unit(member: Member) -> float | None:
    """Return log sqrt(eta / lambda), or None where it is not known."""
    if not member.eta or not member.weight_decay or min(member.eta, member.weight_decay) <= 0.0:
        return None
    return 0.5 * (math.log(member.eta) - math.log(member.weight_decay))


def _mean_log(values: Collection[float]) -> float:
    return sum(map(math.log, values)) / len(values)
