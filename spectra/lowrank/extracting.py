"""An adapter that holds what a fine-tune changed: matrices as factors, the rest whole."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from dataclasses import replace
from pathlib import Path

from spectra.analyzers.extracted import Extracted
from spectra.analyzers.factored import Converted, Resized
from spectra.checkpoint import Adapter
from spectra.errors import UsageError
from spectra.lowrank.converting import converting
from spectra.lowrank.extraction import Extraction
from spectra.lowrank.naming import Naming
from spectra.lowrank.planning import bytes_given
from spectra.lowrank.resizing import resizing
from spectra.lowrank.sources import source_of
from spectra.lowrank.writing import Writing
from spectra.matrices import Selection
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.text import shown
from spectra.words import Engine, Stored, To
from spectra.work import plan_pair
from spectra.work.planning.plan import require_base


@asked
def extract(
    base: Spec,
    tuned: Spec,
    output: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    budget: str | float | None = None,
    delta_rank: bool = False,
    dtype: Stored | None = None,
    to: To = "peft",
    part: str = "",
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
    """Write what fine-tuning changed as a PEFT adapter of the base.

    Of each matrix the leading singular directions of the change; norms, biases and resized
    embeddings that changed are written whole. What PEFT can hold in no way is named in `skipped`.

    Args:
        base: The model before; it may be quantised.
        tuned: The model after, or an adapter, of which the update on this base is cut as `resize`
            and `convert` do, module by module.
        output: The folder that is written, whole or not at all.
        rank: Directions of each matrix, at most.
        energy: Share of the sum of squared singular values that each matrix keeps, in (0, 1].
        budget: Bytes of the whole adapter, such as `"20MB"`: each goes where it saves most.
        delta_rank: As many directions of each matrix as stand above rounding, proven: a merged
            LoRA comes back at its own ranks. What is of full rank is written whole. Of an adapter
            that is what comes without a criterion.
        dtype: `float32`, `bfloat16` or `float16`; as the tuned model is stored by default.
        to: Whose names and files: `peft`, `kohya`, `diffusers`, `mlx` or `gguf`.
        part: Of a pipeline, as diffusers and kohya name it; by default as names tell.
        force: Replace an adapter that is there.
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
    before = require_base(before, after, "lowrank extract")
    some = chosen(selection, include, exclude, role, layers)
    asks = any(one is not None for one in (rank, energy, budget))
    true_rank = delta_rank or (isinstance(after, Adapter) and not asks)  # as `resize` does
    analyzer = Extracted(
        rank=rank, energy=energy, budget=bytes_given(budget), delta_rank=true_rank or None,
        dtype=dtype,
    )  # fmt: skip
    naming, place = Naming(to, part, before), Path(output)
    if isinstance(after, Adapter):
        writing = _of_adapter(after, naming, analyzer, some, place, force=force)
    else:
        writing = Extraction(before, after, some, naming).planned(analyzer, place, force=force)
    return Planned(
        writing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


def _of_adapter(
    adapter: Adapter, naming: Naming, asked_for: Extracted, some: Selection, path: Path,
    *, force: bool,
) -> Writing:  # fmt: skip
    """Plan what an adapter changes, by its own factors, whose update is no matrix yet.

    Raises:
        SpectraError: It does not fit the base, or only some of it is asked for.
    """
    spec, base = shown(adapter.spec), naming.base
    assert base is not None  # noqa: S101 - as it was given
    if some != Selection():
        raise UsageError(
            f"{spec} is an adapter, of which all modules are taken. Leave out --include, "
            "--exclude, --role and --layers, or give the merged model, which `spectra lowrank "
            f"repair {shown(base.spec)} {spec} --merged --scale 1 -o MERGED` writes."
        )
    told = plan_pair(base, adapter, Selection()).warning  # refuses another base's
    source = source_of(adapter, naming)
    source = replace(source, notes=(*source.notes, told)) if told else source
    rest = {name: getattr(asked_for, name) for name in ("rank", "energy", "budget", "dtype")}
    if adapter.updates:
        return converting(source, Converted(**rest), path, force=force)
    return resizing(source, Resized(**rest), path, force=force)
