"""The analyses as functions: the same words as the command line."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from spectra.analyzers import Diff, Heads, Kappa, Match, Shared, Spectrum, Trend, Width
from spectra.analyzers.metrics import words_of
from spectra.analyzers.spectrum import TunedSpectrum
from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.damaged import open_damaged
from spectra.errors import UsageError
from spectra.gate import References, plan_check
from spectra.matrices import Selection
from spectra.policy import Policy
from spectra.policy.given import Options, changed, policy_in_force
from spectra.runs.analysis import Analysis, plan_for
from spectra.runs.composition import Composition
from spectra.runs.family import Given, plan_trend, plan_width
from spectra.runs.matching import plan_match
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen, open  # noqa: A004
from spectra.runs.planned import Planned, asked, measure
from spectra.runs.several import Beside, plan_diff
from spectra.runs.tokens import in_tokens, require_intruders
from spectra.text import shown
from spectra.words import By, Engine, Experts, FailOn, Frame, Per, Preset, RankBy, Sides

OF_CACHE = ("attn.k", "attn.v")
"""What makes keys and values, which a cache holds."""


@asked
def spectrum(
    model: Spec,
    *,
    base: Spec | None = None,
    energy: float = 0.99,
    metrics: str | Sequence[str] | None = None,
    seed: int = 0,
    dct_rank: int | None = None,
    preset: Preset | None = None,
    select: str | int | None = None,
    factors: bool = False,
    experts: Experts = "single",
    tokens: bool = False,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return the singular spectrum of every matrix and its summaries.

    Args:
        model: What `spectra.open` accepts; of an adapter its own matrices and their products.
        base: Of an adapter, what it was trained on: the spectra are those of both together.
        energy: Share of sum sigma^2 that `energy_rank` keeps, in (0, 1].
        metrics: What is told: `basic`, `powerlaw`, `mp`, `random`, `dct`, `all`, or keys such as
            `alpha`; a list, or a text with commas. Only that is computed; without it some of the
            first three.
        seed: Of the order of shuffled entries, for `random`, and of a random basis, for `dct`.
        dct_rank: Of `dct`, how many columns of a cosine basis stand against as many singular
            vectors; by default a quarter of the shorter side.
        preset: `weightwatcher`: `.frame` and files of lines have its columns, the summary its
            averages; `spectrum`: matrices have its SNR, of which `select` takes the highest.
        select: With `preset="spectrum"`, `50%` of each type of layer or how many, for `.export`.
        factors: Also the stored factors of matrices that are products of two.
        experts: `single`, or `pooled`: one row for all experts of a layer and role.
        tokens: Also read the leading singular directions of what touches the residual stream by
            the output head or the embedding: their highest and lowest tokens.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    opened = [
        open(one, allow_pickle=allow_pickle, download=download, variant=variant)
        for one in (base, model)
        if one is not None
    ]
    if base is not None and not isinstance(opened[-1], Adapter):
        raise UsageError(
            f"{shown(opened[0].spec)} is given as the base of {shown(opened[-1].spec)}, which is a "
            "model, not an adapter: its spectra need none. Leave it out, or compare: `spectra diff "
            f"{shown(opened[0].spec)} {shown(opened[-1].spec)}`."
        )
    few, words = None if select is None else str(select), words_of(metrics)
    question: Spectrum | TunedSpectrum
    if base is None:
        question = Spectrum(energy, words, seed, preset, few, dct_rank, factors, experts)
    elif factors or experts != "single":
        told = "factors" if factors else "experts"
        raise UsageError(
            f"--{told} is about a model or an adapter alone, --base about both together. Leave out "
            "one of the two."
        )
    else:
        question = TunedSpectrum(energy, words, seed, preset, few, dct_rank)
    if tokens and experts != "single":
        raise UsageError(
            "--tokens is of the directions of each matrix, and --experts pooled has one row for "
            "several. Leave out one of the two."
        )
    some = chosen(selection, include, exclude, role, layers)
    analysis = Analysis(question, plan_for(question, opened, some), some)
    return Planned(
        in_tokens(analysis) if tokens else analysis,
        device, workers, progress, cache, engine=engine, address=address, memory=memory,
    )  # fmt: skip


@asked
def diff(
    base: Spec,
    tuned: Spec | Sequence[Spec],
    *,
    intruders: bool = False,
    k: int = 10,
    epsilon: float = 0.5,
    side: Sides = "left",
    exact: bool = False,
    full_spectrum: bool = False,
    merged_rank: int | None = None,
    frame: Frame | None = None,
    dct_rank: int | None = None,
    per_head: bool = False,
    trend: bool = False,
    sorsa: bool = True,
    tokens: bool = False,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return what fine-tuning changed in every matrix.

    Args:
        base: The model before.
        tuned: The model after, or a PEFT LoRA folder; or several, of which is also told how their
            changes lie to each other.
        intruders: Also look for intruder dimensions.
        k: Leading singular vectors of the tuned matrix to examine.
        epsilon: An intruder's largest |cos| with any base vector lies below.
        side: Compare `left` (output-side) or `right` singular vectors, or `both` in one run.
        exact: Decide every verdict by two full decompositions; slower.
        full_spectrum: Compute all singular values of every change, for `delta_effective_rank` and
            `delta_energy_rank`; without it they are None where only all tell.
        merged_rank: Of several: what a cut of the sum of their changes to this rank loses of each.
        frame: `base`: also tell where in the base's singular frame every change lies; slower.
        dct_rank: Also tell what so many columns of a cosine basis hold of every change, beside as
            many singular vectors; takes all singular values of every change.
        per_head: Take the matrices of attention head by head, and rank the heads.
        trend: Of checkpoints of one run: change, intruders and SORSA's measures from step to step.
        sorsa: With `trend` also compare all singular triplets, which takes a full decomposition of
            every matrix in the base and in each checkpoint.
        tokens: With `intruders` also tell what each writes or reads in tokens, beside what its
            best match in the base did.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

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
        frame=frame,
        dct_rank=dct_rank,
        per_head=per_head,
    )
    opener = partial(open, allow_pickle=allow_pickle, download=download, variant=variant)
    every = [tuned] if isinstance(tuned, str | Path | Checkpoint | Adapter) else tuned
    before, after = opener(base), [*map(opener, every)]
    some = chosen(selection, include, exclude, role, layers)
    if tokens:
        require_intruders(len(after), intruders=intruders, trend=trend)
    planned = plan_diff(before, after, analyzer, some, Beside(merged_rank, trend, sorsa))
    return Planned(
        in_tokens(planned) if tokens else planned,
        device, workers, progress, cache, engine=engine, address=address, memory=memory,
    )  # fmt: skip


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
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
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
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

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
    return measure.plan(
        analyzer,
        open(model, allow_pickle=allow_pickle, download=download, variant=variant),
        selection=chosen(selection, include, exclude, role, layers),
        device=device,
        workers=workers,
        memory=memory,
        progress=progress,
        cache=cache,
        engine=engine,
        address=address,
    )


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
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
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
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

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
    opener = partial(open, allow_pickle=allow_pickle, download=download, variant=variant)
    proxy = None if against is None else opener(against)
    some = chosen(selection, include, exclude, role, layers)
    planned = plan_width([*map(opener, models)], proxy, given, Width(tolerance=tolerance), some)
    return Planned(
        planned, device, workers, progress, cache, engine=engine, address=address, memory=memory
    )


@asked
def heads(
    model: Spec,
    *,
    compose: bool = False,
    strongest: int = 20,
    fold: bool = True,
    tokens: bool = False,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return what every head of attention moves, OV, and where it looks, QK.

    Args:
        model: What `spectra.open` accepts, save adapters.
        compose: Also compare every head with all earlier ones: how much of what these write its
            queries, keys and values read.
        strongest: How many pairs are told then.
        fold: Multiply the gains of norms into what reads through them, where they are known.
        tokens: Also read the strongest components of OV and QK by the output head and the
            embedding: their highest and lowest tokens, and how much each head copies tokens.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    if strongest < 1:
        raise UsageError(f"--strongest {strongest} is too few. Expected at least 1.")
    opened = open(model, allow_pickle=allow_pickle, download=download, variant=variant)
    some = chosen(selection, include, exclude, role, layers)
    analysis = Analysis(Heads(fold=fold), plan_for(Heads(), [opened], some), some)
    question = Composition(analysis, fold, strongest) if compose else analysis
    return Planned(
        in_tokens(question, fold=fold) if tokens else question,
        device, workers, progress, cache, engine=engine, address=address, memory=memory,
    )  # fmt: skip


@asked
def shared(
    model: Spec,
    *,
    group: int | str = 4,
    rank: int | None = None,
    seed: int = 0,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return whether neighbouring layers read one subspace of their inputs.

    Args:
        model: What `spectra.open` accepts, save adapters.
        group: Layers at a time, at least 2; or several sizes, `"2,4"`, that lie in each other.
        rank: Of a layer alone; by default a quarter of the shorter side. Groups get the rank that
            as many parameters allow.
        seed: Of the bases of layers that share nothing, which chance is measured by.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: These roles in place of `"attn.k"` and `"attn.v"`.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    analyzer = Shared(group=str(group), rank=rank, seed=seed)
    opened = open(model, allow_pickle=allow_pickle, download=download, variant=variant)
    some = chosen(selection, include, exclude, role, layers)
    plan = plan_for(analyzer, [opened], some if some.roles else replace(some, roles=OF_CACHE))
    return Planned(
        Analysis(analyzer, plan, some), device, workers, progress, cache, engine=engine,
        address=address, memory=memory,
    )  # fmt: skip


@asked
def match(
    first: Spec,
    second: Spec,
    *,
    permutation: str | Path | None = None,
    save_permutation: str | Path | None = None,
    gamma: float = 0.3,
    k: int = 10,
    all_directions: bool = False,
    seed: int = 0,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return whether two models are the same, or related, up to the order of units and heads.

    Args:
        first: The model that stays as it is.
        second: One of the same architecture, whose units and heads are put in another order.
        permutation: A safetensors file of permutations, in place of those that are looked for.
        save_permutation: Where those that were found are written, as such a file.
        gamma: Singular directions count as leading from this share of sigma max on, 0 to 1.
        k: Leading singular directions whose overlap is told.
        all_directions: Also tell R of all singular directions, and of as many leading ones as gamma
            leaves: two decompositions of every matrix, in place of the k leading directions.
        seed: Of the orders that chance is measured by.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: The model cannot be read or nothing is left to analyse.
    """
    opener = partial(open, allow_pickle=allow_pickle, download=download, variant=variant)
    some = chosen(selection, include, exclude, role, layers)
    analyzer = Match(gamma=gamma, k=k, all_directions=all_directions, seed=seed)
    planned = plan_match(
        opener(first), opener(second), analyzer, some, permutation, save_permutation
    )
    return Planned(
        planned, device, workers, progress, cache, engine=engine, address=address, memory=memory
    )


