"""One fine-tune and what becomes of it: tuned, looked at, repaired, cut, shrunk, and measured."""

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file
from transformers import BertModel

import spectra
from benchmarks.evidence.measure import Exam, Scores, accuracy, encoded, files_of
from benchmarks.evidence.tune import Head, Method, Setting, probe, tune
from benchmarks.evidence.wordnet import Split
from benchmarks.tuned.pairs import Reader

ENCODER = "encoder."  # the 36 matrices that all methods train; a full fine-tune moves others too
# What tells most comes first: a run that is cut off has something of each.
SCALES = (0.75, 0.3, 0.0, 0.5, 0.9)  # of intruders; 0.3 to 0.9 are published
RANKS = (1, 8, 32, 4)  # of an update that is cut
SHARES = (0.75, 0.5, 0.9, 0.3)  # of the whole update that stay: the cure without any spectrum


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the table."""

    method: str
    seed: int
    eta: float | None
    cure: str  # none, top, all, truncate or shrink; `base` stands for the model before
    amount: float | None  # scale of intruders, rank, or share of the update that stays
    task: float
    words: float
    others: float
    development: float | None  # accuracy by which learning rates were chosen
    intruders: int | None = None  # in the 36 matrices
    holders: int | None = None  # matrices with intruders
    elsewhere: int | None = None  # intruders in other matrices
    repaired: int | None = None
    delta: float | None = None  # norm of the update over that of the base, 36 matrices together
    rank: float | None = None  # median of the updates' ranks


NAMES = [one.name for one in fields(Record)]


class Table:
    """Rows on disk, each written when it is known: a run that was cut off goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = set[tuple[str, ...]]()
        if path.exists():
            with path.open(newline="") as file:
                self.known = {self._key(row) for row in csv.DictReader(file)}
        else:
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(NAMES)

    @staticmethod
    def _key(row: dict[str, str]) -> tuple[str, ...]:
        return tuple(row[name] for name in ("method", "seed", "eta", "cure", "amount"))

    def has(self, method: Method | None, seed: int, cure: str, amount: float | None = None) -> bool:
        """Tell whether a row is there."""
        said = {
            "method": method.name if method else "base",
            "seed": str(seed),
            "eta": str(method.eta) if method else "",
            "cure": cure,
            "amount": "" if amount is None else str(amount),
        }
        return self._key(said) in self.known

    def add(self, record: Record) -> None:
        """Write a row."""
        row = {name: "" if value is None else value for name, value in asdict(record).items()}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, NAMES).writerow(row)
        self.known.add(self._key({name: str(value) for name, value in row.items()}))
        print(record, flush=True)


@dataclass(frozen=True, slots=True)
class Findings:
    """What `spectra` says of an update."""

    intruders: int
    holders: int
    elsewhere: int
    most: int  # intruders of one matrix
    delta: float
    rank: float | None = None


def findings(frame: pd.DataFrame, suffix: str = "") -> Findings:
    """Sum up the rows of `diff`, or with `_after` those of `lowrank repair`."""
    inside = frame["matrix"].str.startswith(ENCODER)
    counts = frame["intruders" + suffix].fillna(0).astype(int)
    mine = frame[inside]
    base = (mine["delta_norm"] / mine["delta_relative"]).pow(2).sum() ** 0.5
    ranks = mine["rank_kept" if suffix else "delta_rank"]
    return Findings(
        int(counts[inside].sum()),
        int((counts[inside] > 0).sum()),
        int(counts[~inside].sum()),
        int(counts.max()),
        float(mine["delta_norm" + suffix].pow(2).sum() ** 0.5 / base),
        None if ranks.isna().all() else float(ranks.median()),
    )


def shrunk(base: Path, tuned: Path, out: Path, share: float) -> None:
    """Write base + share * (tuned - base), all tensors."""
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    for name, value in after.items():
        if value.is_floating_point():
            after[name] = before[name].lerp(value, share)
    out.mkdir(parents=True)
    shutil.copy(tuned / "config.json", out)
    save_file(after, out / "model.safetensors", {"format": "pt"})


