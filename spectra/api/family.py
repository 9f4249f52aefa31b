"""Whether a family of models scales with its width."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from spectra.analyzers import Width
from spectra.matrices import Selection
from spectra.runs.family import Given, plan_width
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen, open  # noqa: A004
from spectra.runs.planned import Planned, asked
from spectra.words import Engine


@asked
def width(
    models: Sequence[Spec],
    *,
    against: Spec | None = None,
    eta: float | Sequence[float] = (),
    weight_decay: float | Sequence[float] = (),
    widths: Sequence[int] = (),
    training: str | Path | None = None,
    tolerance: float = 0.1,
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
    """Return how the largest singular value of every role scales with the models' width.

    Args:
        models: Two of one family and different width or more, depths may differ; one is
            enough beside `against`.
        against: The proxy that the others are to match; the narrowest by default.
        eta: Learning rate of the matrices, one for all or one a model, the proxy's last.
        weight_decay: Their decoupled weight decay, lambda, likewise.
        widths: Of each model; read from shapes by default.
        training: A TOML file with a table a model of `eta` and `lambda`.
        tolerance: A ratio to the proxy matches within 1 +- this.
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
        SpectraError: A model cannot be read, they are of no family, or nothing scales.
    """
    given = Given(
        tuple(widths),
        _numbers(eta),
        _numbers(weight_decay),
        Path(training) if training is not None else None,
        allow_pickle,
    )
    opener = partial(open, allow_pickle=allow_pickle, download=download, variant=variant)
    proxy = None if against is None else opener(against)
    some = chosen(selection, include, exclude, role, layers)
    planned = plan_width([*map(opener, models)], proxy, given, Width(tolerance=tolerance), some)
    return Planned(
        planned, device, workers, progress, cache, engine=engine, address=address, memory=memory
    )


def _numbers(given: float | Sequence[float]) -> tuple[float, ...]:
    return (float(given),) if isinstance(given, int | float) else tuple(given)
