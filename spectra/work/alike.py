"""Tensors that are known to hold the same values, of which one is read."""

from collections.abc import Sequence
from dataclasses import replace

from spectra.checkpoint.fingerprints import Ledger
from spectra.work.ahead import at_once
from spectra.work.read import Read
from spectra.work.task import Input, Replaced, Task


def read_once(tasks: Sequence[Task], ledger: Ledger | None) -> list[Task]:
    """Return tasks that read what two models have in common in one of them, on this machine if so.

    Most tensors of a release are those of the one before, in files of other hashes. Digests tell
    so once both were read, for whatever question.

    Args:
        tasks: What is to be measured.
        ledger: Knows the digests of what was read before.
    """
    both = [
        read for task in tasks for one in task.inputs if isinstance(one.change, Replaced)
        for read in (one.own, *one.change.reads)
    ]  # fmt: skip
    if ledger is None or not both:
        return [*tasks]
    prints = {read.key: read.fingerprint(ledger) for read in both}
    found: dict[str, Read] = {}
    for read in both:
        known = prints[read.key]
        if known and (known not in found or at_once(read) < at_once(found[known])):
            found[known] = read

    def elsewhere(one: Input) -> Input:
        if not isinstance(one.change, Replaced):
            return one
        reads = one.own, *one.change.reads
        own, tuned = (found.get(prints[read.key] or "", read) for read in reads)
        if [own.key, tuned.key] == [read.key for read in reads]:
            return one
        change = replace(one.change, source=tuned.source, entry=tuned.entry, slab=tuned.slab)
        return replace(one, stored=own, change=change)

    return [replace(task, inputs=tuple(map(elsewhere, task.inputs))) for task in tasks]
