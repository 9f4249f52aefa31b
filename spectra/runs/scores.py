"""Scores of all pairs of heads: how much of what one writes another one reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spectra.deferred import Tensor, torch
from spectra.kernels.composition import (
    DRAWN,
    LEADING,
    HeadsLines,
    energies,
    gram_shares,
    with_error,
)
from spectra.runs.pairs import Pair, by_width, is_by_grams
from spectra.work.threads import threads_within

Held = Mapping[str, Mapping[str, Tensor]]  # what `HeadLines` makes of each module


@dataclass(frozen=True, slots=True)
class Found:
    """Scores of all pairs of heads of two modules."""

    pair: Pair
    score: Tensor  # writers x readers, float32, of heads that have numbers
    error: Tensor  # standard error; 0 where it is exact


def scored(pairs: Sequence[Pair], held: Held, *, summed: bool) -> list[Found]:
    """Return the score of every head of the writers with every head of the readers."""
    found: dict[int, Found] = {}
    threads = torch.get_num_threads()
    for places in [] if summed else by_width(pairs).values():
        if is_by_grams([pairs[at] for at in places]):
            with threads_within(1):  # many small tensors, over which helpers would wait
                found |= _by_grams({at: pairs[at] for at in places}, held, threads)
    return [
        found[at] if at in found else compared(one, held, summed=summed)
        for at, one in enumerate(pairs)
    ]


def _by_grams(pairs: Mapping[int, Pair], held: Held, threads: int) -> dict[int, Found]:
    """Return those of which writers follow each other; whoever reads any reads all of a stream."""
    writers = {one.writer.name: one.writer for one in pairs.values()}
    names = sorted(writers, key=lambda name: (writers[name].stack, writers[name].place))
    sides: dict[tuple[str, str], dict[int, int]] = {}  # of each reader: writers, and their pairs
    for at, one in pairs.items():
        sides.setdefault((one.reader.name, one.kind), {})[names.index(one.writer.name)] = at
    runs = {
        side: range(min(own), max(own) + 1)
        for side, own in sides.items()
        if len(own) == max(own) + 1 - min(own)
    }
    shares = gram_shares(
        [_lines(held[name], "writes") for name in names],
        [_lines(held[name], kind) for name, kind in runs],
        [*runs.values()],
        threads,
    )
    found: dict[int, Found] = {}
    for (side, run), own in zip(runs.items(), shares, strict=True):
        parts = own.split([writers[names[at]].about.heads for at in run])
        for at, share in zip(run, parts, strict=True):
            place = sides[side][at]
            score = share[_heads(pairs[place])].sqrt().float()
            found[place] = Found(pairs[place], score, torch.zeros_like(score))
    return found


def _heads(pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the places of those that have numbers."""
    return torch.tensor(pair.writer.heads)[:, None], torch.tensor(pair.reader.heads)


def _lines(of: Mapping[str, Tensor], name: str) -> HeadsLines:
    return HeadsLines(of[name], of[f"{name}.norm"])


def compared(pair: Pair, held: Mapping[str, Mapping[str, Tensor]], *, summed: bool) -> Found:
    """Return the score of every head of the writer with every head of the reader."""
    one, other = held[pair.writer.name], held[pair.reader.name]
    writes, reads = one["writes"].float(), other[pair.kind].float()
    norms = one["writes.norm"][:, None] * other[f"{pair.kind}.norm"][None]
    full = pair.reader.about.value_size if pair.kind == "v" else pair.reader.about.size
    drawn = (summed and pair.writer.about.value_size > LEADING + DRAWN,
             summed and full > LEADING + DRAWN)  # fmt: skip
    many = max(1, (1 << 24) // max(writes.shape[1] * reads.shape[0] * reads.shape[1], 1))
    totals, errors = [], []
    for some in writes.split(many):
        total, error = with_error(energies(some, reads), drawn)
        totals.append(total)
        errors.append(error)
    heads = _heads(pair)
    total, error, norms = torch.cat(totals)[heads], torch.cat(errors)[heads], norms[heads]
    score = (total.sqrt() / norms).nan_to_num(0.0, 0.0, 0.0)
    off = (error / (2.0 * total.sqrt() * norms)).nan_to_num(0.0, 0.0, 0.0)
    return Found(pair, score.float(), off.float())
