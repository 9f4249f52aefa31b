"""Fine-tunes whose intruders are scaled down, or whose updates lose their tail, written again."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

from spectra.analyzers.repaired import SCALE, Form, Repaired
from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.checkpoint.codecs.composed import made_of
from spectra.checkpoint.entry import FLOATING
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.lowrank.model import Model, whole_vectors
from spectra.lowrank.refit import Refit
from spectra.lowrank.rewriting import Home
from spectra.lowrank.sources import refuse_other_names
from spectra.lowrank.writing import Writing, ready
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.text import counted, shown, some
from spectra.words import Engine, Side
from spectra.work import Plan, plan_pair
from spectra.work.planning.placing import NO_BASE
from spectra.work.planning.plan import require_base
from spectra.work.task import Replaced, Task, Updated


@asked
def repair(
    base: Spec,
    tuned: Spec,
    output: str | Path,
    *,
    scale: float = SCALE,
    all: bool = False,  # noqa: A002 - the option's name
    min_energy: float | None = None,
    truncate: float | str | None = None,
    rank: int | None = None,
    merged: bool = False,
    k: int = 10,
    epsilon: float = 0.5,
    side: Side = "left",
    exact: bool = False,
    force: bool = False,
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
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Write a fine-tune again with its intruder dimensions scaled down.

    W1' = W1 + (scale - 1) sum u_i sigma_i v_i^T, over the leading intruder of each matrix as
    published, or more of them. All that is not repaired stays as it is, byte for byte; what is
    written is looked at again. Without an intruder it is what was there.

    Args:
        base: The model before; it may be quantised.
        tuned: The model after, or a LoRA adapter.
        output: The folder that is written, whole or not at all.
        scale: Of an intruder's singular value that is left; 0 takes it out, 1 changes nothing.
        all: Every intruder, not the leading one of each matrix alone.
        min_energy: Of all intruders those with this share of their matrix's sum sigma^2.
        truncate: In place of scaling, cut each update to so many directions, or, below 1 or as
            `"90%"`, to as many as hold this share of its energy.
        rank: Of an adapter, directions of each module at most; a repair adds some otherwise.
        merged: Of an adapter, write the base with it instead, as a checkpoint.
        k: Leading singular vectors of each tuned matrix that are examined.
        epsilon: An intruder's largest |cos| with any base vector lies below.
        side: `left`, output-side as published, or `right`, input-side singular vectors.
        exact: Decide every verdict by two full decompositions.
        force: Replace what is there.
        include: Globs on names; only matrices that one of them fits, such as `"*.mlp.*"`.
        exclude: Globs on names; no matrix that one of them fits.
        role: Only these roles, such as `"attn.q"`, or `"attn"` for all that begin so.
        layers: Only these, counted from 0: `[0, 1]`, a range, or `"0-5,11"`.
        selection: In place of these four, a `spectra.Selection`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: A model cannot be read, they do not fit, or the folder cannot be written.
    """
    before, after = (
        opened(one, allow_pickle=allow_pickle, download=download, variant=variant)
        for one in (base, tuned)
    )
    before = require_base(before, after, "lowrank repair")
    cut = cut_of(truncate)
    if cut is not None and (all or min_energy is not None or scale != SCALE):
        raise UsageError(
            "--truncate cuts updates, --scale, --all and --min-energy scale intruders. Expected "
            "the one or the other; one can be repaired after the other."
        )
    form: Form = "merged" if merged else "adapter"
    if not isinstance(after, Adapter):
        form = "model"
    if rank is not None and (form != "adapter" or cut is not None):
        why = "--truncate cuts updates already" if cut is not None else "a checkpoint has no rank"
        raise UsageError(
            f"--rank {rank} is of an adapter that is repaired, and {why}. Leave it out."
        )
    analyzer = Repaired(
        scale=scale, all=all, min_energy=min_energy, truncate=cut, rank=rank, form=form,
        k=k, epsilon=epsilon, side=side, exact=exact,
    )  # fmt: skip
    some = chosen(selection, include, exclude, role, layers)
    make = _of_adapter if form == "adapter" else _of_model
    repairing = make(before, after, analyzer, some, Path(output), force=force)
    return Planned(
        repairing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


def cut_of(given: float | str | None) -> int | float | None:
    """Return a rank, or a share of the energy as a float.

    Raises:
        UsageError: It is neither.
    """
    if given is None:
        return None
    text = str(given).strip()
    try:
        found = float(text.removesuffix("%"))
    except ValueError:
        found = -1.0
    share = found / 100.0 if text.endswith("%") else found
    whole = text.isdecimal() or (found >= 1.0 and found.is_integer() and text == given)
    if whole and not text.endswith("%"):
        return int(found)
    if not 0.0 < share <= 1.0 or isinstance(given, bool):
        raise UsageError(
            f"--truncate {given!r} is neither a rank nor a share. Expected directions of each "
            "update, or a share of its energy: 8, 0.9 or 90%."
        )
    return share


def _of_model(
    base: Checkpoint | Adapter,
    tuned: Checkpoint | Adapter,
    analyzer: Repaired,
    selection: Selection,
    path: Path,
    *,
    force: bool,
) -> Writing:
    """Plan a checkpoint: the tuned one, or the base with an adapter in it."""
    plan = plan_pair(base, tuned, selection)
    model = _model(base if isinstance(tuned, Adapter) else tuned)
    tasks: list[Task] = []
    homes: dict[str, Home] = {}
    refused: list[Skipped] = []
    for task in plan.tasks:
        if task.inputs[0].change is None:
            continue
        home = _home(task, model)
        if home is None and not isinstance(tuned, Adapter):
            change = task.inputs[0].change
            factors = isinstance(change, Replaced) and made_of(change.entry)
            how = "as factors" if factors else "quantised"
            refused.append(Skipped(task.place.matrix, f"not repaired: it is stored {how}"))
            continue
        homes[task.place.matrix] = home or _refuse_quantised(task, model)
        tasks.append(task)
    _require(tasks, tuned, plan, refused)
    rest, vectors, notes = list[Task](), {}, plan.notes
    if isinstance(tuned, Adapter):
        rest = _others(base, tuned, selection, homes)
        homes |= {one.place.matrix: _home(one, model) or _refuse_quantised(one, model)
                  for one in rest}  # fmt: skip
        vectors = whole_vectors(model, tuned)
        if rest:
            what = counted(len(rest), "matrix that is", "matrices that are")
            notes += (f"{what} not chosen get the adapter's update as it is",)
        if lost := [item.tensor for item in plan.skipped if item.reason == NO_BASE]:
            what = counted(len(lost), "tensor")
            told = f"the base lacks {what} of the adapter, not written: {some(lost, 3)}"
            notes += (told,)
    read = [one for one in (base, tuned) if isinstance(one, Checkpoint)]
    output = Model.of(path, model, homes, vectors, force=force, read=read)
    skipped = (*plan.skipped, *refused, *output.left_out)
    plan = replace(plan, tasks=tuple(tasks), skipped=skipped, notes=notes)
    return ready(Analysis(analyzer, plan, selection), replace(output, rest=rest))


def _home(task: Task, model: Checkpoint) -> Home | None:
    """Return where a matrix lies in the checkpoint that is written; None: quantised."""
    one = task.inputs[0]
    anew = isinstance(one.change, Replaced) and one.change.source is model
    own = one.change if isinstance(one.change, Replaced) and anew else one.view
    plain = own.entry.codec is None and own.entry.dtype in FLOATING
    return Home(own.entry, own.part) if plain else None


def _refuse_quantised(task: Task, model: Checkpoint) -> Home:
    if made_of(task.views[0].entry):
        raise UsageError(
            f"{shown(model.spec)} stores {task.place.matrix} as factors, and what an adapter makes "
            "of their product is no product of so few. Leave out --merged, or give a dense base."
        )
    raise UsageError(
        f"{shown(model.spec)} is quantised ({task.place.matrix}), and what an adapter makes of "
        "that is not written in its scheme. Leave out --merged, or give the base as it was before."
    )


def _others(
    base: Checkpoint | Adapter, tuned: Adapter, selection: Selection, chosen: Container[str]
) -> list[Task]:
    """Return the matrices that an adapter changes besides those that are chosen."""
    if selection == Selection():
        return []
    return [
        task for task in plan_pair(base, tuned, Selection()).tasks
        if task.inputs[0].change is not None and task.place.matrix not in chosen
    ]  # fmt: skip


def _of_adapter(
    base: Checkpoint | Adapter,
    tuned: Checkpoint | Adapter,
    analyzer: Repaired,
    selection: Selection,
    path: Path,
    *,
    force: bool,
) -> Writing:
    """Plan an adapter, of which the modules of factors are repaired."""
    assert isinstance(tuned, Adapter)  # noqa: S101 - as it was asked
    refuse_other_names(tuned)
    plan = plan_pair(base, tuned, selection)
    tasks: list[Task] = []
    refused: list[Skipped] = []
    for task in plan.tasks:
        change = task.inputs[0].change
        if isinstance(change, Updated):
            tasks.append(task)
        elif change is not None:
            reason = "not repaired: it is stored whole, or as rows; --merged repairs it in the base"
            refused.append(Skipped(task.place.matrix, reason))
    _require(tasks, tuned, plan, refused)
    skipped = (*plan.skipped, *refused)
    output = Refit.of(path, _model(base), tuned, analyzer, tasks, force=force)
    plan = replace(plan, tasks=tuple(tasks), skipped=skipped)
    return ready(Analysis(analyzer, plan, selection), output)


def _require(
    tasks: Sequence[Task], tuned: Checkpoint | Adapter, plan: Plan, refused: Sequence[Skipped]
) -> None:
    """Refuse a pair of which nothing is left that could be repaired."""
    if tasks:
        return
    why = f"{refused[0].tensor}: {refused[0].reason}." if refused else (
        f"It changes none of the {counted(len(plan.tasks), 'matrix', 'matrices')} that are chosen."
        if len(plan.tasks) > 1 else f"It does not change {plan.tasks[0].place.matrix}."
    )  # fmt: skip
    raise NothingToAnalyseError(
        f"no matrix of {shown(tuned.spec)} is left that could be repaired. {why}"
    )


def _model(opened: Checkpoint | Adapter) -> Checkpoint:
    assert isinstance(opened, Checkpoint)  # noqa: S101 - a pair has been planned of it
    return opened
