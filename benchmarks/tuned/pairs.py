"""Pairs of neighbouring paragraphs of the real text, and their tokens."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.width.corpus import Corpus

LENGTH = 64  # tokens of a paragraph that are read
SHORTEST, LONGEST = 40, 2000  # characters of a paragraph

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One batch as BERT reads it, both (paragraphs, tokens), int64."""

    ids: Tensor
    mask: Tensor


def pairs(text: Tensor) -> list[Pair]:
    """Paragraphs that follow each other in a corpus's bytes, in order."""
    decoded = bytes(text.tolist()).decode("utf-8", "ignore")
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", decoded)]
    fits = [SHORTEST <= len(part) <= LONGEST for part in found]
    return [
        (found[i], found[i + 1])
        for i in range(len(found) - 1)
        if fits[i] and fits[i + 1] and found[i] != found[i + 1]
    ]


def held_out(text: Corpus) -> list[Pair]:
    """Pairs of the validation text none of whose paragraphs is in the training text."""
    known = {part for pair in pairs(text.train) for part in pair}
    return [pair for pair in pairs(text.validation) if not known & set(pair)]


class Reader:
    """The model's own tokenizer, cut and padded."""

    def __init__(self, model: Path, length: int = LENGTH) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding()

    def read(self, paragraphs: list[str]) -> Tokens:
        """Tokens of some paragraphs, padded to the longest."""
        encoded = self._tokenizer.encode_batch(paragraphs)
        return Tokens(
            torch.tensor([one.ids for one in encoded]),
            torch.tensor([one.attention_mask for one in encoded]),
        )
