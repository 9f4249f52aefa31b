"""Questions about one model, or about what an adapter makes of it."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Sequence
from dataclasses import replace

from spectra.analyzers import Heads, Kappa, Shared, Spectrum
from spectra.analyzers.metrics import words_of
from spectra.analyzers.tuned_spectrum import TunedSpectrum
from spectra.checkpoint import Adapter
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis, plan_for
from spectra.runs.composition import STRONGEST, Composition
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen, open  # noqa: A004
from spectra.runs.planned import Planned, asked, measure
from spectra.runs.tokens import in_tokens
from spectra.text import listed, shown
from spectra.words import By, Engine, Experts, Per, Preset, RankBy

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
def heads(
    model: Spec,
    *,
    compose: bool = False,
    strongest: int | None = None,
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
        strongest: How many pairs are told then; 20 by default.
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
    if strongest is not None and not compose:
        raise UsageError("--strongest is of pairs of heads, which nothing asks for. Add --compose.")
    if strongest is not None and strongest < 1:
        raise UsageError(f"--strongest {strongest} is too few. Expected at least 1.")
    opened = open(model, allow_pickle=allow_pickle, download=download, variant=variant)
    some = chosen(selection, include, exclude, role, layers)
    analysis = Analysis(Heads(fold=fold), plan_for(Heads(), [opened], some), some)
    question = Composition(analysis, fold, strongest or STRONGEST) if compose else analysis
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
    if some.roles:
        plan = plan_for(analyzer, [opened], some)
    else:
        try:
            plan = plan_for(analyzer, [opened], replace(some, roles=OF_CACHE))
        except NothingToAnalyseError as error:
            raise NothingToAnalyseError(_unasked(str(error))) from None
        plan = replace(plan, notes=tuple(map(_unasked, plan.notes)))
    return Planned(
        Analysis(analyzer, plan, some), device, workers, progress, cache, engine=engine,
        address=address, memory=memory,
    )  # fmt: skip


def _unasked(text: str) -> str:
    """Return what is said of roles that nobody gave, without the options that would give them."""
    options = [f"--role {one}" for one in OF_CACHE]
    text = text.replace(" ".join(options), f"{listed(OF_CACHE)} (no role is given)")
    for option, one in zip(options, OF_CACHE, strict=True):
        text = text.replace(option, f"{one} (no role is given)")
    return text