@asked
def trend(
    checkpoints: Sequence[Spec],
    *,
    include: Globs = (),
    exclude: Globs = (),
    role: Globs = (),
    layers: Layers = "",
    selection: Selection | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return how sigma_max, stable rank and kappa of every role move over one run's steps.

    Args:
        checkpoints: Two of one run or more, in any order; each tells its step by its
            trainer_state.json or its name.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: A checkpoint cannot be read, they are not of one run, or a step is
            unknown or there twice.
    """
    opener = partial(open, allow_pickle=allow_pickle, download=download, variant=variant)
    some = chosen(selection, include, exclude, role, layers)
    planned = plan_trend([*map(opener, checkpoints)], Trend(), some)
    return Planned(
        planned, device, workers, progress, cache, engine=engine, address=address, memory=memory
    )


@asked
def check(
    model: Spec,
    *,
    policy: str | Path | Policy | None = None,
    base: Spec | None = None,
    adapter: Spec | None = None,
    baseline: Spec | None = None,
    select: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    fail_on: FailOn | None = None,
    min_coverage: str | float | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
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
        select: Only these rules: codes, beginnings of codes, or names.
        ignore: Not these.
        fail_on: The least severe finding that fails; `error` where the policy has none.
        min_coverage: The share of the tensors that must be judged: 0.99 or `"99%"`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Returns:
        `.summary["passed"]`, `["findings"]`, `["coverage"]`; `.rows` with all that was measured.

    Raises:
        SpectraError: The model or policy cannot be read.
    """
    opener = partial(open_damaged, allow_pickle=allow_pickle, download=download, variant=variant)
    models = References(opener)
    options = Options(
        base=models.named(base),
        adapter=models.named(adapter),
        baseline=models.named(baseline),
        select=_texts(select),
        ignore=_texts(ignore),
        fail_on=fail_on,
        min_coverage=min_coverage,
    )
    if not isinstance(policy, Policy):
        path = None if policy is None else Path(policy)
        policy = policy_in_force(path, isolated=True)
    planned = plan_check(str(models.named(model)), changed(policy, options), models.opened)
    return Planned(
        planned, device, workers, progress, cache, engine=engine, address=address, memory=memory
    )


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _numbers(given: float | Sequence[float]) -> tuple[float, ...]:
    return (float(given),) if isinstance(given, int | float) else tuple(given)
