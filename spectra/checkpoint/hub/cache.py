"""The cache that the Hub's tools share: which commits of a repository it holds, and their names."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import get_ident

from spectra.checkpoint.hub.answers import UnreachableError
from spectra.checkpoint.hub.place import Place
from spectra.errors import CheckpointError
from spectra.text import guess, listed, shown

COMMIT = re.compile(r"[0-9a-f]{40}")
NEAR = 0.7  # how alike a name is that may have been meant


def held_commit(place: Place, failure: str = "") -> tuple[str, list[str]]:
    """Return the commit that the cache holds of a revision, and the paths of its files.

    Args:
        place: A repository and the revision.
        failure: What became of asking the Hub; empty where it was not asked.

    Raises:
        CheckpointError: The cache cannot be read, or has no such revision.
    """
    reference = _reference(place)
    home = _home_of(place)
    try:
        commit = reference.read_text("ascii") if reference.is_file() else reference.name
        held = sorted(p.name for p in home.glob("snapshots/*") if COMMIT.fullmatch(p.name))
        snapshot = home / "snapshots" / commit
        found = snapshot.rglob("*") if commit in held else ()
        files = [path.relative_to(snapshot).as_posix() for path in found if path.is_file()]
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{shown(home)} cannot be read ({type(error).__name__}). Expected a cache of the Hub: "
            "check HF_HOME."
        ) from None
    if commit not in held:
        raise _absent(place, held, failure)
    return commit, files


def keep_name(place: Place, commit: str) -> None:
    """Note in the cache, as the Hub's own tools do, which commit a revision is."""
    reference = _reference(place)
    if place.revision != commit:
        fresh = reference.with_name(f"{reference.name}.{os.getpid()}.{get_ident()}.tmp")
        with suppress(OSError):  # of a cache that can only be read
            reference.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(commit, "ascii")
            fresh.replace(reference)


def near_name(repo: str) -> str:
    """Return a question for another repository of the cache that may be meant; empty: none."""
    found = {path.parent.parent.name for path in _home().glob("models--*/snapshots/*")}
    names = sorted(name.removeprefix("models--").replace("--", "/") for name in found)
    return guess(repo, [name for name in names if name != repo], NEAR)


def _absent(place: Place, held: Sequence[str], failure: str) -> CheckpointError:
    """Return what is said of a revision that the cache lacks, and what it has instead."""
    name, cache = place.at(""), shown(_home())
    unset = "HF_HUB_OFFLINE keeps from asking the Hub: unset it, or give"
    if held:
        there = listed([f"{place.repo}@{commit}" for commit in held])
        known = f"the cache {cache} holds {place.repo} only as {there}"
        if failure:
            return CheckpointError(f"{failure} Of {name}, {known}: give that.")
        return CheckpointError(f"{name} is not in the cache: {known}. {unset} that.")
    near = near_name(place.repo)
    if failure:
        return UnreachableError(f"{failure} It is not in the cache {cache} either.{near}")
    return CheckpointError(f"{name} is not in the cache {cache}.{near} {unset} what is there.")


def _home() -> Path:
    from huggingface_hub import constants  # noqa: PLC0415 - slow, and rarely needed

    return Path(constants.HF_HUB_CACHE)


def _home_of(place: Place) -> Path:
    from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415 - as above

    return _home() / repo_folder_name(repo_id=place.repo, repo_type="model")


def _reference(place: Place) -> Path:
    """Return the file that holds the commit of a revision, be it there or not."""
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    return _home_of(place) / "refs" / (place.revision or constants.DEFAULT_REVISION)
