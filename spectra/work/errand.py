"""What a worker of a cluster is sent, what it does there, and what comes back."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

from spectra import distribution
from spectra.analyzers import Analyzer
from spectra.checkpoint.entry import shards_of
from spectra.checkpoint.local import SECOND, LocalFile, legible
from spectra.checkpoint.source import Span
from spectra.deferred import Tensor, torch
from spectra.errors import CheckpointError, CorruptError, SpectraError
from spectra.text import shown, size
from spectra.work.identity import numerics
from spectra.work.load import Loaded, Loader
from spectra.work.local import corrupted, measure_loaded
from spectra.work.task import Task
from spectra.work.threads import use_threads

HEAD: Final = 64 << 10  # bytes of a file that tell it from another, from its beginning and its end
PIECES, PIECE = 64, 1 << 10  # and evenly spread: what was trained in part has the ends it had


class Seal(NamedTuple):
    """What tells a file from another one at the same path of another machine."""

    size: int
    modified: int  # seconds; file systems keep different fractions
    some: str  # the digest of its first and last bytes, and of some between

    @property
    def told(self) -> str:
        """Size and time in words."""
        import datetime as dt  # noqa: PLC0415 - for a message

        when = dt.datetime.fromtimestamp(self.modified, tz=dt.UTC)
        return f"{size(self.size)} of {when:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Errand:
    """Tasks that one worker measures, one after another, each with the threads that suit it."""

    tasks: tuple[Task, ...]  # portable
    analyzer: Analyzer[Any]
    device: str
    threads: int  # that a run has where the errand comes from: numbers hang on it
    seals: Mapping[Path, Seal]  # of the files that lie there
    makes: bool = False  # whether somebody takes what measuring made


@dataclass(frozen=True, slots=True)
class Found:
    """What comes back of one task."""

    row: Mapping[str, Any]  # plain
    tensors: Mapping[str, Tensor]


class Digests:
    """A ledger that hands over what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Span, str]] = []

    def known(self, span: Span) -> str | None:
        """Return nothing: the store is elsewhere."""
        del span
        return None

    def note(self, span: Span, digest: str) -> None:
        """Take the digest of a span that was just read."""
        self.told.append((span, digest))


def versions(module: str = __name__) -> dict[str, str]:
    """Return what has to be the same everywhere for the same numbers.

    A build of torch for GPUs stands beside one without: what follows `+` is left out.

    Args:
        module: Whose code counts beside that of spectra.
    """
    return {
        "spectra": distribution.version(),
        "torch": version("torch").partition("+")[0],
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "code": sha256((numerics(module) + _own_code()).encode()).hexdigest()[:12],
    }


@cache
def _own_code() -> str:
    """Return the digest of what is sent, and of what measures it there."""
    found = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def files_of(tasks: Sequence[Task]) -> dict[Path, LocalFile]:
    """Return the local files that tasks read, by path."""
    return {
        file.path.absolute(): file
        for task in tasks
        for one in task.inputs
        for read in one.used  # of one blob in two revisions of a cache both places
        for shard in shards_of(read.entry)
        if isinstance(file := read.source.files[shard], LocalFile)
    }


