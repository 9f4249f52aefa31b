"""The weighted sum of several adapters' updates as one, from their factors alone."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from spectra.analyzers.factored import Merged
from spectra.checkpoint.adapter.settings import CONFIG
from spectra.errors import AdapterError, UsageError
from spectra.lowrank.beginnings import Named, named_alike
from spectra.lowrank.naming import Naming
from spectra.lowrank.output import NOT_WRITTEN, Output, Part
from spectra.lowrank.pieces import Carried, same_bytes
from spectra.lowrank.planning import base_of, bytes_given, named, part_of, planned, require_factors
from spectra.lowrank.sources import (
    STACKS,
    WHOLE,
    Source,
    inputs_of,
    place_of,
    roles,
    source_of,
)
from spectra.lowrank.writing import Writing
from spectra.runs.opening import Device, Memory, Spec
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.text import counted, quote, shown, some
from spectra.words import Engine, Stored, To
from spectra.work import Plan
from spectra.work.planning.plan import Member, in_bytes
from spectra.work.task import Input, Task
from spectra.writing.peft import PREFIX


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
    sources = named_alike([source_of(opener(one), naming) for one in adapters], naming.base)
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
        raise UsageError(
            f"--weights {bad[0]!r} is no weight. Expected numbers between -1e9 and 1e9."
        )
    return tuple(float(one) for one in found)


def _merging(found: Sequence[Named], analyzer: Merged, path: Path, *, force: bool) -> Writing:
    carried = _carried(found)
    sources = [one.source for one in found]
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
    for key in dict.fromkeys(key for source in sources for key in source.stacks):
        held = [
            (source, f".{number}", weight)
            for number, (source, weight) in enumerate(zip(sources, analyzer.weights, strict=True))
            if key in source.stacks
        ]
        parts[key], dtypes[key], more = _stack(key, held, analyzer)
        ranks[key] = min(sum(source.stacks[key].rank for source, _, _ in held),
                         parts[key].outputs, *parts[key].inputs)  # fmt: skip
        tasks += more
    turned = any(source.given.get("fan_in_fan_out") is True for source in sources)
    saved = {name for source in sources for name in source.given.get("modules_to_save") or ()}
    given = {
        **sources[0].given,
        "fan_in_fan_out": turned,
        "target_modules": None,
        "target_parameters": None,
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
    notes = [note for source in sources for note in source.notes]
    notes += [
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
    skipped = tuple(dict.fromkeys(item for source in sources for item in source.skipped))
    plan = Plan(members, in_bytes(tasks), skipped, notes=tuple(notes))
    return planned(analyzer, plan, output, ranks)


def _stack(
    key: str, held: Sequence[tuple[Source, str, float]], analyzer: Merged
) -> tuple[Part, str, list[Task]]:
    """Return a stack of experts as it is written, its dtype, and a task for each expert.

    Args:
        key: Of the stack.
        held: Those that have it, each with what tells its inputs from others' and its weight.
        analyzer: What is asked for.
    """
    stacks = [source.stacks[key] for source, _, _ in held]
    rows = {row.name: (stack, row) for stack in stacks for row in stack.rows}
    dtype = analyzer.stored(*(one for stack in stacks for one in stack.dtypes))
    tasks = []
    for name, (stack, row) in rows.items():
        inputs = [
            one for source, number, weight in held
            for own in source.stacks[key].rows if own.name == name
            for one in source.stacks[key].inputs(own, source.adapter.weights, weight, number)
        ]  # fmt: skip
        tasks.append(Task(stack.place(key, row, dtype), tuple(inputs)))
    members = zip(*(stack.part.members for stack in stacks), strict=True)
    part = replace(stacks[0].part, members=tuple(max(own) for own in members))
    return part, dtype, tasks


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
        alike = {*first.factors, *first.stacks} & {*other.factors, *other.stacks}
        if all(bases) and bases[0] != bases[1] and not alike:
            raise AdapterError(
                f"{shown(first.adapter.spec)} is of {shown(str(bases[0]))} and "
                f"{shown(other.adapter.spec)} of {shown(str(bases[1]))}, and they have no module "
                "in common. Expected adapters of one base."
            )


def _carried(sources: Sequence[Named]) -> dict[str, Carried]:
    """Return the whole tensors of the adapters: their sum has them as they are.

    Those that several have are read, and kept where they are the same byte for byte.

    Raises:
        AdapterError: Several have one with other values, or something that goes with factors.
    """
    found: dict[str, Carried] = {}
    for one in sources:
        source = one.source
        spec, weights = shown(source.adapter.spec), source.adapter.weights
        for item in source.skipped:
            name, what = item.tensor, item.reason.rpartition(": ")[2]
            if item.reason.startswith(NOT_WRITTEN):
                continue
            if what == STACKS:
                raise AdapterError(
                    f"{spec} holds {quote(name)} ({what}), and which matrices they are of is known "
                    "with the base alone. Expected --base and the model that it was trained on."
                )
            if what != WHOLE:
                raise AdapterError(
                    f"{spec} holds {quote(name)} ({what}), which is no update that can be added. "
                    "Merge it into its base and give the merged model."
                )
            if not name.removeprefix(PREFIX).startswith(one.shift.dropped):
                raise AdapterError(
                    f"{spec} holds {quote(name)} whole, which lies outside the model whose names "
                    f"{shown(sources[0].source.adapter.spec)} has, so that no class of model would "
                    f"load their sum. Give {spec} first."
                )
            own = Carried(weights, weights.entries[name])
            name = one.shift.stored(name)
            if name not in found:
                found[name] = own
            elif not same_bytes(found[name], own):
                raise AdapterError(
                    f"{shown(found[name].source.spec)} and {spec} both hold {quote(name)} whole, "
                    "with other values, and whole tensors are no updates that can be added. Take "
                    f"it out of one, and its module out of modules_to_save in {CONFIG}."
                )
    return found


def _require_alike(name: str, first: Source, other: Source) -> None:
    one, two = first.factors[name], other.factors[name]
    if (one.kind, one.a.shape[1:], one.b.shape[0]) != (two.kind, two.a.shape[1:], two.b.shape[0]):
        there, here = (" x ".join(f"{n:,}" for n in own.shape) for own in (one, two))
        raise AdapterError(
            f"module {quote(name)} is {there} in {shown(first.adapter.spec)} and {here} in "
            f"{shown(other.adapter.spec)}: they are of different bases."
        )
