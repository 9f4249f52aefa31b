"""What models changed: a fine-tune, the checkpoints of a run, or a training of its own."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from spectra.analyzers import Diff, Match, Trend
from spectra.checkpoint import Adapter, Checkpoint
from spectra.matrices import Selection
from spectra.runs.family import plan_trend
from spectra.runs.matching import plan_match
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen, open  # noqa: A004
from spectra.runs.planned import Planned, asked
from spectra.runs.several import Beside, plan_diff
from spectra.runs.tokens import in_tokens, require_intruders
from spectra.words import Engine, Frame, Sides


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
