"""What the slopes of a family say, in sentences: the reading on top, and the advice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spectra.numbers import EXACT, estimate, number, percent, signed
from spectra.text import counted, shown

FIXED, COUPLED = 0.25, -0.25  # slopes where eta ~ 1/d and lambda, or eta * lambda, is constant
SAME = 0.02  # relative: rates that are written down are rounded
NAMED = 4  # roles that a sentence names
SLACK = 1e-9  # a ratio of exactly 1.1 is within 10 %


@dataclass(frozen=True, slots=True)
class Scaling:
    """How one role's sigma_max goes with the width; keys as in docs/quantities.md."""

    role: str
    counted: bool  # the law is about it
    models: int  # that have it
    layers: int  # that the model with the fewest has
    sigma: Mapping[str, float]  # median over layers, by model
    widths: int = 0  # distinct ones of the fit
    slope: float | None = None
    low: float | None = None
    high: float | None = None
    interval_from: str | None = None  # layers, models, both; roles
    reason: str | None = None  # why there is no slope, or no interval
    ratio: float | None = None  # of the main model to the proxy
    ok: bool | None = None
    expected: float | None = None  # slope, from eta and lambda
    normalised_slope: float | None = None  # of sigma_max / sqrt(eta / lambda)
    normalised_low: float | None = None
    normalised_high: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One model against the proxy."""

    model: str
    proxy: str
    ratios: Mapping[str, float] = field(default_factory=dict)  # by role
    ratio: float | None = None  # their median
    ok: bool | None = None
    weight_decay_factor: float | None = None
    weight_decay: float | None = None
    weight_decay_needed: float | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What is known of a model's training."""

    width: int
    eta: float | None
    weight_decay: float | None


def reading_of(
    overall: Scaling | None, main: Target | None, trained: Sequence[Trained], zero: int
) -> str:
    """Return the sentences on top.

    Args:
        overall: The typical role's slope; None where no hidden matrix was measured.
        main: The widest model against the proxy.
        trained: Every model's width, learning rate and weight decay.
        zero: How many matrices are zero.
    """
    if overall is None:
        text = "No hidden matrix could be measured in every model."
    elif overall.slope is not None:
        text = _slope_read(overall, overall.slope, trained)
    elif main is not None and main.ratio is not None:
        text = (
            f"sigma_max of {shown(main.model)} is {_times(main.ratio)} that of "
            f"{shown(main.proxy)} ({_median(main)}); {overall.reason}."
        )
    else:
        text = f"Nothing to compare: {overall.reason}."
    if zero:
        text += f" Left out: {counted(zero, 'matrix that is', 'matrices that are')} zero."
    return text


def is_near(ratio: float, tolerance: float) -> bool:
    """Say whether a ratio is 1 within the tolerance."""
    return abs(ratio - 1.0) <= tolerance + SLACK


def advice_of(targets: Sequence[Target], tolerance: float, *, every: bool) -> list[str]:
    """Return what would make the models match the proxy.

    Args:
        targets: Models against the proxy, the widest first.
        tolerance: A ratio matches within 1 +- this.
        every: Speak of all of them, not only of the widest.
    """
    return [_advice(target, tolerance) for target in (targets if every else targets[:1])]


def _slope_read(found: Scaling, slope: float, trained: Sequence[Trained]) -> str:
    """Say how sigma_max goes with the width, and which known case that is."""
    over = f"over {counted(found.widths, 'width')}"
    if found.models > found.widths:
        over += f" in {found.models} models"
    cases = _cases(slope, found.expected, trained)
    legend = ", ".join(f"{_signed(value)} = {name}" for value, name in cases)
    if found.low is None or found.high is None:
        text = f"sigma_max has slope {signed(slope)} {over} ({legend})"
        return f"{text}; no interval: {found.reason}."
    low, high = found.low, found.high
    if low > 0.0 or high < 0.0:
        head = f"sigma_max {'grows' if low > 0.0 else 'falls'} with width"
    elif low > COUPLED and high < FIXED:
        head = "sigma_max shows no change with width"
    else:
        head = "Whether sigma_max changes with width cannot be told"
    interval = f"{signed(slope)} [{signed(low)}, {signed(high)}]"
    text = f"{head}: slope {interval} {over} ({legend})."
    inside = [name for value, name in cases if low <= value <= high]
    if len(cases) == 1:
        text += f" {'Consistent' if inside else 'Not consistent'} with that."
    elif len(inside) == 1:
        text += f" Consistent with {inside[0]}, not with {_other(cases, inside[0])}."
    else:
        text += f" Consistent with {'both' if inside else 'neither'}."
    if found.models == 2:
        text += " How much two runs differ by chance is not in the interval."
    return text


