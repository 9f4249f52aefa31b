"""An adapter with fewer directions, from its factors alone; a weighted sum of several."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

from spectra.analyzers.cut import Cutting
from spectra.analyzers.extracted import Extracted
from spectra.analyzers.factored import Converted, Merged, Resized
from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.adapter.settings import CONFIG
from spectra.errors import AdapterError, UsageError
from spectra.lowrank.naming import Naming
from spectra.lowrank.output import Output, Part
from spectra.lowrank.pieces import Carried
from spectra.lowrank.sources import (
    WHOLE,
    Source,
    carried_of,
    inputs_of,
    place_of,
    roles,
    source_of,
)
from spectra.lowrank.writing import Writing, ready
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis
from spectra.runs.opening import Device, Memory, Spec
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.text import counted, nbytes_of, quote, shown, size, some
from spectra.words import Engine, Stored, To
from spectra.work import Plan
from spectra.work.planning.plan import Member, in_bytes
from spectra.work.task import Input, Task


@asked
def resize(
    adapter: Spec,
    output: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    budget: str | float | None = None,
    sv_ratio: float | None = None,
    sv_cumulative: float | None = None,
    sv_fro: float | None = None,
    dtype: Stored | None = None,
    to: To = "peft",
    part: str = "",
    base: Spec | None = None,
    force: bool = False,
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
    """Write an adapter again with the leading singular directions of each update alone.

    All comes from the r x r cores of its factors; the update itself is never formed. Without a
    criterion each module gets its true rank, and nothing is lost.

    Args:
        adapter: A PEFT LoRA: a folder or file, or a repository of the Hub.
        output: The folder that is written, whole or not at all.
        rank: Directions of each module, at most.
        energy: Share of the sum of squared singular values that each module keeps, in (0, 1].
        budget: Bytes of the whole adapter, such as `"20MB"`: each goes where it saves most.
        sv_ratio: Keep singular values above the largest over this; kohya's criterion.
        sv_cumulative: Share of the sum of singular values that is kept; kohya's.
        sv_fro: Share of the Frobenius norm that is kept; kohya's.
        dtype: `float32`, `bfloat16` or `float16`; as the adapter is stored by default.
        to: Whose names and files: `peft`, `kohya`, `diffusers`, `mlx` or `gguf`.
        part: Of a pipeline, as diffusers and kohya name it; by default as names tell.
        base: The model it was trained on, where names or methods hang on it.
        force: Replace an adapter that is there.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one.
        workers: Modules at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: The adapter cannot be read, or the folder cannot be written.
    """
    opener = partial(opened, allow_pickle=allow_pickle, download=download, variant=variant)
    source = source_of(opener(adapter), Naming(to, part, base_of(base, opener)))
    analyzer = Resized(
        rank=rank, energy=energy, budget=bytes_given(budget), sv_ratio=sv_ratio,
        sv_cumulative=sv_cumulative, sv_fro=sv_fro, dtype=dtype,
    )  # fmt: skip
    place = Path(output)
    writing = _resizing(source, analyzer, place, force=force)
    return Planned(
        writing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


@asked
def merge(
    adapters: Sequence[Spec],
    output: str | Path,
    *,
    weights: float | Sequence[float] = (),
    rank: int | None = None,
    energy: float | None = None,
    budget: str | float | None = None,
    sv_ratio: float | None = None,
    sv_cumulative: float | None = None,
    sv_fro: float | None = None,
    dtype: Stored | None = None,
    to: To = "peft",
    part: str = "",
    base: Spec | None = None,
    force: bool = False,
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
    """Write the weighted sum of several adapters' updates as one adapter.

    The factors are stacked, which is exact, and then cut to the sum's true rank, or to what is
    asked for, with the loss stated.

    Args:
        adapters: Two or more PEFT LoRAs of one base.
        output: The folder that is written, whole or not at all.
        weights: Of each adapter's update, at its own scale; 1 each by default.
        rank: Directions of each module, at most.
        energy: Share of the sum of squared singular values that each module keeps, in (0, 1].
        budget: Bytes of the whole adapter, such as `"20MB"`: each goes where it saves most.
        sv_ratio: Keep singular values above the largest over this; kohya's criterion.
        sv_cumulative: Share of the sum of singular values that is kept; kohya's.
        sv_fro: Share of the Frobenius norm that is kept; kohya's.
        dtype: `float32`, `bfloat16` or `float16`; as the adapters are stored by default.
        to: Whose names and files: `peft`, `kohya`, `diffusers`, `mlx` or `gguf`.
        part: Of a pipeline, as diffusers and kohya name it; by default as names tell.
        base: The model they were trained on, where names or methods hang on it.
        force: Replace an adapter that is there.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one.
        workers: Modules at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Raises:
        SpectraError: An adapter cannot be read or summed, or the folder cannot be written.
    """
    opener = partial(opened, allow_pickle=allow_pickle, download=download, variant=variant)
    naming = Naming(to, part, base_of(base, opener))
    sources = [source_of(opener(one), naming) for one in adapters]
    analyzer = Merged(
        weights=_weights(weights, len(sources)),
        rank=rank, energy=energy, budget=bytes_given(budget), sv_ratio=sv_ratio,
        sv_cumulative=sv_cumulative, sv_fro=sv_fro, dtype=dtype,
    )  # fmt: skip
    place = Path(output)
    writing = _merging(sources, analyzer, place, force=force)
    return Planned(
        writing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


def base_of(base: Spec | None, opener: Callable[[Spec], Checkpoint | Adapter]) -> Checkpoint | None:
    """Return the base that a user gave.

    Raises:
        UsageError: It is an adapter.
    """
    found = None if base is None else opener(base)
    if isinstance(found, Adapter):
        raise UsageError(f"--base {shown(found.spec)} is an adapter, expected a model.")
    return found


def bytes_given(budget: str | float | None) -> int | None:
    """Return a number of bytes that a user gave.

    Raises:
        UsageError: It is none.
    """
    if budget is None:
        return None
    found = nbytes_of(budget) if isinstance(budget, str) else int(budget)
    if found is None or isinstance(budget, bool) or found < 1:
        raise UsageError(f"--budget {budget!r} is no size. Expected bytes, or KB, MB, GB: 20MB.")
    return found


def _weights(given: float | Sequence[float], count: int) -> tuple[float, ...]:
    """Return a weight for each adapter.

    Raises:
        UsageError: There are more or fewer, or too few adapters.
    """
    if count < 2:
        raise UsageError(f"a merge is of two adapters or more, got {count}.")
    found = (given,) * count if isinstance(given, int | float) else tuple(given) or (1.0,) * count
    if len(found) != count:
        raise UsageError(
            f"--weights are {len(found)} for {count} adapters. Expected one for each, in their "
            "order: 0.5,0.5."
        )
    if bad := [one for one in found if not abs(one) <= 1e9]:
        raise UsageError(f"--weights {bad[0]!r} is no weight. Expected a finite number.")
    return tuple(float(one) for one in found)


def _resizing(source: Source, analyzer: Resized, path: Path, *, force: bool) -> Writing:
    require_factors(source)
    own_roles = roles({name: source.axes(name) for name in source.factors})
    tasks = [
        Task(place_of(name, own, own_roles[name]), inputs_of(source, name, own_roles[name]))
        for name, own in source.factors.items()
    ]
    output = output_of(source, analyzer, path, force=force)
    ranks = {name: own.rank for name, own in source.factors.items()}
    plan = Plan(
        (Member(source.adapter, "adapter"),), in_bytes(tasks), source.skipped,
        notes=notes_of(source),
    )  # fmt: skip
    return planned(analyzer, plan, output, ranks)


def require_factors(source: Source) -> None:
    """Refuse an adapter that is no LoRA.

    Raises:
        AdapterError: Its updates are made of the base's weights, or of full rank.
    """
    if source.turned or source.whole:
        spec = shown(source.adapter.spec)
        raise AdapterError(
            f"{spec} is an adapter of {source.adapter.method}, whose updates are of full rank: "
            f"`spectra lowrank convert {spec}` makes a LoRA of it."
        )


def notes_of(source: Source) -> tuple[str, ...]:
    """Return what is to be said of an adapter that is written again."""
    adapter = source.adapter
    notes = [f"{shown(adapter.spec)}: {adapter.assumed}."] if adapter.assumed else []
    if any(map(source.lengths, source.factors)):
        notes.append(
            "DoRA's lengths are kept; the loss is that of s B A, before each output gets its length"
        )
    return (*notes, *source.notes)


def output_of(source: Source, analyzer: Cutting, path: Path, *, force: bool) -> Output:
    """Return where an adapter goes that is written again, and as what."""
    base = source.naming.base
    return Output(
        path,
        {name: part_of(source, name) for name in source.names},
        {name: analyzer.stored(*dtypes_of(source, name)) for name in source.names},
        source.given,
        carried_of(source),
        source.kept,
        source.adapter.weights.folder,
        sources=named([source]) + ([] if base is None else [_model(base)]),
        force=force,
        coat=source.naming.coat,
        part=source.naming.part,
    )


def dtypes_of(source: Source, name: str) -> tuple[str, ...]:
    """Return the dtypes that a module's factors are stored in."""
    own = source.factors.get(name)
    return ("F32",) if own is None else (own.a.dtype, own.b.dtype)