def sealed(path: Path) -> Seal:
    """Return what tells a file from others.

    Raises:
        CheckpointError: It cannot be read.
    """
    with legible(path), path.open("rb") as file:
        found = path.stat()
        last, some = max(0, found.st_size - HEAD), sha256(file.read(HEAD))
        for place in range(1, PIECES + 1):
            file.seek(last * place // (PIECES + 1))
            some.update(file.read(PIECE))
        file.seek(last)
        some.update(file.read(HEAD))
    return Seal(found.st_size, found.st_mtime_ns // SECOND, some.hexdigest()[:16])


def received(expected: Mapping[str, str], sent: bytes) -> dict[str, Any]:
    """Do what was sent, on a worker.

    Args:
        expected: What `versions` says where it comes from, without an analyzer's own code.
        sent: A pickled `Errand`, which is opened only if these are the same here.

    Returns:
        A `Found` a task under `found`, and under `digests` those of the spans of local files that
        were read; or under `refused` why it cannot be done on any worker of
        this node; or under `failed` the error that ends the run here as it would anywhere.
    """
    from ray import cloudpickle  # noqa: PLC0415 - where this runs, it is there

    own = versions()
    if own != expected:
        return {"refused": differing(own, expected)}
    try:
        errand: Errand = cloudpickle.loads(sent)
    except (ImportError, AttributeError) as error:  # an analyzer of another package
        return {"refused": f"cannot import what measures ({error}); install it on all nodes"}
    if errand.device != "cpu" and not torch.cuda.is_available():
        return {
            "refused": "has a GPU by Ray's count, and torch sees none. Install a build of torch "
            "for GPUs there, or give --device cpu"
        }
    try:
        for path, seal in errand.seals.items():
            if why := _otherwise(path, seal):
                return {"refused": why}
        if not errand.tasks:
            torch.get_num_threads()  # while it is asked for nothing it loads what it will need
        ledger = Digests()
        return {"found": list(_measured(errand, ledger)), "digests": ledger.told}
    except SpectraError as error:
        return {"failed": (type(error).__name__, str(error.args[0]))}


def differing(own: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Say in which versions a node differs."""
    names = [name for name in expected if own.get(name) != expected[name]]
    if names == ["code"]:
        return (
            f"has another spectra {own['spectra']}: its code differs from the one here. Use one "
            "environment, or image, on all nodes"
        )
    named = [name for name in names if name != "code"]
    there, here = (", ".join(f"{name} {of[name]}" for name in named) for of in (own, expected))
    return f"has {there}, expected {here} as here. Use one environment, or image, on all nodes"


_seen: dict[Path, tuple[Seal, str]] = {}
"""What this worker found of files, which it looks at once."""


def _otherwise(path: Path, seal: Seal) -> str:
    """Return why a file is not the one that is meant; nothing where it is."""
    known, why = _seen.get(path, (None, ""))
    if known == seal:
        return why
    shared = "Use a folder that all nodes share at one path"
    try:
        there = sealed(path)
    except CheckpointError as error:
        why = f"cannot see a file: {str(error.args[0]).partition('. Expected')[0]}. {shared}"
    else:
        why = "" if there == seal else (
            f"has another file at {shown(path)}: {there.told}, expected {seal.told} as here"
            f"{', and its bytes are others' if there[:2] == seal[:2] else ''}. {shared}, or copies "
            "with their times (rsync -a)"
        )  # fmt: skip
    if not why:  # what is wrong may be mended before the next run
        _seen[path] = seal, why
    return why


def _measured(errand: Errand, ledger: Digests) -> Iterator[Found]:
    """Measure task after task; the next one is read meanwhile."""
    tasks, before = errand.tasks, torch.get_num_threads()
    use_threads(errand.threads)  # which what is read ahead is decoded with too
    loader = Loader(tasks, ledger)

    def load(task: Task) -> Loaded:
        use_threads(errand.threads)  # what is formed of what is read depends on it
        return loader.load(task)

    try:
        with ThreadPoolExecutor(1, thread_name_prefix="spectra-read") as reader:
            coming = [reader.submit(load, task) for task in tasks[:1]]
            for at, task in enumerate(tasks):
                try:
                    job: Loaded | CorruptError = coming.pop().result()
                except CorruptError as error:
                    job = error
                coming += [reader.submit(load, after) for after in tasks[at + 1 : at + 2]]
                if isinstance(job, CorruptError):
                    row, tensors = corrupted(task, errand.analyzer, job)
                else:
                    row, tensors = measure_loaded(
                        errand.analyzer, job, errand.device, threads=errand.threads
                    )
                del job
                yield Found(row.plain(), tensors if errand.makes else {})
    finally:
        loader.close()
        torch.set_num_threads(before)
