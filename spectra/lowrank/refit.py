"""A repaired adapter: which modules get what, what is written, and what is found in it then."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from spectra.analyzers import Row
from spectra.analyzers.repaired import Repaired, after_of
from spectra.checkpoint import Adapter, Checkpoint, open_spec
from spectra.checkpoint.adapter.settings import CONFIG
from spectra.checkpoint.entry import BITS
from spectra.errors import AdapterError
from spectra.lowrank.output import provenance
from spectra.lowrank.pieces import Carried, copy_file, require_finite, stored_bytes
from spectra.lowrank.refitting import (
    Added,
    Module,
    Refitted,
    filled,
    lengthened,
    new_lengths,
)
from spectra.lowrank.rewriting import copy
from spectra.lowrank.sources import refuse_other_names
from spectra.lowrank.stacks import READ
from spectra.lowrank.writing import Run
from spectra.matrices import Selection
from spectra.runs.result import Result
from spectra.text import shown
from spectra.wording import worded
from spectra.work import plan_pair
from spectra.work.executor import measured
from spectra.work.local import Local
from spectra.work.read import Read
from spectra.work.task import Task, Updated
from spectra.writing.destination import Destination
from spectra.writing.peft import BESIDE, FOLDER, WEIGHTS, config_of, targets_of, write_peft
from spectra.writing.peft import Module as Named
from spectra.writing.spool import Spool, raw
from spectra.writing.tensors import Bytes, Slot

ROOM = 1 << 20  # bytes of header and settings


@dataclass(frozen=True, slots=True)
class Refit:
    """Where an adapter goes, and all that is known of it before anything is measured."""

    path: Path
    base: Checkpoint
    adapter: Adapter
    analyzer: Repaired
    tasks: Mapping[str, Task]  # by matrix
    keys: Mapping[str, str]  # modules by matrix
    force: bool = False

    @classmethod
    def of(
        cls, path: Path, base: Checkpoint, adapter: Adapter, analyzer: Repaired,
        tasks: Sequence[Task], *, force: bool,
    ) -> "Refit":  # fmt: skip
        """Return what is written of an adapter.

        Args:
            path: The folder.
            base: The model it was trained on.
            adapter: That of which most stays.
            analyzer: What is asked for.
            tasks: Of the matrices that its factors change.
            force: Replace what is there.

        Raises:
            AdapterError: It is of a form that is not written.
        """
        refuse_other_names(adapter)
        names = {own.a.name: key for key, own in adapter.factors.items()}
        keys = {}
        for task in tasks:
            change = task.inputs[0].change
            assert isinstance(change, Updated)  # noqa: S101 - as told above
            keys[task.place.matrix] = names[change.factors.a.name]
        found = {task.place.matrix: task for task in tasks}
        return cls(path, base, adapter, analyzer, found, keys, force)

    @property
    def place(self) -> Destination:
        """Where it goes."""
        return Destination(self.path, FOLDER, self.force)

    def require(self) -> None:
        """Refuse, before any work, a place where it could not be written.

        Raises:
            OutputError: It cannot.
        """
        most = 0
        for matrix, key in self.keys.items():
            own = self.adapter.factors[key]
            width = (self.tasks[matrix].place.rows + self.tasks[matrix].place.cols) * own.count
            most += width * self.analyzer.k * BITS[own.a.dtype] // 8
        self.place.require(self.adapter.weights.nbytes + 5 * most + ROOM)

    def write(self, run: Run) -> tuple[Result, Mapping[str, Any]]:
        """Measure, write, look again; return what was found, and what is told of what is written.

        Raises:
            SpectraError: It cannot be measured or written; what was there before is still there.
        """
        self._require_whole()

        def fill(folder: Path) -> tuple[Result, int]:
            with Spool(self.place.above) as spool:
                result = run.into(spool)
                made = self._made(result.rows, spool)
            written = self._written(folder, self._alike(made), result)
            rows = self._again(folder, self._rows(result.rows, made), made, run)
            return self._told(result, rows), written

        result, nbytes = self.place.write(fill)
        return result, {"nbytes_written": nbytes}

    def _require_whole(self) -> None:
        """Refuse NaN and Inf beside the factors, which are measured, or stay where excluded.

        Raises:
            NonFiniteError: There are some.
        """
        own = [
            half for one in self.adapter.factors.values() for half in (one.a, one.b, one.magnitude)
        ]
        factors = {part.name for half in own if half is not None for part in half.parts}
        weights = self.adapter.weights
        for name, entry in weights.entries.items():
            if name not in factors:
                require_finite(Carried(weights, entry))

    def _made(self, rows: Sequence[Row], spool: Spool) -> dict[str, Refitted]:
        """Return the modules that are written anew."""
        by_module: dict[str, list[Row]] = {}
        for row in rows:
            if row.matrix in self.keys:
                by_module.setdefault(self.keys[row.matrix], []).append(row)
        found = {key: self._module(key, own, spool) for key, own in by_module.items()}
        return {key: one for key, one in found.items() if one is not None}

    def _module(self, key: str, rows: Sequence[Row], spool: Spool) -> Refitted | None:
        """Return a module as it is written; None where it stays."""
        analyzer = self.analyzer
        scaled = [row for row in rows if row.number("repaired")]
        change = self._change(rows[0])
        rank = change.factors.rank
        if not scaled and analyzer.truncate is None and (analyzer.rank or rank) >= rank:
            return None
        if analyzer.truncate is not None and (analyzer.stays or not _moves(rows)):
            return None
        module = Module.read(self.adapter, key, change.factors)
        if analyzer.truncate is not None:
            ranks = [analyzer.kept(*one) if len(one[0]) else 0 for one in module.spectra()]
            return None if max(ranks) >= rank else module.cut(ranks)
        if not scaled:
            return module.cut([analyzer.rank or rank] * module.count)
        added = [self._added(row, spool) for row in scaled]
        if module.own.magnitude is None:
            grown = module.with_more(added)
            return grown.cut(analyzer.rank) if _above(grown.rank, analyzer) else grown.written()
        return self._of_lengths(module, change, added)

    def _of_lengths(self, module: Module, change: Updated, added: Sequence[Added]) -> Refitted:
        """Return a module of DoRA, with new lengths."""
        entry = module.own.magnitude
        assert entry is not None  # noqa: S101 - as told
        stored = Read(self.adapter.weights, entry).values()
        magnitude = stored.double().flatten()
        whole = added[0].task.inputs[0].whole.values().double().flatten(1)
        lengths, tuned = lengthened(change, whole, module, magnitude)
        grown = module.with_more(added, lengths)
        found = (
            grown.cut(self.analyzer.rank or 1) if _above(grown.rank, self.analyzer)
            else grown.written()
        )  # fmt: skip
        new = new_lengths(change, tuned, added, magnitude).to(stored.dtype).reshape(stored.shape)
        return replace(found, tensors={**found.tensors, entry.name: new})

    def _added(self, row: Row, spool: Spool) -> Added:
        count = int(row.number("repaired") or 0)
        left, right = (spool.rows(row.matrix, side, count) for side in ("left", "right"))
        return Added(self.tasks[row.matrix], left.mT, right)

    def _change(self, row: Row) -> Updated:
        change = self.tasks[row.matrix].inputs[0].change
        assert isinstance(change, Updated)  # noqa: S101 - as told above
        return change

    def _alike(self, made: Mapping[str, Refitted]) -> dict[str, Refitted]:
        """Return all modules, with those that stay as they are.

        PEFT looks stacks of experts up by no name, so that all of them have one rank.

        Raises:
            AdapterError: They had several.
        """
        found = dict(made)
        stacks = {key: own for key, own in self.adapter.factors.items() if own.kind == "parameter"}
        highest = max((made[key].rank for key in stacks if key in made), default=0)
        pairs = {pair for own in stacks.values() for pair in own.choices.values()}
        if highest and len(pairs) > 1:
            raise AdapterError(
                f"stacks of experts of {shown(self.adapter.spec)} have several ranks or scales, "
                "which is not written again. Give --merged, which writes the whole model."
            )
        for key, own in self.adapter.factors.items():
            rank = made[key].rank if key in made else own.rank
            if key in stacks and rank < highest:
                one = made.get(key) or Module.read(self.adapter, key, own).as_it_is()
                found[key] = filled(own, one, highest)
            elif key not in made:
                found[key] = Refitted(own.rank, own.scale * own.rank)
        return found

    def _written(self, folder: Path, modules: Mapping[str, Refitted], result: Result) -> int:
        adapter = self.adapter
        weights = adapter.weights
        beside = weights.folder
        anew = {name: one for module in modules.values() for name, one in module.tensors.items()}
        plain = adapter.coat == READ[0]
        if beside is not None:
            for name in BESIDE:
                copy_file(beside, name, folder)
        if not anew and plain and list(weights.files) == [WEIGHTS] and beside is not None:
            files = {WEIGHTS: weights.files[WEIGHTS], CONFIG: beside.file(CONFIG)}
            copy(files, folder)
            return sum(one.size for one in files.values())
        slots: dict[str, Slot] = {}
        for name, entry in weights.entries.items():
            if not plain and name.endswith(".alpha"):
                continue  # in the settings now
            if name in anew:
                tensor = anew[name]
                nbytes = tensor.numel() * tensor.element_size()
                slots[name] = Slot(entry.dtype, tuple(tensor.shape), nbytes, partial(_raw, tensor))
            else:
                nbytes = entry.numel * BITS[entry.dtype] // 8
                given = partial(stored_bytes, Carried(weights, entry))
                slots[name] = Slot(entry.dtype, entry.shape, nbytes, given)
        config = self._config(modules, plain=plain)
        return write_peft(folder, slots, config, provenance(result))

    def _config(self, modules: Mapping[str, Refitted], *, plain: bool) -> dict[str, object]:
        named, kept = [], {}
        for key, one in modules.items():
            own = self.adapter.factors[key]
            if own.kind != "parameter":
                named.append(Named(own.module, one.rank, own.kind, one.alpha))
                continue
            for leaf, (rank, scale) in own.choices.items():
                anew = bool(one.tensors)
                kept[f"{own.module}.{leaf}"] = (
                    (one.rank, one.alpha) if anew else (rank, scale * rank)
                )
        targets = None if plain else targets_of([one.name for one in named])
        return config_of(named, self.adapter.config, kept=kept, targets=targets)

    def _rows(self, rows: Sequence[Row], made: Mapping[str, Refitted]) -> list[Row]:
        """Return rows with the ranks of their modules, and what these lose."""
        found = []
        for row in rows:
            if row.matrix not in self.keys or row.number("delta_norm") is None:
                found.append(row)
                continue
            key = self.keys[row.matrix]
            rank = self._change(row).factors.rank
            one = made.get(key, Refitted(rank, 0.0))
            values = {
                **row.values, "rank_before": rank, "rank_kept": one.rank, "loss": one.loss,
                "rounding": one.rounding,
            }  # fmt: skip
            found.append(replace(row, values=values))
        return found

    def _again(
        self, folder: Path, rows: Sequence[Row], made: Mapping[str, Refitted], run: Run
    ) -> list[Row]:
        """Return rows with what is found in the adapter that was written."""
        touched = {row.matrix for row in rows if self.keys.get(row.matrix) in made}
        if not touched:
            return list(rows)
        opened = open_spec(folder)
        plan = plan_pair(self.base, opened, Selection())
        tasks = [task for task in plan.tasks if task.place.matrix in touched]
        looking = replace(self.analyzer, scale=1.0, truncate=None, rank=None, min_energy=None)
        here = run.executor if isinstance(run.executor, Local) else Local()
        again = {row.matrix: row for row in measured(here, tasks, looking, run.report)}
        found = []
        for row in rows:
            other = again.get(row.matrix)
            if other is None or other.number("delta_norm") is None:
                found.append(row)
                continue
            after = {**after_of(other.values), "delta_norm_after": other.values["delta_norm"]}
            found.append(replace(row, values={**row.values, **after}))
        return found

    def _told(self, result: Result, rows: Sequence[Row]) -> Result:
        before = worded(str(self.analyzer.conclude(result.rows)[1]["reading"]))
        summary = dict(self.analyzer.conclude(rows)[1])
        reading = str(result.summary["reading"])
        summary["reading"] = reading.replace(before, worded(str(summary["reading"])))
        return replace(result, rows=rows, summary={**result.summary, **summary})


def _moves(rows: Sequence[Row]) -> bool:
    return any(row.number("delta_norm") for row in rows)


def _above(rank: int, analyzer: Repaired) -> bool:
    return analyzer.rank is not None and rank > analyzer.rank


def _raw(tensor: object) -> Iterator[Bytes]:
    yield raw(tensor)  # type: ignore[arg-type]