def _merging(sources: Sequence[Source], analyzer: Merged, path: Path, *, force: bool) -> Writing:
    carried = _carried(sources)
    names = dict.fromkeys(name for source in sources for name in source.factors)
    _require_one_base(sources)
    first = {name: next(source for source in sources if name in source.factors) for name in names}
    own_roles = roles({name: first[name].axes(name) for name in names})
    for source in sources:
        require_factors(source)
    tasks, parts, dtypes, ranks = [], {}, {}, {}
    for name in names:
        inputs: list[Input] = []
        stored: list[str] = []
        rank = 0
        for number, (source, weight) in enumerate(zip(sources, analyzer.weights, strict=True)):
            if name in source.factors:
                own = source.factors[name]
                _require_alike(name, first[name], source)
                inputs += inputs_of(source, name, own_roles[name], weight, f".{number}")
                stored += [own.a.dtype, own.b.dtype]
                rank += own.rank
        part = part_of(first[name], name)
        place = place_of(name, first[name].factors[name], own_roles[name])
        dtypes[name] = analyzer.stored(*stored)
        tasks.append(Task(replace(place, dtype=dtypes[name]), tuple(inputs)))
        parts[name], ranks[name] = part, min(rank, *first[name].factors[name].shape)
    turned = any(source.given.get("fan_in_fan_out") is True for source in sources)
    saved = {name for source in sources for name in source.given.get("modules_to_save") or ()}
    given = {
        **sources[0].given,
        "fan_in_fan_out": turned,
        "target_modules": None,
        "modules_to_save": sorted(saved) or None,
    }
    output = Output(
        path,
        parts,
        dtypes,
        given,
        carried,
        beside=sources[0].adapter.weights.folder,
        sources=named(sources),
        force=force,
        coat=sources[0].naming.coat,
        part=sources[0].naming.part,
    )
    alone = {
        shown(source.adapter.spec): sum(name not in source.factors for name in names)
        for source in sources
    }
    notes = [
        f"{spec} has no update on {counted(lacking, 'module')} of {len(names):,}: 0 there"
        for spec, lacking in alone.items() if lacking
    ]  # fmt: skip
    bases = dict.fromkeys(
        str(base) for source in sources
        if (base := source.adapter.config.get("base_model_name_or_path"))
    )  # fmt: skip
    if len(bases) > 1:
        notes.append(f"the adapters name several bases: {some([*bases], 3)}")
    members = tuple(
        Member(source.adapter, "adapter", {"weight": weight})  # type: ignore[dict-item]
        for source, weight in zip(sources, analyzer.weights, strict=True)
    )
    skipped = tuple(item for source in sources for item in source.skipped)
    plan = Plan(members, in_bytes(tasks), skipped, notes=tuple(notes))
    return planned(analyzer, plan, output, ranks)


