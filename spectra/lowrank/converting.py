"""An adapter in the names and files of others; other methods' updates as factors."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

from spectra.analyzers.factored import WEIGHT, Converted
from spectra.checkpoint import Checkpoint
from spectra.lowrank.finding import Turned
from spectra.lowrank.naming import Naming
from spectra.lowrank.planning import (
    base_of,
    bytes_given,
    notes_of,
    output_of,
    planned,
    ranks_of,
    stack_tasks,
)
from spectra.lowrank.sources import (
    Source,
    copied,
    inputs_of,
    place_of,
    roles,
    source_of,
)
from spectra.lowrank.writing import Writing
from spectra.matrices import Place, View
from spectra.matrices.part import Part as Inside
from spectra.matrices.role import Role
from spectra.runs.opening import Device, Memory, Spec
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.words import Engine, Stored, To
from spectra.work import Plan
from spectra.work.planning.plan import Member, in_bytes
from spectra.work.task import Input, Remade, Task

MARGIN = 4  # times the even share of a budget, that one matrix is measured for
FEWEST = 16  # directions that are measured for a budget, at least


@asked
def convert(
    adapter: Spec,
    output: str | Path,
    *,
    to: To = "peft",
    part: str = "",
    base: Spec | None = None,
    rank: int | None = None,
    energy: float | None = None,
    budget: str | float | None = None,
    sv_ratio: float | None = None,
    sv_cumulative: float | None = None,
    sv_fro: float | None = None,
    dtype: Stored | None = None,
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
    """Write an adapter as a LoRA in other names and files, whatever its method was.

    Factors of a LoRA are written as they are, bit for bit, unless a criterion cuts them or a scale
    has no other place than in them. Other methods become factors: of their true rank where they
    are products of thin matrices, else of as many directions as are asked for.

    Args:
        adapter: A LoRA of PEFT, kohya, diffusers, mlx-lm or GGUF, or another method of PEFT's.
        output: The folder or file that is written, whole or not at all.
        to: Whose names and files: `peft`, `kohya`, `diffusers`, `mlx` or `gguf`.
        part: Of a pipeline, as diffusers and kohya name it; by default as names tell.
        base: The model it was trained on, where names or methods hang on it.
        rank: Directions of each module, at most.
        energy: Share of the sum of squared singular values that each module keeps, in (0, 1].
        budget: Bytes of the whole adapter, such as `"20MB"`: each goes where it saves most.
        sv_ratio: Keep singular values above the largest over this; kohya's criterion.
        sv_cumulative: Share of the sum of singular values that is kept; kohya's.
        sv_fro: Share of the Frobenius norm that is kept; kohya's.
        dtype: `float32`, `bfloat16` or `float16`; as the adapter is stored by default.
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
        SpectraError: The adapter cannot be read or named, or the place cannot be written.
    """
    opener = partial(opened, allow_pickle=allow_pickle, download=download, variant=variant)
    analyzer = Converted(
        rank=rank, energy=energy, budget=bytes_given(budget), sv_ratio=sv_ratio,
        sv_cumulative=sv_cumulative, sv_fro=sv_fro, dtype=dtype,
    )  # fmt: skip
    source = source_of(opener(adapter), Naming(to, part, base_of(base, opener)))
    writing = converting(source, analyzer, Path(output), force=force)
    return Planned(
        writing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


def converting(source: Source, analyzer: Converted, path: Path, *, force: bool) -> Writing:
    """Plan an adapter in other names, or of another method."""
    if source.turned or source.whole:
        analyzer.require_end()
    if not analyzer.cuts and not source.adapter.updates:
        analyzer, source = replace(analyzer, copied=True), copied(source)
    own_roles = roles({name: source.axes(name) for name in source.names})
    tasks = [
        Task(place_of(name, own, own_roles[name]), inputs_of(source, name, own_roles[name]))
        for name, own in source.factors.items()
    ]
    base = source.naming.base
    if base is not None:
        tasks += [
            _made(source, base, name, one, own_roles[name]) for name, one in source.turned.items()
        ]
    output = output_of(source, analyzer, path, force=force)
    tasks += stack_tasks(source, output.dtypes)
    ranks = ranks_of(source)
    ranks |= {name: min(output.parts[name].outputs, prod(output.parts[name].inputs))
              for name in source.turned}  # fmt: skip
    if analyzer.budget is not None:
        width = sum(map(output.direction, output.parts))
        even = max(analyzer.budget - output.fixed({}), 0) // width
        analyzer = replace(analyzer, measured=max(MARGIN * even, FEWEST))
        ranks = {name: min(rank, analyzer.measured or rank) if name in source.turned else rank
                 for name, rank in ranks.items()}  # fmt: skip
    members = [Member(source.adapter, "adapter")]
    members += [Member(base, "base")] if base is not None else []
    plan = Plan(
        tuple(members), in_bytes(tasks), source.skipped, notes=notes_of(source, cut=analyzer.cuts)
    )
    return planned(analyzer, plan, output, ranks)


def _made(source: Source, base: Checkpoint, name: str, one: Turned, role: Role) -> Task:
    """Return the task of a weight that a method makes of the base's."""
    entry = one.entry
    rows, cols = entry.shape[0], prod(entry.shape[1:])
    table = one.update.kind == "embedding"  # stored [entries, features]: its inputs are those
    turned = one.turned != table
    rows, cols = (cols, rows) if turned else (rows, cols)
    view = View(entry.name, role, entry, Inside(transposed=turned), rows, cols)
    change = Remade(source.adapter.weights, one.update, one.turned)
    place = Place(
        f"{name}.weight", name, role.kind, role.layer, role.expert, rows, cols, entry.dtype,
        file=entry.shard,
    )  # fmt: skip
    return Task(place, (Input(WEIGHT, base, view, True, change),))
