"""Real text that every machine with Python has: its documentation and its library's sources.

The topics of `pydoc_data.topics`, in alphabetical order, then the top-level modules of the
standard library, in alphabetical order: about 5 MB, as bytes (a vocabulary of 256).
"""

import sysconfig
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from pydoc_data.topics import topics

import torch

VOCABULARY = 256
BLOCK = 1 << 16  # bytes; every 16th block is held out
HELD_OUT = 16
GENERATED = "_sysconfigdata"  # differs from machine to machine


@dataclass(frozen=True, slots=True)
class Corpus:
    """Bytes to train on and to validate on (uint8), and the SHA-256 of all of them."""

    train: torch.Tensor
    validation: torch.Tensor
    digest: str

    def entropy(self) -> float:
        """Nats a byte of the training text under its own byte frequencies: the unigram loss."""
        share = torch.bincount(self.train.long(), minlength=VOCABULARY).double() / len(self.train)
        return float(-torch.xlogy(share, share).sum())


def corpus() -> Corpus:
    """The text of this Python, split by blocks of 64 KiB."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = sorted(path for path in library.glob("*.py") if not path.name.startswith(GENERATED))
    parts = [topics[name].encode() for name in sorted(topics)]
    text = b"\n".join(parts + [path.read_bytes() for path in sources])
    blocks = torch.frombuffer(bytearray(text), dtype=torch.uint8).split(BLOCK)
    train = [block for i, block in enumerate(blocks) if i % HELD_OUT != HELD_OUT - 1]
    held = [block for i, block in enumerate(blocks) if i % HELD_OUT == HELD_OUT - 1]
    return Corpus(torch.cat(train), torch.cat(held), sha256(text).hexdigest())


def windows(text: torch.Tensor, starts: torch.Tensor, length: int) -> torch.Tensor:
    """Tokens (len(starts), length) of the text from each start."""
    return text[starts[:, None] + torch.arange(length)].long()
