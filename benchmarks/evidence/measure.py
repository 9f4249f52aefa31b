"""What a model can do: the task it was tuned for, and two things that it could do before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.evidence.wordnet import Gloss
from benchmarks.tuned.pairs import Pair, Reader

AT_ONCE = 64  # texts


@dataclass(frozen=True, slots=True)
class Scores:
    """In [0, 1], higher is better."""

    task: float  # share of test glosses whose file is named
    words: float  # mean reciprocal rank of a word's gloss among the test glosses
    neighbours: float  # mean reciprocal rank of a paragraph's neighbour among other paragraphs


def pooled(model: Any, reader: Reader, texts: Sequence[str]) -> Tensor:
    """Return the mean over each text's tokens (texts, width), as the model was trained for."""
    tokens = reader.read(list(texts))
    hidden = model(input_ids=tokens.ids, attention_mask=tokens.mask).last_hidden_state
    weight = tokens.mask[:, :, None].to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)


@torch.no_grad()
def encoded(model: Any, reader: Reader, texts: Sequence[str]) -> Tensor:
    """Return the same without dropout, texts of like length together so that little is padded."""
    model.train(mode=False)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = [
        pooled(model, reader, [texts[i] for i in order[at : at + AT_ONCE]])
        for at in range(0, len(order), AT_ONCE)
    ]
    found = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return found[back]


def reciprocal_ranks(queries: Tensor, targets: Tensor) -> Tensor:
    """Return 1 / rank of each query's own target (same row) among all, by cosine.

    A target that scores the same as its own counts as before it: a model that makes all alike
    gets 1 / n, not 1.
    """
    cosine = normalize(queries, dim=1) @ normalize(targets, dim=1).T
    own = cosine.diagonal()[:, None]
    return 1.0 / (cosine >= own).sum(1).clamp(min=1).double()


def accuracy(features: Tensor, head: tuple[Tensor, Tensor], files: Tensor) -> float:
    """Return the share of rows for which weight @ row + bias is largest at the file."""
    weight, bias = head
    return float(((features @ weight.T + bias).argmax(1) == files).double().mean())


def files_of(glosses: Sequence[Gloss]) -> Tensor:
    """Return their classes."""
    return torch.tensor([gloss.file for gloss in glosses])


@dataclass(frozen=True, slots=True)
class Exam:
    """Texts that no run was trained on."""

    glosses: list[Gloss]
    pairs: list[Pair]

    def score(self, model: Any, reader: Reader, head: tuple[Tensor, Tensor]) -> Scores:
        """Return what a model gets, with the head that was trained for it."""
        texts = encoded(model, reader, [gloss.text for gloss in self.glosses])
        words = encoded(model, reader, [gloss.word for gloss in self.glosses])
        first, second = (
            encoded(model, reader, list(side)) for side in zip(*self.pairs, strict=True)
        )
        return Scores(
            accuracy(texts, head, files_of(self.glosses)),
            float(reciprocal_ranks(words, texts).mean()),
            float(reciprocal_ranks(first, second).mean()),
        )
