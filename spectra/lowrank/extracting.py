"""An adapter that holds what a fine-tune changed: matrices as factors, the rest whole."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from spectra.analyzers.extracted import Extracted
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.errors import AdapterError, NothingToAnalyseError, PairingError, UsageError
from spectra.lowrank.homes import Home, Homes, homes_of
from spectra.lowrank.naming import Name, Naming
from spectra.lowrank.output import Carried, Output, Part
from spectra.lowrank.resizing import bytes_given, planned
from spectra.lowrank.writing import Writing
from spectra.matrices import Selection, View, match_names, views_of
from spectra.matrices.part import Part as Inside
from spectra.runs.opening import Device, Globs, Layers, Memory, Spec, chosen
from spectra.runs.opening import open as opened
from spectra.runs.planned import Planned, asked
from spectra.text import quote, shown
from spectra.words import VOCABULARY, Engine, Stored, To
from spectra.work import Plan
from spectra.work.planning.plan import Member, in_bytes
from spectra.work.task import Input, Replaced, Task
from spectra.writing.peft import PREFIX

MARGIN = 4  # times the even share of a budget, that one matrix is measured for
FEWEST = 16  # directions that are measured for a budget, at least
WHOLE = "written whole"
ROOM = 64 << 20  # bytes of a tensor that is compared at a time


@asked
def extract(
    base: Spec,
    tuned: Spec,
    output: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    budget: str | float | None = None,
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
    analyzer = Extracted(rank=rank, energy=energy, budget=bytes_given(budget), dtype=dtype)
    naming = Naming(to, part, before)
    writing = _Extraction(before, after, some, naming).planned(analyzer, Path(output), force=force)
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
        raise UsageError(
            f"{shown(given.spec)} is an adapter already, expected a model: `spectra lowrank "
            f"{'convert' if given.updates else 'resize'} {shown(given.spec)}` makes "
            f"{'a LoRA of it' if given.updates else 'it smaller'}."
        )
    return given


@dataclass(frozen=True, slots=True)
class Whole:
    """A tensor that is written whole where it changed, since it has no factors."""

    before: TensorEntry
    after: TensorEntry
    parameter: str  # in memory
    save: str  # the module of `modules_to_save`; empty: a bias, which PEFT loads by itself
    told: str = f"{WHOLE}: a norm or a bias"  # of one that changed


@dataclass(slots=True)
class _Extraction:
    """One base, what became of it, and where an adapter holds what."""

    base: Checkpoint
    tuned: Checkpoint
    selection: Selection
    naming: Naming
    tasks: list[Task] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    whole: list[Whole] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    turned: bool = False  # a linear layer is stored [in, out]

    def planned(self, analyzer: Extracted, path: Path, *, force: bool) -> Writing:
        """Return what is ready to run.

        Raises:
            SpectraError: Nothing is left, or it cannot be written.
        """
        subject = f"tensor of {shown(self.tuned.spec)}"
        partners, strangers = match_names(self.base.entries, self.tuned.entries, subject)
        if not partners:
            raise PairingError(
                f"no tensor of {shown(self.tuned.spec)} belongs to one of {shown(self.base.spec)}. "
                "Give the base it was trained on."
            )
        homes = homes_of(self.base)
        self.skipped += [Skipped(name, "no counterpart in the base") for name in strangers]
        self._matrices(homes, partners, analyzer)
        if not self.tasks:
            lost = [*self.skipped, *(Skipped(one.before.name, one.told) for one in self.whole)]
            told = f" {lost[0].tensor}: {lost[0].reason}." if lost else ""
            raise NothingToAnalyseError(
                f"no matrix of {shown(self.base.spec)} is left whose change an adapter could hold."
                f"{told} `spectra ls {shown(self.base.spec)}` shows all."
            )
        if self.naming.to != "peft":
            told = f"--to {self.naming.to} holds factors alone"
            self.skipped += [Skipped(one.before.name, f"not held: {told}") for one in self.whole]
            self.whole = []
        elif self.selection == Selection():
            self._vectors(homes, partners)
        self._name()
        output = Output(
            path, self.parts, self.dtypes,
            {**named_base(self.base.spec), "fan_in_fan_out": self.turned},
            _carried(self.tuned, self.whole, self.parts),
            beside=self.tuned.folder, others=[name for name in homes.memory.layers if name],
            sources=[{"spec": one.spec, "resolved": one.resolved}
                     for one in (self.base, self.tuned)],
            force=force, coat=self.naming.coat, part=self.naming.part,
        )  # fmt: skip
        if analyzer.budget is not None:
            width = sum(map(output.direction, self.parts))
            even = max(analyzer.budget - output.fixed({}), 0) // width
            analyzer = replace(analyzer, measured=max(MARGIN * even, FEWEST))
            self.ranks = {name: min(rank, analyzer.measured or rank)
                          for name, rank in self.ranks.items()}  # fmt: skip
        notes = (homes.note,) if homes.note else ()
        members = Member(self.base, "base"), Member(self.tuned, "tuned")
        plan = Plan(members, in_bytes(self.tasks), tuple(self.skipped), notes=notes)
        output = replace(output, settle=self._settled)
        return planned(analyzer, plan, output, self.ranks, self.selection)

    def _name(self) -> None:
        """Give modules the names that they have in the file.

        Raises:
            AdapterError: One cannot be named, or has no place there.
        """
        coat = self.naming.coat
        for part in self.parts.values():
            if why := coat.refused(part.worn(1)):
                raise AdapterError(
                    f"module {quote(part.name)} cannot be written: {why}. --exclude it, or "
                    "expected --to peft."
                )
        names = {key: Name(part.name) for key, part in self.parts.items()}
        shapes = {key: (part.outputs, prod(part.inputs)) for key, part in self.parts.items()}
        homes = self.naming.homes(names, shapes)
        self.parts = {
            key: replace(part, name=homes[key].name, rows=homes[key].rows,
                         columns=homes[key].columns)
            for key, part in self.parts.items()
        }  # fmt: skip

    def _matrices(self, homes: Homes, partners: Mapping[str, str], analyzer: Extracted) -> None:
        """Note a task for every tensor that factors can hold."""
        views, _ = views_of(self.base)
        kept = {view.name for view in self.selection.apply(views)}
        held = by_tensor(views)
        theirs = by_tensor(views_of(self.tuned)[0])
        for name, inside in held.items():
            chosen_ones = [view for view in inside if view.name in kept]
            if not chosen_ones:
                continue
            reason = self._matrix(homes, inside, chosen_ones, partners, theirs, analyzer)
            if reason:
                self.skipped.append(Skipped(name, reason))

    def _matrix(
        self,
        homes: Homes,
        inside: Sequence[View],
        chosen_ones: Sequence[View],
        partners: Mapping[str, str],
        theirs: Mapping[str, Sequence[View]],
        analyzer: Extracted,
    ) -> str:
        """Note one tensor's task, or return why it is not held."""
        entry = inside[0].entry
        other = theirs.get(partners.get(entry.name, ""))
        if other is None:
            return "no counterpart in the tuned model"
        if len(chosen_ones) < len(inside):
            return "only some of its matrices are selected, and an adapter holds it whole"
        home = homes.of(entry)
        after = other[0].entry
        if isinstance(home, str):
            self.whole.append(Whole(entry, after, "", "", f"not held: {home}"))
            return ""
        if after.shape != entry.shape:
            if inside[0].role.kind not in VOCABULARY:
                return f"not held: {list(entry.shape)} in the base, {list(after.shape)} here"
            self.whole.append(Whole(entry, after, f"{home.module}.weight", home.module))
            return f"{WHOLE}: {list(entry.shape)} in the base, {list(after.shape)} here"
        self._task(home, inside, other, analyzer)
        return ""

    def _task(
        self, home: Home, inside: Sequence[View], other: Sequence[View], analyzer: Extracted
    ) -> None:
        entry, after = inside[0].entry, other[0].entry
        table = home.kind == "embedding"  # stored [entries, features]: its inputs are the entries
        turned = [any(view.part.transposed for view in some) != table for some in (inside, other)]
        self.turned = self.turned or (turned[0] and not table)
        rows, cols = entry.shape[0], prod(entry.shape[1:])
        rows, cols = (cols, rows) if turned[0] else (rows, cols)
        role = inside[0].role
        view = View(entry.name, role, entry, Inside(transposed=turned[0]), rows, cols)
        change = Replaced(self.tuned, after, None, Inside(transposed=turned[1]))
        self.tasks.append(Task(view.place(), (Input("", self.base, view, True, change),)))
        convolution = len(entry.shape) > 2
        self.parts[entry.name] = Part(
            home.module, entry.shape[1:] if convolution else (cols,), rows,
            (1,) * (len(entry.shape) - 2), home.kind,
        )  # fmt: skip
        self.ranks[entry.name] = min(rows, cols)
        self.dtypes[entry.name] = analyzer.stored(after.dtype if after.codec is None else "F32")

    def _vectors(self, homes: Homes, partners: Mapping[str, str]) -> None:
        """Note the norms and biases, which are written whole where they changed."""
        for name, other in partners.items():
            before, after = self.base.entries[name], self.tuned.entries[other]
            if len(before.shape) != 1 or not (before.is_weights and after.is_weights):
                continue
            parameter = homes.parameter(before)
            module, _, leaf = parameter.rpartition(".")
            if leaf == "bias" and homes.is_matrix(module):
                self.whole.append(Whole(before, after, parameter, ""))
            elif module and leaf in ("weight", "bias") and before.shape == after.shape:
                self.whole.append(Whole(before, after, parameter, module))
            else:
                told = "not held: of no module that PEFT saves"
                self.whole.append(Whole(before, after, "", "", told))

    def _same(self, before: TensorEntry, after: TensorEntry) -> bool:
        """Say whether a tensor is what it was, a few of its rows in memory at a time."""
        count = before.shape[0] if before.shape else 1
        step = max(1, ROOM * count // max(before.nbytes, 1))
        slabs = [(start, min(start + step, count)) for start in range(0, count, step)]
        return all(
            bool((self.base.read(before, slab) == self.tuned.read(after, slab)).all())
            for slab in (slabs if before.shape else [None])
        )

    def _settled(self, output: Output, held: Set[str]) -> tuple[Output, list[Skipped]]:
        """Return the output with those tensors alone that changed, and what to say of them."""
        changed, told = [], []
        for one in self.whole:
            if one.before.shape != one.after.shape:
                changed.append(one)  # told of by the plan
            elif not self._same(one.before, one.after):
                changed.append(one)
                told.append(Skipped(one.before.name, one.told))
        # A module is saved with all its tensors.
        modules = {one.save for one in changed if one.save}
        saved = [one for one in self.whole if one in changed or (one.save in modules and one.save)]
        biased = any(one.parameter and not one.save for one in changed)
        given = {
            **output.given,
            "modules_to_save": sorted(modules) or None,
            "bias": "all" if biased else "none",
        }
        carried = _carried(
            self.tuned, saved, {name: self.parts[name] for name in held if name in self.parts}
        )
        return replace(output, given=given, carried=carried), told


def _carried(
    tuned: Checkpoint, whole: Iterable[Whole], parts: Mapping[str, Part]
) -> dict[str, Carried]:
    """Return whole tensors by their names in the file."""
    adapted = {part.name for part in parts.values()}
    found = {}
    for one in whole:
        if not one.parameter:
            continue
        module, _, leaf = one.parameter.rpartition(".")
        inner = "" if one.save or module not in adapted else ".base_layer"
        found[f"{PREFIX}{module}{inner}.{leaf}"] = Carried(tuned, one.after)
    return found


def named_base(spec: str) -> dict[str, str | None]:
    """Return what settings say of the base: its name as transformers takes it, and a revision."""
    name, _, revision = spec.removeprefix("hf://").partition("@")
    if not revision or Path(spec).exists():
        return {"base_model_name_or_path": spec.removeprefix("hf://"), "revision": None}
    return {"base_model_name_or_path": name, "revision": revision}


def by_tensor(views: Iterable[View]) -> dict[str, list[View]]:
    """Return the matrices of each tensor."""
    found: dict[str, list[View]] = {}
    for view in views:
        found.setdefault(view.entry.name, []).append(view)
    return found
