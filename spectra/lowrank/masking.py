"""Masks of the entries to train: as such, as places, or as a SHiRA adapter that is 0 so far."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from spectra.analyzers.principal import Principal
from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.errors import NothingToAnalyseError
from spectra.lowrank.layers import Linear, Taken, linear_layers
from spectra.lowrank.output import provenance
from spectra.lowrank.pieces import copy_file
from spectra.lowrank.provenance import named_base
from spectra.lowrank.writing import Run, ready
from spectra.matrices import Selection, match_names
from spectra.matrices.part import Part
from spectra.runs.analysis import Analysis
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.runs.result import Result
from spectra.text import counted, shown
from spectra.words import Engine, Filter, MaskForm
from spectra.work import Plan
from spectra.work.planning.adapted import adapter_changes
from spectra.work.planning.plan import Member, in_bytes, require_model
from spectra.work.task import Change, Input, Replaced, Task
from spectra.writing.destination import Destination
from spectra.writing.peft import BESIDE, CONFIG, PREFIX, WEIGHTS, config_text, targets_of
from spectra.writing.spool import Spool, raw
from spectra.writing.tensors import Bytes, Slot, write_tensors

FILE = "masks.safetensors"
OWN = frozenset({FILE, CONFIG, WEIGHTS, *BESIDE})
"""Everything that is ever written into a folder of masks."""

SHIRA: Mapping[str, Any] = {
    "peft_type": "SHIRA", "task_type": None, "inference_mode": True, "fan_in_fan_out": False,
    "init_weights": True, "mask_type": "lift", "modules_to_save": None, "random_seed": None,
}  # fmt: skip
"""Settings of a SHiRA adapter; of a kind of mask that PEFT does not know, so that it draws none."""


@asked
def mask(
    model: Spec,
    output: str | Path,
    *,
    tuned: Spec | None = None,
    rank: int = 128,
    density: float | None = None,
    filter: Filter = "largest",  # noqa: A002 - the paper's word
    filter_rank: int = 128,
    seed: int = 0,
    form: MaskForm = "masks",
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
    """Write which entries of each weight to train: LIFT's principal weights.

    These are the largest |entries| of the approximation of the weight by its leading singular
    directions. By default all linear layers of blocks are taken, as LIFT does.

    Args:
        model: What `spectra.open` accepts, save adapters.
        output: The folder that is written, whole or not at all.
        tuned: What training made of it, or an adapter: how much of the update lies in the masks.
        rank: min((m + n) rank, m n) entries of each weight, as many as a LoRA of this rank has.
        density: Share of the entries of each weight, in (0, 1], in place of `rank`.
        filter: Which singular directions approximate a weight: `largest`, `smallest`, `hybrid`
            (half from either end) or `random`.
        filter_rank: How many; a smaller weight has all of its own.
        seed: Of `random`.
        form: `masks`: true and false, by the names of the tensors; `indices`: 2 x k, row and
            column of each entry; `shira`: a SHiRA adapter of PEFT whose values are 0.
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
        SpectraError: A model cannot be read, nothing is left, or it cannot be written.
    """
    analyzer = Principal(
        rank=rank, density=density, filter=filter, filter_rank=filter_rank, seed=seed, form=form,
        compared=tuned is not None,
    )  # fmt: skip
    opener = partial(opened, allow_pickle=allow_pickle, download=download, variant=variant)
    base = require_model(opener(model))
    later = None if tuned is None else opener(tuned)
    some = chosen(selection, include, exclude, role, layers)
    taken = linear_layers(base, some, partial(_unfit, analyzer))
    plan = _plan(base, later, taken, analyzer)
    masks = Masks(base, Path(output), analyzer, taken, force)
    return Planned(
        ready(Analysis(analyzer, plan, some), masks), device, workers, progress, cache=False,
        engine=engine, address=address, memory=memory,
    )  # fmt: skip


def _unfit(analyzer: Principal, layer: Linear) -> str:
    """Say why SHiRA cannot hold a layer; empty where it can."""
    if analyzer.form != "shira":
        return ""
    view = layer.view
    if layer.turned:
        return "stored [in, out], and SHiRA adapts torch.nn.Linear alone"
    if (view.rows + view.cols) * analyzer.rank > view.rows * view.cols:
        return "it has fewer entries than a SHiRA module of this rank, which PEFT refuses"
    return ""


def _plan(
    base: Checkpoint, tuned: Checkpoint | Adapter | None, taken: Taken, analyzer: Principal
) -> Plan:
    """Return what is read: weights, and what became of them."""
    members = [Member(base, "base")]
    views = [layer.view for layer in taken.layers]
    changes: dict[str, Change] = {}
    notes, skipped, warning = taken.notes, [*taken.skipped], ""
    if few := sum(min(view.rows, view.cols) <= analyzer.filter_rank for view in views):
        notes.append(
            f"{counted(few, 'weight has', 'weights have')} no more than {analyzer.filter_rank:,} "
            "singular directions: the mask is that of the largest entries"
        )
    if tuned is not None:
        members.append(Member(tuned, "tuned"))
        if isinstance(tuned, Adapter):
            turned = {layer.view.entry.name for layer in taken.layers if layer.turned}
            found = adapter_changes(base, views, tuned, turned=turned)
            changes = {view.name: change for view, change in found.pairs if change}
            warning = found.warning
        else:
            changes, lost = _replaced(base, tuned, taken.layers)
            skipped += lost
        if unchanged := len(views) - len(changes):
            told = counted(unchanged, "layer has", "layers have")
            notes.append(f"{told} no update in {shown(tuned.spec)}")
    tasks = [
        Task(view.place(), (Input("", base, view, view.name in changes, changes.get(view.name)),))
        for view in views
    ]
    return Plan(tuple(members), in_bytes(tasks), tuple(skipped), warning, notes=tuple(notes))


def _replaced(
    base: Checkpoint, tuned: Checkpoint, layers: Sequence[Linear]
) -> tuple[dict[str, Change], list[Skipped]]:
    """Return what became of each weight in another model, and what of it does not fit."""
    partners, _ = match_names(base.entries, tuned.entries, f"tensor of {shown(tuned.spec)}")
    changes: dict[str, Change] = {}
    lost = []
    for layer in layers:
        entry = layer.view.entry
        other = tuned.entries.get(partners.get(entry.name, ""))
        if other is None:
            told = "without a counterpart in the tuned model: masked alone"
            lost.append(Skipped(entry.name, told))
        elif other.shape != entry.shape:
            told = f"{list(other.shape)} in the tuned model: masked alone"
            lost.append(Skipped(entry.name, told))
        else:
            changes[entry.name] = Replaced(tuned, other, None, Part(transposed=layer.turned))
    if not changes:
        why = f": {lost[0].tensor} is {lost[0].reason.partition(':')[0]}" if lost else ""
        raise NothingToAnalyseError(
            f"no weight of {shown(tuned.spec)} belongs to one of {shown(base.spec)}{why}. Give "
            "what was trained from it."
        )
    return changes, lost


@dataclass(frozen=True, slots=True)
class Masks:
    """Where masks go, and all that is known of them before anything is measured."""

    base: Checkpoint
    path: Path
    analyzer: Principal
    taken: Taken
    force: bool

    @property
    def place(self) -> Destination:
        """Where they go."""
        return Destination(self.path, OWN, self.force)

    def require(self) -> None:
        """Refuse, before any work, a place where they could not be written.

        Raises:
            OutputError: It cannot.
        """
        # What is measured lies there once more until it is written.
        self.place.require(2 * sum(slot.nbytes for slot in self._slots(None).values()))

    def write(self, run: Run) -> tuple[Result, Mapping[str, Any]]:
        """Measure and write; return what was found, and what is told of what is written.

        Raises:
            SpectraError: It cannot be measured or written; what was there before is still there.
        """
        with Spool(self.place.above) as spool:
            result = run.into(spool)
            written = self.place.write(lambda folder: self._fill(folder, result, spool))
        return result, {"nbytes_written": written}

    def _fill(self, folder: Path, result: Result, spool: Spool) -> int:
        slots = self._slots(spool)
        metadata = {"format": "pt", "spectra_form": self.analyzer.form, **provenance(result)}
        if self.analyzer.form != "shira":
            return write_tensors(folder / FILE, slots, metadata)
        text = config_text(self._config())
        (folder / CONFIG).write_text(text, encoding="utf-8")
        written = write_tensors(folder / WEIGHTS, slots, metadata) + len(text.encode())
        if self.base.folder is not None:
            for name in BESIDE:
                copy_file(self.base.folder, name, folder)
        return written

    def _config(self) -> dict[str, Any]:
        names = [layer.home.module for layer in self.taken.layers]
        others = [name for name in self.taken.homes.memory.layers if name]
        config = {**SHIRA, **named_base(self.base.spec), "r": self.analyzer.rank}
        return dict(sorted({**config, "target_modules": targets_of(names, others)}.items()))

    def _slots(self, spool: Spool | None) -> dict[str, Slot]:
        """Return every tensor of the file."""
        slots: dict[str, Slot] = {}
        for layer in self.taken.layers:
            view = layer.view
            count = self.analyzer.entries_of(view.rows, view.cols)
            masks = self.analyzer.form == "masks"
            shape = view.entry.shape if masks else (2, count)
            held = partial(_held, spool, view.name, shape[0])
            size = prod(shape) * (1 if masks else 4)
            slot = Slot("BOOL" if masks else "I32", shape, size, held)
            if self.analyzer.form == "shira":
                name = f"{PREFIX}{layer.home.module}.shira"
                slots[f"{name}_indices"] = slot
                slots[f"{name}_weight"] = Slot("F32", (count,), 4 * count, partial(_zeros, count))
            else:
                slots[view.name] = slot
        return slots


def _held(spool: Spool | None, name: str, count: int) -> Iterator[Bytes]:
    if spool is not None:
        yield raw(spool.rows(name, "mask", count))


def _zeros(count: int) -> Iterator[Bytes]:
    yield bytes(4 * count)
