"""Repositories of the Hub: a commit pinned, its files read where they lie."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from spectra.checkpoint.documents import MAX_INDEX
from spectra.checkpoint.hub.answers import TIMEOUT, NoRepositoryError, UnreachableError, asked
from spectra.checkpoint.hub.cache import COMMIT, held_commit, keep_name, near_name
from spectra.checkpoint.hub.downloaded import DownloadedFile
from spectra.checkpoint.hub.place import Place, place_of
from spectra.checkpoint.hub.remote import BLOB, RemoteFile
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.source import Folder, Source
from spectra.errors import CheckpointError
from spectra.text import guess, quote, shown

CONCURRENCY = 8


def open_hub(spec: str, *, download: bool) -> tuple[Folder, str]:
    """Return the repository's folder, its commit pinned, and the file in it that was named.

    Args:
        spec: `org/name`, `org/name@revision` or `hf://name`, and a path in it.
        download: Fetch a file whole, into the cache, once its weights are read.

    Returns:
        The folder, and the name of a file in it; empty where the spec names the folder.

    Raises:
        CheckpointError: It is no name of a repository, cannot be seen or reached, or has no
            such revision or path.
    """
    place = place_of(spec)
    if place is None:
        raise CheckpointError(
            f"{shown(spec)} is no name of a repository. Expected org/name[@revision][/path] or "
            "hf://name."
        )
    from huggingface_hub import is_offline_mode  # noqa: PLC0415 - slow, and rarely needed

    if is_offline_mode():
        return _cached(spec, place, "HF_HUB_OFFLINE is set")
    try:
        return _pinned(spec, place, download=download)
    except UnreachableError as error:
        return _cached(spec, place, "the Hub cannot be reached", str(error))


def _pinned(spec: str, place: Place, *, download: bool) -> tuple[Folder, str]:
    from huggingface_hub import HfApi  # noqa: PLC0415 - slow, and rarely needed

    label, api = place.at(""), HfApi(library_name="spectra")
    try:
        info = asked(
            label, lambda: api.model_info(place.repo, revision=place.revision, timeout=TIMEOUT)
        )
    except NoRepositoryError as error:
        told = str(error.args[0]).replace(" Check", f"{near_name(place.repo)} Check", 1)
        raise NoRepositoryError(told) from None
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise CheckpointError(
            f"{label}: the Hub gives {quote(info.sha)} as its commit, expected 40 hexadecimal "
            "digits. Check HF_ENDPOINT."
        )
    files = frozenset(s.rfilename for s in info.siblings or () if _is_plain(s.rfilename))
    inside, name = _within(place, files)
    return HubFolder(spec, place, info.sha, files, inside, download=download), name


def _cached(spec: str, place: Place, why: str, failure: str = "") -> tuple[Folder, str]:
    """Take what the cache holds, and ask nobody.

    Args:
        spec: As the user wrote it.
        place: What it names.
        why: The Hub is not asked.
        failure: What became of asking it.
    """
    commit, held = held_commit(place, failure)
    files = frozenset(path for path in held if _is_plain(path))
    inside, name = _within(place, files)
    return HubFolder(spec, place, commit, files, inside, offline=why), name


def _is_plain(path: object) -> bool:
    """Say whether a path that the Hub lists stays where it should, on every system."""
    if not isinstance(path, str) or not path.isprintable() or "\\" in path or ":" in path:
        return False
    return all(part not in {"", ".", ".."} for part in path.split("/"))


def _within(place: Place, files: frozenset[str]) -> tuple[str, str]:
    """Return the folder that a place means, empty or with a slash at its end, and the file."""
    if place.path in files:
        above, slash, name = place.path.rpartition("/")
        return above + slash, name
    inside = f"{place.path}/" if place.path else ""
    if inside and not any(path.startswith(inside) for path in files):
        near = guess(place.path, files) or f" Give one of those in {place.at('')}."
        raise CheckpointError(
            f"{place.at(place.path)}: the repository has no such file or folder.{near}"
        )
    return inside, ""


@dataclass(frozen=True, slots=True)
class HubFolder:
    """A folder of a repository at one commit: whatever `main` becomes, reads stay on it."""

    spec: str  # as the user wrote it
    place: Place
    commit: str
    files: frozenset[str] = field(repr=False)  # every path of the repository
    inside_path: str  # the folder's own path, empty or with a slash at its end
    download: bool = False
    offline: str = ""  # why the cache's files are all the files
    prefix: str = ""  # of names, where it is a part of a model
    opened: dict[str, Source] = field(default_factory=dict, repr=False, compare=False)

    @property
    def resolved(self) -> str:
        """The commit's own spec."""
        return self.place.resolved(self.commit)

    @property
    def label(self) -> str:
        """How messages name it."""
        alone = f" (in the cache alone: {self.offline})" if self.offline else ""
        return self.place.at(self.inside_path[:-1]) + alone

    @property
    def told(self) -> str:
        """That it comes from the cache, of which commit and why; empty where the Hub was asked."""
        if not self.offline:
            return ""
        moves = "" if self.place.revision == self.commit else "; the Hub may have a newer one"
        return (
            f"{self.place.at('')} is opened from the cache, commit {self.commit}{moves}: "
            f"{self.offline}."
        )

    @property
    def concurrency(self) -> int:
        """Requests are worth making several at once."""
        return CONCURRENCY

    def folders(self) -> Sequence[str]:
        """Return the names of the folders directly in it, sorted."""
        return sorted({name.partition("/")[0] for name in self._below() if "/" in name})

    def inside(self, path: str, prefix: str = "") -> "HubFolder":
        """Return a folder in it."""
        whole = self.inside_path + path
        place = replace(self.place, path=whole)
        return replace(
            self, spec=place.at(whole), place=place, inside_path=f"{whole}/", prefix=prefix
        )

    def names(self) -> Sequence[str]:
        """Return the names of the files directly in it, sorted."""
        return sorted(name for name in self._below() if "/" not in name)

    def _below(self) -> Iterator[str]:
        length = len(self.inside_path)
        return (path[length:] for path in self.files if path.startswith(self.inside_path))

    def has(self, name: str) -> bool:
        """Say whether a file of this name is in it."""
        return self.inside_path + name in self.files

    def file(self, name: str) -> Source:
        """Open a file by its name, once: from the cache, or where it lies."""
        path = self.inside_path + name
        if path not in self.opened:
            self.opened[path] = self._open(path)
        return self.opened[path]

    def _open(self, path: str) -> Source:
        label = self.place.at(path)
        if path not in self.files:
            raise CheckpointError(f"{label}: the repository has no such file. Check its name.")
        import huggingface_hub as hub  # noqa: PLC0415 - loaded already

        held = hub.try_to_load_from_cache(self.place.repo, path, revision=self.commit)
        if isinstance(held, str):
            if self.download and not path.endswith(".json"):
                keep_name(self.place, self.commit)
            return LocalFile(Path(held), self._content(path, Path(held)))
        url = hub.hf_hub_url(
            self.place.repo, path, revision=self.commit, endpoint=hub.HfApi().endpoint
        )
        if path.endswith(".json") and self._is_small(url, label):
            return LocalFile(self.fetched(path))
        remote = RemoteFile(url, label, _headers, hub.get_session, self._content(path))
        if self.download:
            return DownloadedFile(remote, partial(self._whole, path))
        return remote

    def _content(self, path: str, held: Path | None = None) -> str:
        """Return what stands for a file's bytes: its hash where the cache's links tell it."""
        blob = held.resolve().name if held else ""
        return blob if BLOB.fullmatch(blob) else f"{self.place.repo}@{self.commit}/{path}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what is sent elsewhere: no opened files."""
        own = (getattr(self, part.name) for part in fields(self) if part.name != "opened")
        return HubFolder, tuple(own)

    def fetched(self, path: str) -> Path:
        """Return a file of the repository in the cache, fetched whole.

        Raises:
            CheckpointError: It cannot be fetched, or there is no room for it.
        """
        import huggingface_hub as hub  # noqa: PLC0415 - loaded already
        from huggingface_hub.utils.tqdm import silent_tqdm  # noqa: PLC0415 - as above

        # What follows where there is no room is an error, which says so once.
        warnings.filterwarnings("ignore", "Not enough free disk space")

        def fetch() -> str:
            return hub.hf_hub_download(
                self.place.repo,
                path,
                revision=self.commit,
                endpoint=hub.HfApi().endpoint,
                library_name="spectra",
                tqdm_class=silent_tqdm,
            )

        return Path(asked(self.place.at(path), fetch, again=False))

    def _whole(self, path: str) -> Path:
        """Return a file of weights, fetched; documents alone leave a revision's name as it was."""
        found = self.fetched(path)
        keep_name(self.place, self.commit)
        return found

    def _is_small(self, url: str, label: str) -> bool:
        """Say whether a document is worth the cache; what is larger its reader will refuse."""
        from huggingface_hub import get_hf_file_metadata  # noqa: PLC0415 - loaded already

        size = asked(label, lambda: get_hf_file_metadata(url, timeout=TIMEOUT)).size
        return size is not None and size <= MAX_INDEX


def _headers() -> Mapping[str, str]:
    from huggingface_hub import utils  # noqa: PLC0415 - loaded already

    return utils.build_hf_headers(library_name="spectra")  # type: ignore[attr-defined]  # lazy
