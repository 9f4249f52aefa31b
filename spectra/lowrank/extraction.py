"""What of a fine-tune an adapter holds, and where: planned from headers alone."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from spectra.analyzers import Row
from spectra.analyzers.extracted import Extracted
from spectra.checkpoint import Checkpoint, Skipped, TensorEntry
from spectra.errors import AdapterError, NothingToAnalyseError, PairingError
from spectra.lowrank.counterparts import Counterpart, Counterparts
from spectra.lowrank.experts import Share, router, row_of, shares_of
from spectra.lowrank.homes import Home, Homes, homes_of
from spectra.lowrank.naming import Name, Naming
from spectra.lowrank.output import Output, Part
from spectra.lowrank.parameters import (
    LOST,
    OPEN,
    PARTLY,
    Matrix,
    Parameter,
    by_tensor,
    changed_shape,
    in_order,
    parameters_of,
)
from spectra.lowrank.planning import left_over, planned
from spectra.lowrank.provenance import named_base
from spectra.lowrank.whole import (
    FULL,
    WHOLE,
    Changed,
    Whole,
    carried,
    named,
    of_full_rank,
    saved_weight,
    settled,
    vectors,
    written,
)
from spectra.lowrank.writing import Run, Writing
from spectra.matrices import Selection, View, match_names, views_of
from spectra.matrices.part import Part as Inside
from spectra.matrices.role import common_role
from spectra.text import counted, quote, shown
from spectra.words import VOCABULARY
from spectra.work import Plan
from spectra.work.planning.plan import Member, in_bytes
from spectra.work.task import Input, Replaced, Task

MARGIN = 4  # times the even share of a budget, that one matrix is measured for
FEWEST = 16  # directions that are measured for a budget, at least


@dataclass(slots=True)
class Extraction:
    """One base, what became of it, and where an adapter holds what."""

    base: Checkpoint
    tuned: Checkpoint
    selection: Selection
    naming: Naming
    homes: Homes = field(init=False)
    partners: Mapping[str, str] = field(default_factory=dict)  # tuned names by those of the base
    held: Mapping[str, Sequence[View]] = field(default_factory=dict)  # matrices of each tensor
    theirs: Mapping[str, Sequence[View]] = field(default_factory=dict)  # of the tuned model
    counterparts: Counterparts = field(init=False)
    tasks: list[Task] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    whole: list[Whole] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    sources: dict[str, dict[str, None]] = field(default_factory=dict)
    """Names of tensors by the key of a part that is made of several, or of some rows of one."""
    unnamed: dict[str, str] = field(default_factory=dict)  # why the file cannot hold a part
    changed: Changed = field(init=False)
    turned: bool = False  # a linear layer is stored [in, out]

    def planned(self, analyzer: Extracted, path: Path, *, force: bool) -> Writing:
        """Return what is ready to run.

        Raises:
            SpectraError: Nothing is left, or it cannot be written.
        """
        subject = f"tensor of {shown(self.tuned.spec)}"
        self.partners, strangers = match_names(self.base.entries, self.tuned.entries, subject)
        if not self.partners:
            raise PairingError(
                f"no tensor of {shown(self.tuned.spec)} belongs to one of {shown(self.base.spec)}. "
                "Give the base it was trained on."
            )
        self.homes = homes_of(self.base)
        self.changed = Changed(self.base, self.tuned)
        self.skipped += [Skipped(name, "no counterpart in the base") for name in strangers]
        self._matrices(analyzer)
        self._name()
        if not self.tasks:
            lost = [*self.skipped, *(Skipped(one.before.name, one.told) for one in self.whole)]
            lost += [Skipped(name, why) for name, why in self.unnamed.items()]
            told = f" {lost[0].tensor}: {lost[0].reason}." if lost else ""
            raise NothingToAnalyseError(
                f"no matrix of {shown(self.base.spec)} is left whose change an adapter could hold."
                f"{told} `spectra ls {shown(self.base.spec)}` shows all."
            )
        if self.selection == Selection():
            self.whole += vectors(self.homes, self.tuned, self.partners, self.held.keys())
        self.whole = named(self.homes, self.whole)
        if self.naming.to != "peft":
            told = f"not held: --to {self.naming.to} holds factors alone"
            self.whole = [
                replace(one, parameter="", told=told if one.parameter else one.told)
                for one in self.whole
            ]
        output = Output(
            path, self.parts, self.dtypes,
            {**named_base(self.base.spec), "fan_in_fan_out": self.turned},
            carried(self.tuned, [one for one in self.whole if not one.doubtful], self.parts, None),
            beside=self.tuned.folder, others=[name for name in self.homes.memory.layers if name],
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
        notes = (self.homes.note,) if self.homes.note else ()
        members = Member(self.base, "base"), Member(self.tuned, "tuned")
        plan = Plan(members, in_bytes(self.tasks), tuple(self.skipped), notes=notes)
        output = replace(output, first=self._first, settle=self._settled)
        return planned(analyzer, plan, output, self.ranks, self.selection)

    def _first(self, output: Output, run: Run) -> Run:
        """Refuse what cannot be written, and keep the room of a budget that what changed takes.

        Raises:
            SpectraError: A module has no name, or nothing is left of the budget.
        """
        self._require_names()
        analyzer = run.analysis.analyzer
        assert isinstance(analyzer, Extracted)  # noqa: S101 - as it was planned
        if analyzer.budget is None or not any(one.doubtful for one in self.whole):
            return run
        taken = carried(self.tuned, written(self.whole, self.changed), self.parts, None)
        fixed = left_over(analyzer.budget, replace(output, carried=taken), output.most)
        analyzer = replace(analyzer, reserved=fixed)
        return replace(run, analysis=replace(run.analysis, analyzer=analyzer))

    def _name(self) -> None:
        """Give modules the names that they have in the file; let go those that it has no place for.

        These are no matter where they did not change, which reading them tells.
        """
        names = {key: Name(part.name, stack=part.leaf, layer=part.layer)
                 for key, part in self.parts.items()}  # fmt: skip
        shapes = {key: (part.outputs, prod(part.inputs)) for key, part in self.parts.items()}
        homes, self.unnamed = self.naming.told(names, shapes)
        coat = self.naming.coat
        self.unnamed |= {key: why for key, part in self.parts.items()
                         if (why := coat.refused(part.worn(1)))}  # fmt: skip
        self.parts = {
            key: replace(part, name=homes[key].name, rows=homes[key].rows,
                         columns=homes[key].columns)
            for key, part in self.parts.items() if key not in self.unnamed
        }  # fmt: skip
        self.tasks = [task for task in self.tasks if task.place.tensor not in self.unnamed]
        for key in self.unnamed:
            del self.ranks[key], self.dtypes[key]

    def _require_names(self) -> None:
        """Refuse modules that changed and that the file has no place for.

        Raises:
            AdapterError: There are some.
        """
        lost: dict[str, str] = {}
        for key, why in self.unnamed.items():
            for tensor in self.sources.get(key, {key: None}):
                before = self.base.entries[tensor]
                after = self.tuned.entries[self.partners[tensor]]
                if self.changed(before, after):
                    lost[tensor] = why
        if lost:
            first, why = next(iter(lost.items()))
            excluded = " ".join(f"--exclude {quote(name)}" for name in [*lost][:3])
            raise AdapterError(
                f"{counted(len(lost), 'matrix', 'matrices')} changed and cannot be written as "
                f"{self.naming.to}, e.g. {quote(first)}: {why}. Expected --to peft, or, to leave "
                f"out what changed there, {excluded}{' ...' if len(lost) > 3 else ''}."
            )

    def _matrices(self, analyzer: Extracted) -> None:
        """Note a task for every matrix that factors can hold."""
        views = [view for view in views_of(self.base)[0] if not view.part.alone]  # written whole
        kept = {view.name for view in self.selection.apply(views)}
        self.held, self.theirs = by_tensor(views), by_tensor(views_of(self.tuned)[0])
        self.counterparts = Counterparts(self.tuned, self.partners, self.theirs)
        made = parameters_of(self.homes, self.held)
        taken: set[str] = set()
        for name in in_order(self.homes, made):
            one = made[name]
            if isinstance(one, Parameter):
                taken |= self._parameter(one, kept, analyzer)
        used = self.counterparts.used
        self.skipped = [item for item in self.skipped if item.tensor not in used]
        self.skipped += [
            Skipped(name, f"not held: {made[one.name]}")
            for name in taken for one in self.homes.memory.landings[name]
            if isinstance(made.get(one.name), str)
        ]  # fmt: skip
        for name, inside in self.held.items():
            chosen_ones = [view for view in inside if view.name in kept]
            if not chosen_ones or name in taken:
                continue
            reason = self._matrix(inside, chosen_ones, made, analyzer)
            if reason:
                self.skipped.append(Skipped(name, reason))

    def _matrix(
        self,
        inside: Sequence[View],
        chosen_ones: Sequence[View],
        made: Mapping[str, Parameter | str],
        analyzer: Extracted,
    ) -> str:
        """Note the task of a tensor that is a weight by itself, or return why it is not held."""
        entry = inside[0].entry
        other = self.theirs.get(self.partners.get(entry.name, ""))
        if other is None:
            return LOST
        if len(chosen_ones) < len(inside):
            return PARTLY
        home, after = self.homes.of(entry), other[0].entry
        if isinstance(home, str):
            landed = self.homes.memory.landings.get(entry.name, ())
            why = next((made[one.name] for one in landed if one.name in made), OPEN)
            what = "a router" if inside[0].role.kind == "router" else "experts"
            bare = f"--to {self.naming.to} has no place for bare parameters, such as {what}"
            reason = bare if isinstance(why, Parameter) else home if why == OPEN else why
            self.whole += saved_weight(self.homes, entry, after, reason)
            return ""
        if after.shape != entry.shape:
            told = changed_shape(entry, after)
            if inside[0].role.kind not in VOCABULARY:
                return f"not held: {told}"
            self.whole.append(Whole(entry, after, f"{home.module}.weight", saved=True))
            return f"{WHOLE}: {told}"
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
        role = common_role([one.role for one in inside])
        view = View(entry.name, role, entry, Inside(transposed=turned[0]), rows, cols)
        change = Replaced(self.tuned, after, None, Inside(transposed=turned[1]))
        self.tasks.append(Task(view.place(), (Input("", self.base, view, True, change),)))
        convolution = len(entry.shape) > 2
        part = Part(
            home.module, entry.shape[1:] if convolution else (cols,), rows,
            (1,) * (len(entry.shape) - 2), home.kind,
            parameter=f"{home.module}.weight" if self._by_name(home.module) else "",
        )  # fmt: skip
        self._held(entry.name, part, analyzer, [after])

    def _by_name(self, module: str) -> bool:
        return self.naming.to == "peft" and self.homes.by_name(module)

    def _held(
        self, key: str, part: Part, analyzer: Extracted, stored: Iterable[TensorEntry]
    ) -> None:
        self.parts[key] = part
        self.ranks[key] = min(part.outputs, prod(part.inputs))
        own = ["F32" if one.codec is not None else one.dtype for one in stored]
        self.dtypes[key] = analyzer.stored(*own)

    def _parameter(self, one: Parameter, kept: Set[str], analyzer: Extracted) -> set[str]:
        """Note a task for each matrix of a parameter; return the tensors that this accounts for.

        Others than PEFT hold gate and up of experts apart, and a router as any layer.
        """
        if not one.bare or self.naming.coat.stacks == "memory":
            return self._share(one, kept, analyzer, Share())
        if not self.naming.coat.stacks:
            return set()
        if not one.stacked:
            module = self._router(one)
            return self._share(one, kept, analyzer, Share(module=module)) if module else set()
        done: set[str] = set()
        for word, rows in shares_of(one, self.held).items():
            done |= self._share(one, kept, analyzer, Share(word, rows))
        return done

    def _router(self, one: Parameter) -> str:
        """Return the module that a bare matrix is the weight of where it is no parameter."""
        name = next(iter(one.tensors))
        if len(one.tensors) > 1 or not name.endswith(".weight"):
            return ""
        module = name.removesuffix(".weight")
        return module if self.naming.to != "mlx" else router(self.base, module)

    def _share(
        self, one: Parameter, kept: Set[str], analyzer: Extracted, share: Share
    ) -> set[str]:  # fmt: skip
        members: list[str] = []
        stored: list[TensorEntry] = []
        done: set[str] = set()
        lost: dict[str, str] = {}
        for expert, matrix in enumerate(one.matrices):
            reason = matrix.unselected(self.held, kept, share.word)
            if reason is None:
                members.append("")
                continue
            names = [piece.entry.name for piece in matrix.pieces]
            done |= set(names)
            other = self.counterparts.of(one, expert)
            if reason := reason or other.unfit:
                lost |= dict.fromkeys(names if one.stacked else names[:1], reason)
                members.append("")
                continue
            row = row_of(one, expert, share.word, share.rows)
            self.tasks.append(self._matrix_task(one, matrix, row, other, share))
            members.append(row)
            stored += other.entries
        self.skipped += [Skipped(name, reason) for name, reason in lost.items()]
        if any(members):
            known = tuple(members) if one.stacked else ()
            bare = self.naming.to == "peft" and (one.bare or self._by_name(one.module))
            rows, key = share.count(one.shape[0]), share.key(one)
            part = Part(
                share.module or one.module, (one.shape[1],), rows,
                parameter=one.name if bare else "", members=known, leaf=share.word,
                layer=one.layer(self.held),
            )  # fmt: skip
            self.turned = self.turned or (not one.bare and one.matrices[0].part.transposed)
            self._held(key, part, analyzer, stored)
            self.sources[key] = one.tensors
        return done

    def _matrix_task(
        self, one: Parameter, matrix: Matrix, row: str, other: Counterpart, share: Share
    ) -> Task:
        key = row.partition(",")[0]  # one for gate and up, which read the same
        whole = matrix.of(key, [piece.entry for piece in matrix.pieces])
        own, part = (replace(two, rows=share.rows) for two in (matrix.part, other.matrix.part))
        size = share.count(one.shape[0]), one.shape[1]
        view = View(row, matrix.role(self.held, share.word), whole, own, *size)
        change = Replaced(self.tuned, other.matrix.of(key, other.entries), part.slab, part)
        first = matrix.pieces[0].entry
        place = replace(view.place(), tensor=share.key(one), dtype=first.dtype,
                        codec=None if first.codec is None else first.codec.name)  # fmt: skip
        return Task(place, (Input("", self.base, view, True, change),))

    def _settled(self, output: Output, rows: Sequence[Row]) -> tuple[Output, list[Skipped]]:
        """Return the output with those tensors alone that changed, and what to say of them.

        Raises:
            UsageError: No module has factors that are thinner than it.
        """
        full = of_full_rank(rows, self.parts, self.naming.to)
        more = [
            Whole(self.base.entries[row.matrix], self.tuned.entries[self.partners[row.matrix]],
                  f"{self.parts[row.matrix].name}.weight", saved=True, told=FULL)
            for row in full
        ]  # fmt: skip
        whole = self.whole + named(self.homes, more)
        held = {row.matrix for row in rows if row.number("rank_kept")}
        return settled(output, self.tuned, whole, self.changed, held)