@dataclass(frozen=True, slots=True)
class Bench:
    """The model, the texts, and where all of it is written."""

    base: Path
    out: Path
    texts: Split
    reader: Reader
    workers: int
    table: Table
    only_tuned: bool = False  # nothing is cured

    @property
    def exam(self) -> Exam:
        """What is asked of every model."""
        return Exam(self.texts.test, self.texts.other)

    def before(self, this: Setting) -> None:
        """Measure the base once, with a head that was trained on what it says as it is."""
        if self.table.has(None, this.seed, "base"):
            return
        model = BertModel.from_pretrained(self.base)
        train = encoded(model, self.reader, [gloss.text for gloss in self.texts.train])
        head = probe(train, files_of(self.texts.train), this)
        scores = self.exam.score(model, self.reader, head)
        self.table.add(
            Record("base", this.seed, None, "base", None, scores.task, scores.words, scores.others,
                   self.development(model, head))
        )  # fmt: skip

    def development(self, model: BertModel, head: Head) -> float:
        """Return the accuracy on the glosses by which settings are chosen."""
        texts = encoded(model, self.reader, [gloss.text for gloss in self.texts.development])
        return accuracy(texts, head, files_of(self.texts.development))

    def run(self, method: Method, this: Setting) -> None:
        """Tune once, unless that is done, and measure every cure that is not measured yet."""
        folder = self.out / f"{method.name}-eta{method.eta:g}-seed{this.seed}"
        stored = folder / "head.safetensors"
        if not stored.exists():
            model = BertModel.from_pretrained(self.base)
            whole, (weight, bias) = tune(model, self.reader, self.texts.train, method, this)
            whole.save_pretrained(folder)
            save_file({"weight": weight, "bias": bias}, stored)
        head = (load_file(stored)["weight"], load_file(stored)["bias"])
        found = findings(
            spectra.diff(
                str(self.base), str(folder), intruders=True, workers=self.workers, progress=False
            ).frame
        )

        def record(cure: str, amount: float | None, at: Path, seen: Findings, count: int) -> None:
            model = BertModel.from_pretrained(at)
            scores: Scores = self.exam.score(model, self.reader, head)
            right = self.development(model, head) if cure == "none" else None
            self.table.add(
                Record(method.name, this.seed, method.eta, cure, amount, **asdict(scores),
                       development=right, intruders=seen.intruders, holders=seen.holders,
                       elsewhere=seen.elsewhere, repaired=count, delta=seen.delta, rank=seen.rank)
            )  # fmt: skip

        if not self.table.has(method, this.seed, "none"):
            record("none", None, folder, found, 0)
        for cure, amount, write in () if self.only_tuned else cures(method, found):
            if self.table.has(method, this.seed, cure, amount):
                continue
            at = folder.with_name(f"{folder.name}-cured")
            shutil.rmtree(at, ignore_errors=True)
            seen, count = write(self, folder, at)
            record(cure, amount, at, seen, count)
            shutil.rmtree(at)


Write = Callable[[Bench, Path, Path], tuple[Findings, int]]


def cures(method: Method, found: Findings) -> Iterator[tuple[str, float, Write]]:
    """Yield what is tried: its name, how much of it, and what writes the model.

    Of a run without intruders there is nothing to repair; where no matrix has two, scaling all
    of them is scaling the leading one. Both would only repeat rows.
    """

    def repairing(scale: float = 0.75, rank: int | None = None, *, every: bool = False) -> Write:
        def write(bench: Bench, tuned: Path, out: Path) -> tuple[Findings, int]:
            result = spectra.lowrank.repair(
                str(bench.base), str(tuned), out, scale=scale, all=every, truncate=rank,
                workers=bench.workers, progress=False,
            )  # fmt: skip
            return findings(result.frame, "_after"), result.summary["repaired"]

        return write

    def shrinking(share: float) -> Write:
        def write(bench: Bench, tuned: Path, out: Path) -> tuple[Findings, int]:
            shrunk(bench.base, tuned, out, share)
            result = spectra.diff(
                str(bench.base), str(out), intruders=True, workers=bench.workers, progress=False,
                cache=False,
            )  # fmt: skip
            return findings(result.frame), 0

        return write

    tops = [("top", scale, repairing(scale)) for scale in SCALES if found.intruders]
    alls = [("all", scale, repairing(scale, every=True)) for scale in SCALES if found.most > 1]
    cuts = [
        ("truncate", rank, repairing(rank=rank))
        for rank in RANKS
        if method.rank is None or rank < method.rank
    ]
    less = [("shrink", share, shrinking(share)) for share in SHARES]
    for turn in zip_longest(tops, alls, cuts, less):
        yield from (one for one in turn if one is not None)
