"""What is planned of an adapter that is cut: its modules, its place, the bytes it may take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from spectra.analyzers.cut import Cutting
from spectra.analyzers.extracted import Extracted
from spectra.analyzers.factored import Converted, Resized
from spectra.checkpoint import Adapter, Checkpoint
from spectra.errors import AdapterError, UsageError
from spectra.lowrank.output import Output, Part
from spectra.lowrank.sources import (
    STACKS,
    Source,
    carried_of,
)
from spectra.lowrank.writing import Writing, ready
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis
from spectra.runs.opening import Spec
from spectra.text import nbytes_of, shown, size
from spectra.work import Plan
from spectra.work.task import Task


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
        if output.coat.one_rank:
            each = sum(map(output.direction, most))
            fits = f"--rank {room // each} fits" if room >= each else "no rank fits all modules"
            raise UsageError(
                f"--budget shares directions out module by module, and --to {output.coat.word} has "
                f"one rank for all. Expected --rank: of {analyzer.budget:,} bytes {fits}."
            )
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


def output_of(source: Source, analyzer: Cutting, path: Path, *, force: bool) -> Output:
    """Return where an adapter goes that is written again, and as what."""
    base = source.naming.base
    return Output(
        path,
        {name: part_of(source, name) for name in (*source.names, *source.stacks)},
        {
            name: analyzer.stored(*dtypes_of(source, name))
            for name in (*source.names, *source.stacks)
        },
        source.given,
        carried_of(source),
        source.kept,
        source.adapter.weights.folder,
        sources=named([source]) + ([] if base is None else [_model(base)]),
        force=force,
        coat=source.naming.coat,
        part=source.naming.part,
    )


def part_of(source: Source, name: str) -> Part:
    """Return a module as it is written."""
    if name in source.stacks:
        return replace(source.stacks[name].part, told=source.told.get(name, 1.0))
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


def dtypes_of(source: Source, name: str) -> tuple[str, ...]:
    """Return the dtypes that a module's factors are stored in."""
    if name in source.stacks:
        return tuple(sorted(source.stacks[name].dtypes))
    own = source.factors.get(name)
    return ("F32",) if own is None else (own.a.dtype, own.b.dtype)


def notes_of(source: Source, *, cut: bool = True) -> tuple[str, ...]:
    """Return what is to be said of an adapter that is written again.

    Args:
        source: The adapter.
        cut: Some of its directions may be left out.
    """
    adapter = source.adapter
    notes = [f"{shown(adapter.spec)}: {adapter.assumed}."] if adapter.assumed else []
    if any(map(source.lengths, source.factors)):
        notes.append(
            "DoRA's lengths are kept; the loss is that of s B A, before each output gets its length"
        )
    if source.kept and cut:
        notes.append(f"{STACKS} are left as they are: with --base they are cut like all others")
    return (*notes, *source.notes)


def stack_tasks(source: Source, dtypes: Mapping[str, str]) -> list[Task]:
    """Return a task for each matrix of the stacks of experts.

    Args:
        source: The adapter.
        dtypes: Of what is written, by stack.
    """
    return [task for key, stack in source.stacks.items()
            for task in stack.tasks(key, source.adapter.weights, dtypes[key])]  # fmt: skip


def ranks_of(source: Source) -> dict[str, int]:
    """Return the most directions that the factors of each module and stack have."""
    found = {name: own.rank for name, own in source.factors.items()}
    return found | {name: own.rank for name, own in source.stacks.items()}


def require_factors(source: Source) -> None:
    """Refuse an adapter that is no LoRA.

    Raises:
        AdapterError: Its updates are made of the base's weights, or of full rank.
    """
    if source.turned or source.whole:
        spec = shown(source.adapter.spec)
        raise AdapterError(
            f"{spec} is an adapter of {source.adapter.method}, whose updates are of full rank: "
            f"`spectra lowrank convert {spec} --base BASE --energy 0.9 -o LORA` makes a LoRA of it."
        )


def named(sources: Sequence[Source]) -> list[dict[str, str]]:
    """Return what the metadata says of adapters before anything is read."""
    found = [source.adapter for source in sources]
    return [{"spec": one.spec, "resolved": one.resolved} for one in found]


def _model(base: Checkpoint) -> dict[str, str]:
    return {"spec": base.spec, "resolved": base.resolved}
