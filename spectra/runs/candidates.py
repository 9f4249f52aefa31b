"""Pairs of heads that may be among the strongest, and their exact scores."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from spectra.deferred import Tensor, torch
from spectra.kernels.composition import frame_of
from spectra.runs.pairs import Pair
from spectra.runs.scores import Found

SURE = 3.0  # standard errors by which a pair may lie higher than it is estimated
COMPONENTS = 3  # of a pair, that are told


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pair of heads."""

    pair: Pair
    writer: int
    reader: int
    score: float
    error: float = 0.0
    components: Sequence[Mapping[str, float]] = field(default_factory=tuple)

    def plain(self) -> dict[str, Any]:
        """Return it as a document has it."""
        one, other = self.pair.writer, self.pair.reader
        null = one.about.written**-0.5
        return {
            "kind": self.pair.kind,
            "writer": f"{one.name}[head={self.writer}]", "writer_layer": one.place[0],
            "writer_head": self.writer,
            "reader": f"{other.name}[head={self.reader}]", "reader_layer": other.place[0],
            "reader_head": self.reader,
            "score": self.score, "null": null, "over": self.score / null,
            "components": [dict(one) for one in self.components],
        }  # fmt: skip


Frames = dict[tuple[str, int], tuple[Tensor, Tensor]]  # of writers' heads, by `frame_of`


def leading(found: Sequence[Found], count: int) -> tuple[list[Candidate], list[int]]:
    """Return the pairs whose scores may be highest, by their errors, the highest first.

    And of each number of pairs, from 1 on, how many of these may be among that many strongest.
    What is alike stands in the order of the pairs, so that more of them begin with the same.
    """
    every = torch.cat([one.score.flatten() for one in found])
    high = torch.cat([(one.score + SURE * one.error).flatten() for one in found])
    count = min(count, len(every))
    some = (high >= high.topk(count).values[-1]).nonzero().flatten()
    places = some[high[some].argsort(descending=True, stable=True)][:count]
    checked = [*range(1, count + 1)]
    if bool((high > every).any()):
        least = every.topk(count).values
        checked = (high[places] >= least[:, None]).sum(dim=1).tolist()
    starts = [0, *accumulate(one.score.numel() for one in found)]
    made = []
    for place in places.tolist():
        which = bisect_right(starts, place) - 1
        one = found[which]
        writer, reader = divmod(place - starts[which], one.score.shape[1])
        heads = one.pair.writer.heads[writer], one.pair.reader.heads[reader]
        made.append(Candidate(one.pair, *heads, float(one.score[writer, reader]),
                              float(one.error[writer, reader])))  # fmt: skip
    return made, checked


def chosen_of(wanted: Sequence[Candidate]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the heads of each module that write and that read in these pairs, by what they do."""
    found: dict[str, dict[str, set[int]]] = {}
    for one in wanted:
        found.setdefault(one.pair.writer.name, {}).setdefault("writes", set()).add(one.writer)
        found.setdefault(one.pair.reader.name, {}).setdefault(one.pair.kind, set()).add(one.reader)
    return {name: {what: tuple(sorted(heads)) for what, heads in own.items()}
            for name, own in found.items()}  # fmt: skip


def exactly(
    one: Candidate,
    held: Mapping[str, Mapping[str, Tensor]],
    places: Mapping[str, Mapping[str, tuple[int, ...]]],
    frames: Frames,
) -> Candidate:
    """Return a pair with its exact score, and the writer's components that carry it.

    `frames` keeps the singular directions of writers, each of which is in many pairs.
    """
    writer, reader = one.pair.writer.name, one.pair.reader.name
    at = (places[writer]["writes"].index(one.writer),
          places[reader][one.pair.kind].index(one.reader))  # fmt: skip
    writes, reads = held[writer]["writes"][at[0]], held[reader][one.pair.kind][at[1]]
    size, length, scale = (float(held[name][key][place]) for name, key, place in (
        (writer, "writes.norm", at[0]), (reader, f"{one.pair.kind}.norm", at[1]),
        (writer, "writes.scale", at[0]),
    ))  # fmt: skip
    if (writer, one.writer) not in frames:
        frames[writer, one.writer] = frame_of(writes)
    values, turn = frames[writer, one.writer]
    rows = (turn @ (writes @ reads.mT).double()).square().sum(dim=1)
    total = float(rows.sum())
    components = [
        {"index": float(index), "sigma": float(values[index]) * scale,
         "score": math.sqrt(float(rows[index])) / (float(values[index]) * length),
         "share": float(rows[index]) / total}
        for index in rows.topk(min(COMPONENTS, len(rows))).indices.tolist()
        if total and float(values[index])
    ]  # fmt: skip
    score = math.sqrt(total) / (size * length) if size * length else 0.0
    return replace(one, score=score, error=0.0, components=[
        {**part, "index": int(part["index"])} for part in components
    ])  # fmt: skip
