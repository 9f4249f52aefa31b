"""The analyses as functions: the same words as the command line."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Sequence
from pathlib import Path

from spectra.analyzers import Diff, Kappa, Spectrum, Trend, Width
from spectra.gate import References, plan_check
from spectra.matrices import Selection
from spectra.policy import Policy
from spectra.policy.given import Options, changed, policy_in_force
from spectra.runs.family import Given, plan_trend, plan_width
from spectra.runs.opening import Spec, open  # noqa: A004
from spectra.runs.planned import Planned, asked, measure
from spectra.words import By, Per, RankBy, Side


@asked
def spectrum(
    model: Spec,
    *,
    energy: float = 0.99,
    selection: Selection | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Planned:
    """Return the singular spectrum of every matrix and its summaries.

    Args:
        model: What `spectra.open` accepts, save adapters.
        energy: Share of sum sigma^2 that `energy_rank` keeps, in (0, 1].
        selection: Which matrices; all by default.
        device: As for `measure`.
        workers: As for `measure`.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    return measure.plan(
        Spectrum(energy=energy), model, selection=selection, device=device, workers=workers
    )


@asked
def diff(
    base: Spec,
    tuned: Spec,
    *,
    intruders: bool = False,
    k: int = 10,
    epsilon: float = 0.5,
    side: Side = "left",
    exact: bool = False,
    full_spectrum: bool = False,
    selection: Selection | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Planned:
    """Return what fine-tuning changed in every matrix.

    Args:
        base: The model before.
        tuned: The model after, or a PEFT LoRA folder.
        intruders: Also look for intruder dimensions.
        k: Leading singular vectors of the tuned matrix to examine.
        epsilon: An intruder's largest |cos| with any base vector lies below.
        side: Compare `left` (output-side) or `right` singular vectors.
        exact: Decide every verdict by two full decompositions; slower.
        full_spectrum: Compute all singular values of every change, for `delta_effective_rank` and
            `delta_energy_rank`; without it they are None where only all tell.
        selection: Which matrices; all by default.
        device: As for `measure`.
        workers: As for `measure`.

    Raises:
        SpectraError: A model cannot be read, the two do not fit, or nothing is left.
    """
    analyzer = Diff(
        intruders=intruders,
        k=k,
        epsilon=epsilon,
        side=side,
        exact=exact,
        full_spectrum=full_spectrum,
    )
    return measure.plan(analyzer, base, tuned, selection=selection, device=device, workers=workers)


@asked
def kappa(
    model: Spec,
    *,
    select: str | int | None = None,
    by: By = "matrices",
    per: Per = "global",
    rank_by: RankBy = "kappa",
    include_embeddings: bool = False,
    exact: bool = False,
    selection: Selection | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Planned:
    """Return the condition number of every candidate matrix, and the selected ones.

    Args:
        model: What `spectra.open` accepts, save adapters.
        select: `10%` of the candidates, or a number of them; lowest first.
        by: What a share is of and a number counts: `matrices`, or `params`, their parameters.
        per: The share of all candidates, `global`, or of those of each `role`.
        rank_by: `kappa`, as published, or `kappa_excess`: kappa over what a Gaussian matrix of
            the same shape has.
        include_embeddings: Embeddings and output heads are candidates too.
        exact: Decompose every matrix in full, where otherwise both ends of its spectrum are
            proven to a thousandth, and what lies outside the selection may stop at a bound.
        selection: Which matrices; all candidates by default.
        device: As for `measure`.
        workers: As for `measure`.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    analyzer = Kappa(
        select=None if select is None else str(select),
        by=by,
        per=per,
        rank_by=rank_by,
        include_embeddings=include_embeddings,
        exact=exact,
    )
    return measure.plan(analyzer, model, selection=selection, device=device, workers=workers)


@asked
def width(
    models: Sequence[Spec],
    *,
    against: Spec | None = None,
    eta: float | Sequence[float] = (),
    weight_decay: float | Sequence[float] = (),
    widths: Sequence[int] = (),
    training: str | Path | None = None,
    tolerance: float = 0.1,
    allow_pickle: bool = False,
    selection: Selection | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Planned:
    """Return how the largest singular value of every role scales with the models' width.

    Args:
        models: Two of one family and different width or more, depths may differ; one is
            enough beside `against`.
        against: The proxy that the others are to match; the narrowest by default.
        eta: Learning rate of the matrices, one for all or one a model, the proxy's last.
        weight_decay: Their decoupled weight decay, lambda, likewise.
        widths: Of each model; read from shapes by default.
        training: A TOML file with a table a model of `eta` and `lambda`.
        tolerance: A ratio to the proxy matches within 1 +- this.
        allow_pickle: Also read eta and lambda from an `optimizer.pt`, as data.
        selection: Which matrices; all by default.
        device: As for `measure`.
        workers: As for `measure`.

    Raises:
        SpectraError: A model cannot be read, they are of no family, or nothing scales.
    """
    given = Given(
        tuple(widths),
        _numbers(eta),
        _numbers(weight_decay),
        Path(training) if training is not None else None,
        allow_pickle,
    )
    opened = [open(model, allow_pickle=allow_pickle) for model in models]
    proxy = None if against is None else open(against, allow_pickle=allow_pickle)
    analyzer = Width(tolerance=tolerance)
    planned = plan_width(opened, proxy, given, analyzer, selection or Selection())
    return Planned(planned, device, workers)


@asked
def trend(
    checkpoints: Sequence[Spec],
    *,
    selection: Selection | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Planned:
    """Return how sigma_max, stable rank and kappa of every role move over one run's steps.

    Args:
        checkpoints: Two of one run or more, in any order; each tells its step by its
            trainer_state.json or its name.
        selection: Which matrices; all by default.
        device: As for `measure`.
        workers: As for `measure`.

    Raises:
        SpectraError: A checkpoint cannot be read, they are not of one run, or a step is
            unknown or there twice.
    """
    opened = [open(checkpoint) for checkpoint in checkpoints]
    return Planned(plan_trend(opened, Trend(), selection or Selection()), device, workers)


@asked
def check(
    model: Spec,
    *,
    policy: str | Path | Policy | None = None,
    base: Spec | None = None,
    adapter: Spec | None = None,
    baseline: Spec | None = None,
    rules: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
) -> Planned:
    """Return what the rules of a release gate find in a model.

    Args:
        model: A folder, file, repository of the Hub, or adapter. What was opened before is whole:
            rules on damaged files and on the index find nothing in it.
        policy: A policy file, or a `spectra.policy.Policy`; the defaults where there is none: no
            file is looked for.
        base: What the model was trained from, for the rules SPC1xx.
        adapter: A LoRA adapter that should be in the model once, for SPC107.
        baseline: The release before: a model, or the JSON of an earlier check.
        rules: Only these: codes, beginnings of codes, or names.
        ignore: Not these.
        device: As for `measure`.
        workers: As for `measure`.

    Returns:
        `.summary["passed"]`, `["findings"]`, `["coverage"]`; `.rows` with all that was measured.

    Raises:
        SpectraError: The model or policy cannot be read.
    """
    models = References()
    options = Options(
        base=models.named(base),
        adapter=models.named(adapter),
        baseline=models.named(baseline),
        select=_texts(rules),
        ignore=_texts(ignore),
    )
    if not isinstance(policy, Policy):
        path = None if policy is None else Path(policy)
        policy = policy_in_force(path, isolated=True)
    planned = plan_check(str(models.named(model)), changed(policy, options), models.opened)
    return Planned(planned, device, workers)


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _numbers(given: float | Sequence[float]) -> tuple[float, ...]:
    return (float(given),) if isinstance(given, int | float) else tuple(given)