def planned(
    analyzer: Resized | Extracted | Converted,
    plan: Plan,
    output: Output,
    ranks: Mapping[str, int],
    selection: Selection = Selection(),  # noqa: B008 - frozen
) -> Writing:
    """Return what is ready to run, once it is known that it can be written.

    Args:
        analyzer: Chooses the ranks.
        plan: What it reads.
        output: What is written.
        ranks: The highest that each part can have.
        selection: What was asked for.

    Raises:
        SpectraError: It cannot, or the budget is used up by what is no factor.
    """
    most = {name: min(rank, analyzer.rank or rank) for name, rank in ranks.items()}
    if analyzer.budget is not None:
        fixed = left_over(analyzer.budget, output, most)
        room = analyzer.budget - fixed
        analyzer = replace(analyzer, reserved=fixed)
        most = {name: min(rank, room // output.direction(name)) for name, rank in most.items()}
    return ready(Analysis(analyzer, plan, selection), replace(output, most=most))


def left_over(budget: int, output: Output, most: Mapping[str, int]) -> int:
    """Return the bytes of a budget that factors do not get.

    Raises:
        UsageError: None are left for them.
    """
    fixed, least = output.fixed(most), min(map(output.direction, most))
    if budget < fixed + least:
        raise UsageError(
            f"--budget {budget:,} leaves nothing: {size(fixed)} are taken by names, settings and "
            f"what is carried over, and one direction takes {size(least)}. Give more."
        )
    return fixed


def named(sources: Sequence[Source]) -> list[dict[str, str]]:
    """Return what the metadata says of adapters before anything is read."""
    found = [source.adapter for source in sources]
    return [{"spec": one.spec, "resolved": one.resolved} for one in found]


def _model(base: Checkpoint) -> dict[str, str]:
    return {"spec": base.spec, "resolved": base.resolved}


def part_of(source: Source, name: str) -> Part:
    """Return a module as it is written."""
    home = source.names[name]
    more = {"told": source.told.get(name, 1.0), "rows": home.rows, "columns": home.columns}
    if name in source.turned:
        one = source.turned[name]
        shape = one.entry.shape
        rows, cols = shape[0], prod(shape[1:])
        if one.turned:
            rows, cols = cols, rows
        table = one.update.kind == "embedding"  # stored [entries, features]: its inputs are those
        if table:
            rows, cols = cols, rows
        inputs = shape[1:] if len(shape) > 2 else (cols,)
        return Part(
            home.name, inputs, rows, (1,) * (len(shape) - 2), "embedding" if table else "linear",
            **more,  # type: ignore[arg-type]
        )  # fmt: skip
    own, lengths = source.factors[name], source.lengths(name)
    return Part(
        home.name, own.a.shape[1:], own.b.shape[0], own.b.shape[2:],
        "embedding" if own.kind == "embedding" else "linear", int(lengths), lengths=lengths,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _carried(sources: Sequence[Source]) -> dict[str, Carried]:
    """Return the whole tensors that one of the adapters has, which its sum with none is.

    Raises:
        AdapterError: Several have one, or something that goes with factors.
    """
    found: dict[str, Carried] = {}
    for source in sources:
        spec, weights = shown(source.adapter.spec), source.adapter.weights
        for item in source.skipped:
            name, what = item.tensor, item.reason.rpartition(": ")[2]
            if what != WHOLE:
                raise AdapterError(
                    f"{spec} holds {quote(name)} ({what}), which is no update that can be added. "
                    "Merge it into its base and give the merged model."
                )
            if name in found:
                raise AdapterError(
                    f"{shown(found[name].source.spec)} and {spec} both hold {quote(name)} whole, "
                    "and whole tensors are no updates that can be added. Take it out of one, and "
                    f"its module out of modules_to_save in {CONFIG}."
                )
            found[name] = Carried(weights, weights.entries[name])
    return found


def _require_one_base(sources: Sequence[Source]) -> None:
    """Refuse adapters that name other bases and have no module in common.

    Bases alone may be called by other places, and one adapter may be of attention, the other of
    the MLP.

    Raises:
        AdapterError: They do.
    """
    first = sources[0]
    for other in sources[1:]:
        bases = [one.given.get("base_model_name_or_path") for one in (first, other)]
        if all(bases) and bases[0] != bases[1] and not first.factors.keys() & other.factors.keys():
            raise AdapterError(
                f"{shown(first.adapter.spec)} is of {shown(str(bases[0]))} and "
                f"{shown(other.adapter.spec)} of {shown(str(bases[1]))}, and they have no module "
                "in common. Expected adapters of one base."
            )


def _require_alike(name: str, first: Source, other: Source) -> None:
    one, two = first.factors[name], other.factors[name]
    if (one.kind, one.a.shape[1:], one.b.shape[0]) != (two.kind, two.a.shape[1:], two.b.shape[0]):
        there, here = (" x ".join(f"{n:,}" for n in own.shape) for own in (one, two))
        raise AdapterError(
            f"module {quote(name)} is {there} in {shown(first.adapter.spec)} and {here} in "
            f"{shown(other.adapter.spec)}: they are of different bases."
        )
