"""Adapters that begin as a part of the weights, and the base that is left beside them."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from spectra.analyzers.cut import WORDS
from spectra.analyzers.initial import Initial
from spectra.checkpoint import Checkpoint
from spectra.errors import UsageError
from spectra.lowrank.layers import Linear, Taken, linear_layers
from spectra.lowrank.model import Model
from spectra.lowrank.output import Output, Part
from spectra.lowrank.provenance import named_base
from spectra.lowrank.rewriting import Home
from spectra.lowrank.starting import Starting
from spectra.lowrank.writing import Writing, ready
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec
from spectra.runs.opening import chosen as chosen_by
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.text import counted
from spectra.words import Chosen, Engine, InitForm, InitMethod, Stored
from spectra.work import Plan
from spectra.work.planning.plan import Member, in_bytes, require_model
from spectra.work.task import Input, Task

PLAIN = ("F64", "F32", "F16", "BF16")
"""Dtypes that a residual can be stored in."""


@asked
def init(
    method: InitMethod,
    model: Spec,
    output: str | Path,
    *,
    rank: int = 16,
    alpha: float | None = None,
    chosen: Chosen | None = None,
    seed: int = 0,
    start_block: int = 0,
    ramp: int | Sequence[int] = (),
    form: InitForm | None = None,
    dtype: Stored = "float32",
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
    """Write an adapter that begins as a part of each weight, and the base without that part.

    By default all linear layers of blocks are taken, as PEFT's published inits are used; a role
    or a glob that names others takes those.

    Args:
        method: `pissa`, `milora`, `soma`, `olora` or `mica`.
        model: What `spectra.open` accepts, save adapters.
        output: The folder that is written, whole or not at all.
        rank: Directions of each module; a smaller one gets all that it has.
        alpha: Of every module; as published by default: the rank, so that s = alpha / rank is 1.
        chosen: Which singular values: `min`, `mid`, `max` or `random`, where the method knows
            them; as published by default.
        seed: Of `random`.
        start_block: Layers before it are left as they are.
        ramp: Layers from each of which on the rank is doubled.
        form: `residual`: the adapter and the base W - s B A; `difference`: an adapter of twice the
            rank, whose update B A - B A is 0, for the base as it is; `bare`: the adapter
            alone. MiCA's is always bare, as its update is 0.
        dtype: `float32`, `bfloat16` or `float16`, of the factors; the residual is as the base is.
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
        SpectraError: The model cannot be read, nothing is left, or it cannot be written.
    """
    analyzer = Initial(
        method=method, rank=rank, alpha=alpha, chosen=chosen, seed=seed, start_block=start_block,
        ramp=(ramp,) if isinstance(ramp, int) else tuple(ramp), form=form, dtype=dtype,
    )  # fmt: skip
    base = require_model(
        opened(model, allow_pickle=allow_pickle, download=download, variant=variant)
    )
    some = chosen_by(selection, include, exclude, role, layers)
    begun = _Start(base, analyzer)
    taken = linear_layers(base, some, begun.unfit)
    writing = begun.planned(taken, some, Path(output), force=force)
    return Planned(
        writing, device, workers, progress, cache=False, engine=engine, address=address,
        memory=memory,
    )  # fmt: skip


@dataclass(slots=True)
class _Start:
    """A base, and which of its modules an adapter begins from."""

    base: Checkpoint
    analyzer: Initial
    tasks: list[Task] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)  # that are written
    alphas: dict[str, float] = field(default_factory=dict)  # likewise
    capped: int = 0  # modules that have no more directions
    turned: set[bool] = field(default_factory=set)  # whether linear layers are stored [in, out]

    def planned(self, taken: Taken, selection: Selection, path: Path, *, force: bool) -> Writing:
        """Return what is ready to run.

        Raises:
            SpectraError: It cannot be written.
        """
        for layer in taken.layers:
            self._task(layer)
        last = max((layer.view.role.layer or 0 for layer in taken.layers), default=0)
        if late := [layer for layer in self.analyzer.ramp if layer > last]:
            raise UsageError(
                f"--ramp {late[0]} is no layer that is prepared: the last one is {last}."
            )
        notes = taken.notes
        if self.capped:
            notes.append(
                f"{counted(self.capped, 'module has', 'modules have')} fewer directions than the "
                "rank, and all of them are taken"
            )
        output = Output(
            path, self.parts, dict.fromkeys(self.parts, WORDS[self.analyzer.dtype]),
            {**self._named(), "fan_in_fan_out": True in self.turned},
            kept=self._scales(), beside=self.base.folder,
            others=[name for name in taken.homes.memory.layers if name],
            sources=[{"spec": self.base.spec, "resolved": self.base.resolved}],
            start="mica" if self.analyzer.method == "mica" else True, force=force,
            most=self.ranks,
        )  # fmt: skip
        plan = Plan(
            (Member(self.base, "base"),), in_bytes(self.tasks), tuple(taken.skipped),
            notes=tuple(notes),
        )  # fmt: skip
        if self.analyzer.written != "residual":
            return ready(Analysis(self.analyzer, plan, selection), output)
        homes = {layer.view.name: Home(layer.view.entry, layer.view.part) for layer in taken.layers}
        model = Model.of(path, self.base, homes, force=force)
        plan = replace(plan, skipped=(*plan.skipped, *model.left_out))
        both = Starting(model, replace(output, beside=None))
        return ready(Analysis(self.analyzer, plan, selection), both)

    def unfit(self, layer: Linear) -> str:
        """Say why a layer is none that could begin so; empty where it is one."""
        entry, role = layer.view.entry, layer.view.role
        if role.layer is not None and role.layer < self.analyzer.start_block:
            return f"before --start-block {self.analyzer.start_block}"
        if self.analyzer.written == "residual" and (entry.codec or entry.dtype not in PLAIN):
            stored = entry.codec.name if entry.codec else entry.dtype
            return f"stored as {stored}, which cannot hold its residual; --form difference can"
        if not self.turned <= {layer.turned}:
            return "stored [in, out] beside others that are not, and PEFT has one setting for all"
        self.turned.add(layer.turned)
        return ""

    def _task(self, layer: Linear) -> None:
        view = layer.view
        rank = self.analyzer.rank_of(view.rows, view.cols, view.role.layer)
        alpha = self.analyzer.alpha_of(rank)
        twice = 2 if self.analyzer.written == "difference" else 1
        self.capped += rank == min(view.rows, view.cols) and self.analyzer.rank > rank
        self.tasks.append(Task(view.place(), (Input("", self.base, view),)))
        self.parts[view.name] = Part(layer.home.module, (view.cols,), view.rows)
        self.ranks[view.name], self.alphas[view.name] = twice * rank, twice * alpha

    def _scales(self) -> dict[str, tuple[int, float]]:
        """Return rank and alpha of every module by its name, the usual ones first."""
        pairs = {self.parts[name].name: (rank, self.alphas[name])
                 for name, rank in self.ranks.items()}  # fmt: skip
        usual = Counter(pairs.values()).most_common(1)[0][0]
        return dict(sorted(pairs.items(), key=lambda item: item[1] != usual))

    def _named(self) -> Mapping[str, str | None]:
        """Return what settings say of the base: nothing where it is not the original."""
        stays = self.analyzer.method == "mica" or self.analyzer.written == "difference"
        return named_base(self.base.spec) if stays else {}