def _cases(
    slope: float, expected: float | None, trained: Sequence[Trained]
) -> list[tuple[float, str]]:
    """Return the slopes to compare with: no change, and what training leads to."""
    if expected is None:
        other = (FIXED, "weight decay held fixed") if slope >= 0.0 else \
            (COUPLED, "eta * lambda held fixed")  # fmt: skip
        return [(0.0, "matched"), other]
    if abs(expected) < SAME / 2.0:
        return [(0.0, "matched, as these eta and lambda lead to")]
    return [(0.0, "matched"), (expected, _named(trained))]


def _named(trained: Sequence[Trained]) -> str:
    """Return what the paper calls this way of scaling eta and lambda."""
    known = [(one.width, one.eta or 0.0, one.weight_decay or 0.0) for one in trained]
    if _constant([width * eta for width, eta, _ in known]):
        if _constant([decay for _, _, decay in known]):
            return "weight decay held fixed"
        if _constant([eta * decay for _, eta, decay in known]):
            return "eta * lambda held fixed"
    return "what these eta and lambda lead to"


def _constant(values: Sequence[float]) -> bool:
    return max(values) <= (1.0 + SAME) * min(values)


def _advice(target: Target, tolerance: float) -> str:
    model, proxy = shown(target.model), shown(target.proxy)
    within = percent(tolerance, EXACT)
    if target.ratio is None or target.weight_decay_factor is None:
        return f"{model} and {proxy} have no hidden matrix in common that could be measured."
    if target.ok:
        apart = _apart(target.ratios, 1.0, tolerance)
        if not apart:
            return f"{model} matches {proxy} within {within} in every role: keep its weight decay."
        return (
            f"{model} matches {proxy} within {within} on the whole (ratio {number(target.ratio)}), "
            f"but not in {apart}: no weight decay common to all matrices mends that."
        )
    if target.weight_decay_needed is None:
        text = (
            f"Matching {model} to {proxy} needs {estimate(target.weight_decay_factor)} times its "
            "weight decay on matrices."
        )
    else:
        now = number(target.weight_decay or 0.0, EXACT)
        text = (
            f"Matching {model} to {proxy} needs weight decay "
            f"{estimate(target.weight_decay_needed)} (now {now}) on matrices."
        )
    apart = _apart(target.ratios, target.ratio, tolerance)
    return f"{text} That leaves outside {within}: {apart}." if apart else text


def _apart(ratios: Mapping[str, float], middle: float, tolerance: float) -> str:
    apart = {
        role: ratio / middle
        for role, ratio in ratios.items()
        if not is_near(ratio / middle, tolerance)
    }
    worst = sorted(apart, key=lambda role: -max(apart[role], 1.0 / apart[role]))
    named = [f"{role} ({number(apart[role])})" for role in worst[:NAMED]]
    if len(worst) > NAMED:
        named.append(f"{len(worst) - NAMED} more")
    return ", ".join(named)


def _other(cases: Sequence[tuple[float, str]], name: str) -> str:
    return next(other for _, other in cases if other != name)


def _median(target: Target) -> str:
    if len(target.ratios) == 1:
        return next(iter(target.ratios))
    return f"median of {len(target.ratios)} roles"


def _times(ratio: float) -> str:
    return f"{number(ratio)} times"


def _signed(value: float) -> str:
    return signed(value) if abs(value) >= 0.005 else "0"
