"""An adapter with fewer directions, from its factors alone."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from functools import partial
from pathlib import Path

from spectra.analyzers.factored import Resized
from spectra.lowrank.naming import Naming
from spectra.lowrank.planning import (
    base_of,
    bytes_given,
    notes_of,
    output_of,
    planned,
    ranks_of,
    require_factors,
    stack_tasks,
)
from spectra.lowrank.sources import (
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
from spectra.words import Engine, Stored, To
from spectra.work import Plan
from spectra.work.planning.plan import Member, in_bytes
from spectra.work.task import Task


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
    writing = resizing(source, analyzer, place, force=force)
    return Planned(
        writing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


def resizing(source: Source, analyzer: Resized, path: Path, *, force: bool) -> Writing:
    """Plan an adapter of fewer directions."""
    require_factors(source)
    own_roles = roles({name: source.axes(name) for name in source.factors})
    tasks = [
        Task(place_of(name, own, own_roles[name]), inputs_of(source, name, own_roles[name]))
        for name, own in source.factors.items()
    ]
    output = output_of(source, analyzer, path, force=force)
    tasks += stack_tasks(source, output.dtypes)
    plan = Plan(
        (Member(source.adapter, "adapter"),), in_bytes(tasks), source.skipped,
        notes=notes_of(source),
    )  # fmt: skip
    return planned(analyzer, plan, output, ranks_of(source))
