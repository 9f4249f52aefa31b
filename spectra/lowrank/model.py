"""The checkpoint that is written: a copy with some matrices anew, and where they came from."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from spectra.checkpoint import Checkpoint, Skipped
from spectra.checkpoint.source import Source
from spectra.lowrank.provenance import told_of
from spectra.lowrank.rewriting import Home, Rewriting, beside, copy, require_rewritable
from spectra.runs.result import Result
from spectra.writing.folder import require_new_folder, require_room

PROVENANCE = "spectra_provenance.json"
"""Beside the weights, whose own headers stay as they were."""


@dataclass(frozen=True, slots=True)
class Model:
    """Where a checkpoint goes, and all that is known of it before anything is measured."""

    path: Path
    rewriting: Rewriting
    others: Mapping[str, Source]  # beside its weights, by their places
    left_out: tuple[Skipped, ...]  # of what lies beside them
    force: bool = False

    @classmethod
    def of(
        cls, path: Path, model: Checkpoint, homes: Mapping[str, Home], *, force: bool
    ) -> "Model":
        """Return what is written of a checkpoint.

        Args:
            path: The folder.
            model: That of which most stays.
            homes: Where the matrices lie that may be written anew.
            force: Replace what is there.

        Raises:
            UsageError: It is of a format that is not written.
        """
        require_rewritable(model)
        others, left_out = beside(model)
        others.pop(PROVENANCE, None)
        return cls(path, Rewriting(model, homes), others, tuple(left_out), force)

    def require(self, more: Collection[str] = (), nbytes: int = 0) -> None:
        """Refuse, before any work, a place where it could not be written.

        Args:
            more: Places of files that are written into its folder besides.
            nbytes: What these take.

        Raises:
            OutputError: It cannot.
        """
        files = self.rewriting.model.files
        own = {*files, *self.others, PROVENANCE, *more}
        require_new_folder(self.path, own, force=self.force)
        every = (*files.values(), *self.others.values())
        require_room(self.path, nbytes + sum(one.size for one in every), "Choose another place.")

    def finish(self, sink: Rewriting, result: Result) -> int:
        """Complete the folder, and return the bytes of the weights.

        Raises:
            OutputError: The system refuses, or a file that is read ended early.
        """
        written = sink.finish()
        copy(self.others, sink.folder)
        told = {**told_of(result), "rewritten": sorted(sink.rewritten)}
        text = json.dumps(told, indent=2, ensure_ascii=False, default=str) + "\n"
        (sink.folder / PROVENANCE).write_text(text, encoding="utf-8")
        return written
