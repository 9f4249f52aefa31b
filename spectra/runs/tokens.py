"""What singular directions read and write, in tokens: added to the rows of another question."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from spectra.analyzers import Analyzer, Row
from spectra.analyzers.directions import ENDS, Directions, HeadDirections
from spectra.analyzers.readout import EMBEDDING, HEAD, Readout
from spectra.checkpoint import Adapter, Checkpoint
from spectra.checkpoint.tokenizer import NAME, Tokenizer, others_of, tokenizer_of
from spectra.checkpoint.vocabularies import READ
from spectra.deferred import Tensor, torch
from spectra.errors import UsageError
from spectra.kernels.readout import Ends
from spectra.matrices.vocabulary import Vocabulary, vocabulary_of
from spectra.numbers import whole
from spectra.runs.analysis import Analysis
from spectra.runs.around import Around
from spectra.runs.composition import Composition
from spectra.runs.directions import LEADING, Direction, Finder
from spectra.runs.result import Result, noted
from spectra.runs.staged import Stage, staged
from spectra.runs.tokens_asked import Asking
from spectra.runs.tokens_told import sentence
from spectra.runs.vocabulary import plan_of, read_out
from spectra.text import counted, shown
from spectra.words import FAILED
from spectra.work import Plan
from spectra.work.estimate import Estimate, estimate
from spectra.work.executor import Executor, Report, silent
from spectra.work.local import Local

EACH_END = 10  # tokens that a row has at each end of a direction

UNREAD: Final = " holds NaN or Inf: nothing is read by it"
BROKEN: Final = f"a norm on the way{UNREAD}"
FLAT: Final = "every token has the same weight: nothing tells them apart"


@dataclass(frozen=True, slots=True)
class InTokens(Around[Analysis | Composition]):
    """An analysis, and what the directions of its rows are in tokens.

    Rows are measured as ever. Then the vectors of directions are found, all of them are read by
    the output head and the embedding at once, a stretch of rows at a time, and let go.
    """

    source: Checkpoint  # whose head and embedding are taken
    vocabulary: Vocabulary
    tokenizer: Tokenizer | None
    fold: bool = True

    @property
    def notes(self) -> Sequence[str]:
        """What of it was asked for and does nothing, and what is odd about its tokens."""
        return [*self.analysis.notes, *self._odd()]

    def estimate(self, executor: Executor | None = None) -> Estimate:
        """Tell from headers what the rows take, and directions of all matrices beside them."""
        executor = executor or Local()
        first = self.analysis.estimate(executor)
        if not first.nbytes and self._asking(executor).recalled() is not None:
            return first
        parts = [first, *(estimate(plan, analyzer, executor) for plan, analyzer in self._stages())]
        heads, lines = self.command == "heads", self._directions()
        square = 8 * self.vocabulary.width**2 if heads else 0
        took = [one.seconds for one in parts]
        return replace(
            first,
            seconds=None if None in took else sum(one or 0.0 for one in took),
            memory=max(one.memory for one in parts) + 4 * lines.numel() + square,
            nbytes=sum(one.nbytes for one in parts),
        )

    def _directions(self) -> Tensor:
        """Return as many as there may be, without values."""
        per = sum(len(ENDS) * one.about.heads for one in self.plan.tasks if one.about) \
            or LEADING * len(self.plan.tasks)  # fmt: skip
        return torch.empty((per, self.vocabulary.width), device="meta")

    def _stages(self) -> Iterator[tuple[Plan, Analyzer[Any]]]:
        """Yield what is measured after rows: tables as wholes, directions, tables by these."""
        heads = self.command == "heads"
        roles = (HEAD, EMBEDDING) if self.vocabulary.embedding is not None else (HEAD,)
        table = plan_of(self.source, self.vocabulary, *roles)
        if heads and len(roles) > 1:
            yield table, Readout({}, crosses=True)
        yield self.plan, HeadDirections(self.fold) if heads else Directions()
        lines = self._directions()
        for some in [roles] if self.vocabulary.tied else [(role,) for role in roles]:
            yield plan_of(self.source, self.vocabulary, *some), Readout(dict.fromkeys(some, lines))

    def run(self, executor: Executor | None = None, report: Report = silent) -> Result:
        """Read, measure and put into words.

        Raises:
            SpectraError: A file changed or ended while it was read.
        """
        start, executor = time.perf_counter(), executor or Local()
        inner = self.analysis
        stages = inner.stages(executor) if isinstance(inner, Composition) else [
            Stage.of(self.plan.tasks, inner.analyzer)
        ]  # fmt: skip
        if self._asking(executor).recalled() is None:
            for plan, analyzer in self._stages():
                executor.peak(plan.tasks, analyzer)  # too little memory is refused before any work
                stages.append(Stage.of(plan.tasks, analyzer))
        report = staged(report, stages)
        result = self.analysis.run(executor, report)
        found = self._found(executor, result.rows, report)
        told, heads = self._named(found["told"]), self.command == "heads"
        rows = [
            replace(row, values={
                **row.values,
                **({"copying_tokens": found["copied"].get(row.matrix)} if heads else {}),
                "tokens": told.get(row.matrix, []),
                "tokens_status": found["status"].get(row.matrix, "ok"),
            })
            for row in result.rows
        ]  # fmt: skip
        about = self._about(told)
        summary = {**result.summary, "tokens": about}
        reading = f"{summary['reading']} {sentence(self.command, rows)}".strip()
        before: Any = summary.get("notes") or ()
        lacking = Counter(
            reason for row in rows if (reason := str(row.values["tokens_status"])) in (BROKEN, FLAT)
            or reason.endswith(UNREAD)
        )  # fmt: skip
        sick = [f"tokens of {counted(count, 'row')}: {reason}" for reason, count in lacking.items()]
        notes = [*before, *self._odd(), *sick]
        return replace(
            result, rows=rows, settings={**result.settings, "tokens": True},
            summary={**summary, "reading": reading, **noted(notes)},
            seconds=time.perf_counter() - start,
        )  # fmt: skip

    def _asking(self, executor: Executor) -> Asking:
        inner = self.analysis.analysis if isinstance(self.analysis, Composition) else self.analysis
        return Asking(executor, self.plan, inner.analyzer, self.source, self.vocabulary, self.fold,
                      EACH_END)  # fmt: skip

    def _found(self, executor: Executor, rows: Sequence[Row], report: Report) -> Mapping[str, Any]:
        """Return what is told of rows, by matrix; the store keeps it, and no directions."""
        asking, whole = self._asking(executor), all(row.status != FAILED for row in rows)
        known = asking.recalled() if whole else None
        if known is not None:
            return known
        finder = Finder(self.plan, self.command, self.source, self.vocabulary, self.fold)
        directions = finder.found(executor, rows, report)
        told = self._read(executor, directions, finder.status, report)
        found = {"told": told, "status": finder.status, "copied": finder.copied}
        if whole:
            crossed = self.command == "heads" and self.vocabulary.embedding is not None
            roles = {one.role for one in directions}
            asking.keep([one for one in (HEAD, EMBEDDING) if crossed or one in roles], found)
        return found

    def _named(
        self, told: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return what is told with the texts of its tokens."""

        def texts(end: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
            return [{"id": one["id"], "token": self._name(one["id"]), "weight": one["weight"]}
                    for one in end]  # fmt: skip

        return {
            row: [{**one, **{end: texts(one[end]) for end in ("highest", "lowest")}}
                  for one in readings]
            for row, readings in told.items()
        }  # fmt: skip

    def _read(
        self, executor: Executor, found: Sequence[Direction], status: dict[str, str],
        report: Report,
    ) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
        """Return what every direction is in tokens, by the matrix of its row."""
        broken = [one for one in found if not one.vector.isfinite().all()]
        status |= dict.fromkeys((one.row for one in broken), BROKEN)
        found = [one for one in found if one.vector.isfinite().all()]
        by_role = {role: [one for one in found if one.role == role] for role in (HEAD, EMBEDDING)}
        lines = {role: torch.stack([one.vector for one in some])
                 for role, some in by_role.items() if some}  # fmt: skip
        gathered = read_out(
            executor, self.source, self.vocabulary, lines, EACH_END, report
        ) if lines else {}  # fmt: skip
        told: dict[int, dict[str, Any]] = {}
        for role, ends in gathered.items():
            for place, one in enumerate(by_role[role]):
                if ends.highest[place].max() <= ends.lowest[place].min():
                    status[one.row] = FLAT
                    continue
                told[id(one)] = one.told.plain(
                    self._words(ends, place, "highest"), self._words(ends, place, "lowest"),
                    self.vocabulary.through if role == HEAD else "embedding",
                )  # fmt: skip
        rows: dict[str, list[dict[str, Any]]] = {}
        for one in found:
            if id(one) in told:
                rows.setdefault(one.row, []).append(told[id(one)])
            elif status.get(one.row) != FLAT:
                table = self.vocabulary.head if one.role == HEAD else self.vocabulary.embedding
                name = table.name if table else "the embedding"
                status[one.row] = f"{name}{UNREAD}"
        return rows

    def _words(self, ends: Ends, place: int, end: str) -> list[dict[str, Any]]:
        values, rows = getattr(ends, end)[place].tolist(), getattr(ends, f"{end}_rows")[place]
        return [
            {"id": row, "weight": value} for row, value in zip(rows.tolist(), values, strict=True)
        ]

    def _name(self, row: int) -> str:
        found = self.tokenizer.text(row) if self.tokenizer else None
        return f"<row {row}>" if found is None else found

    def _about(self, told: Mapping[str, Sequence[object]]) -> dict[str, Any]:
        """Return what was read by what."""
        own, norm = self.vocabulary, self.vocabulary.norm
        folds = "unknown" if norm is None else norm.word
        return {
            "through": own.through, "table": own.head.name, "table_rows": own.head.rows,
            "embedding": own.embedding.name if own.embedding else None,
            "norm": norm.entry.name if norm and norm.entry else None,
            "folded": folds if self.fold else "no", "bent": own.bent,
            "tokenizer": self.tokenizer.source if self.tokenizer else None,
            "directions_read": sum(map(len, told.values())),
        }  # fmt: skip

    def _odd(self) -> list[str]:
        """Say where tokens have no names, or names of another vocabulary."""
        head, found = self.vocabulary.head, self.tokenizer
        if found is None:
            others = others_of(self.source)
            lacks = f"nothing names the tokens of {shown(self.source.spec)}: there is no {NAME}"
            more = (
                f". {others[0]} is not read: have transformers' AutoTokenizer save {NAME}"
                if others else f", nor {', '.join(READ)}"
            )  # fmt: skip
            return [f"{lacks}{more}. They are told by their rows"]
        if found.count > head.rows:
            names = f"{found.source} names {whole(found.count)} tokens"
            has = f"{head.name} has {whole(head.rows)} rows"
            return [f"{names}, and {has}: they may not belong together"]
        lacking = sum(row >= found.count or found.piece(row) is None for row in range(head.rows))
        if lacking:
            rows = f"{counted(lacking, 'row')} of {head.name}"
            verb = "is" if lacking == 1 else "are"
            return [f"{rows} {verb} no token of {found.source}: told as <row N>"]
        return []


def in_tokens(inner: Analysis | Composition, *, fold: bool = True) -> InTokens:
    """Return an analysis with its directions in tokens.

    Args:
        inner: Of heads, of a spectrum, or of one fine-tune and its intruders.
        fold: Fold norms in, where they are known.

    Raises:
        SpectraError: The model has no head or embedding that is known, or its tokenizer cannot be
            read.
    """
    source = _source(inner.plan)
    if len(inner.plan.members) == 1 and isinstance(inner.plan.members[0].opened, Adapter):
        name = shown(source.spec)
        raise UsageError(
            f"--tokens reads directions by an output head, which {name} has none of: it is an "
            f"adapter. Give its base: `spectra spectrum {name} --base BASE --tokens`."
        )
    return InTokens(inner, source, vocabulary_of(source), tokenizer_of(source), fold)


def require_intruders(tuned: int, *, intruders: bool, trend: bool) -> None:
    """Refuse to put into words what is not looked for, or not of one fine-tune.

    Raises:
        UsageError: It is not.
    """
    if not intruders:
        raise UsageError(
            "--tokens tells what intruders write and read, and none are looked for. Add "
            "--intruders."
        )
    if tuned > 1 or trend:
        raise UsageError(
            f"--tokens is of the intruders of one TUNED, got {tuned}. Compare them one by one, or "
            "leave it out."
        )


def _source(plan: Plan) -> Checkpoint:
    """Return the model by whose head directions are read: the base where there is one."""
    opened = plan.members[0].opened
    return opened.weights if isinstance(opened, Adapter) else opened
