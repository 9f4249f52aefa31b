"""An adapter that holds what a fine-tune changed: matrices as factors, the rest whole."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from pathlib import Path

from spectra.analyzers.extracted import Extracted
from spectra.checkpoint import Adapter, Checkpoint
from spectra.errors import UsageError
from spectra.lowrank.extraction import Extraction
from spectra.lowrank.naming import Naming
from spectra.lowrank.planning import bytes_given
from spectra.matrices import Selection
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.text import shown
from spectra.words import Engine, Stored, To


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
        tuned: The model after.
        output: The folder that is written, whole or not at all.
        rank: Directions of each matrix, at most.
        energy: Share of the sum of squared singular values that each matrix keeps, in (0, 1].
        budget: Bytes of the whole adapter, such as `"20MB"`: each goes where it saves most.
        delta_rank: As many directions of each matrix as stand above rounding, proven: a merged
            LoRA comes back at its own ranks. What is of full rank is written whole.
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
    models = [
        opened(one, allow_pickle=allow_pickle, download=download, variant=variant)
        for one in (base, tuned)
    ]
    before, after = (_model(one) for one in models)
    some = chosen(selection, include, exclude, role, layers)
    analyzer = Extracted(
        rank=rank, energy=energy, budget=bytes_given(budget), delta_rank=delta_rank or None,
        dtype=dtype,
    )  # fmt: skip
    naming = Naming(to, part, before)
    writing = Extraction(before, after, some, naming).planned(analyzer, Path(output), force=force)
    return Planned(
        writing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


def _model(given: Checkpoint | Adapter) -> Checkpoint:
    """Return a model.

    Raises:
        UsageError: It is an adapter.
    """
    if isinstance(given, Adapter):
        spec = shown(given.spec)
        other, made = ("convert", "a LoRA of it") if given.updates else ("resize", "it smaller")
        raise UsageError(
            f"{spec} is an adapter already, expected a model: `spectra lowrank {other} {spec} "
            f"--energy 0.9 -o LORA` makes {made}."
        )
    return given
