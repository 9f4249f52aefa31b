"""What a spec names: a repository of the Hub, a revision of it, and where in that."""

import re
from dataclasses import dataclass

from spectra.text import shown

_PART = r"\w(?:\w|-(?!-)|\.(?!\.)){0,95}(?<=\w)(?<!\.git)"
_REVISION = (
    r"@(?P<revision>refs/(?:pr/\d+|convert/(?!\.)[\w.-]+)(?=/|\Z)"  # the Hub's own, with slashes
    r"|(?!refs/|\.)(?:(?!\.\.)[^\s/@~^:?*\[\\])+)"
)
_PATH = r"/(?P<path>(?:(?!\.{1,2}(?:/|\Z))[^/\\]+(?:/(?!\Z)|\Z))+)"
_KINDS = r"(?!(?:models|datasets|spaces|kernels|buckets)/)"  # no organisation has such a name
NAMED = re.compile(
    rf"(?:hf://(?:models/)?)?{_KINDS}(?P<repo>{_PART}/{_PART})(?:{_REVISION})?(?:{_PATH})?",
    re.ASCII,
)
CANONICAL = re.compile(rf"hf://(?P<repo>{_PART})(?:{_REVISION}(?:{_PATH})?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """What a spec names: a repository, and where in it."""

    repo: str
    revision: str | None
    path: str  # a file's or a folder's; empty: the repository itself

    def at(self, path: str) -> str:
        """Return the spec of another path at the same revision, for messages."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{revision}{'/' if path else ''}{shown(path) if path else ''}"

    def resolved(self, commit: str) -> str:
        """Return the spec that means the same for ever."""
        return f"hf://{self.repo}@{commit}{'/' if self.path else ''}{self.path}"


def place_of(spec: str) -> Place | None:
    """Return what a spec names; None: it is no name of the Hub's."""
    found = NAMED.fullmatch(spec) or CANONICAL.fullmatch(spec)
    if found is None or not spec.isprintable():
        return None
    return Place(found["repo"], found["revision"], found["path"] or "")
