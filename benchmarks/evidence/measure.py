"""What a model can do: the task it was tuned for, and finding the gloss of a word, as before."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import normalize

from benchmarks.evidence.wordnet import Gloss
from benchmarks.tuned.pairs import Reader

AT_ONCE = 64  # texts


@dataclass(frozen=True, slots=True)
class Scores:
    """In [0, 1], higher is better."""

    task: float  # share of test glosses whose file is named
    words: float  # mean reciprocal rank of a word's own gloss among the test glosses
    others: float  # the same of adjectives and adverbs among theirs


def pooled(model: Module, reader: Reader, texts: Sequence[str]) -> Tensor:
    """Return the mean over each text's tokens (texts, width), as the model was trained for."""
    tokens = reader.read(list(texts))
    hidden: Tensor = model(input_ids=tokens.ids, attention_mask=tokens.mask).last_hidden_state
    weight = tokens.mask[:, :, None].to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)


@torch.no_grad()
def encoded(model: Module, reader: Reader, texts: Sequence[str]) -> Tensor:
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
    """Glosses that no run was trained on."""

    test: Sequence[Gloss]
    other: Sequence[Gloss]

    def score(self, model: Module, reader: Reader, head: tuple[Tensor, Tensor]) -> Scores:
        """Return what a model gets, with the head that was trained for it."""
        texts = encoded(model, reader, [gloss.text for gloss in self.test])
        words = encoded(model, reader, [gloss.word for gloss in self.test])
        others = encoded(model, reader, [gloss.text for gloss in self.other])
        asked = encoded(model, reader, [gloss.word for gloss in self.other])
        return Scores(
            accuracy(texts, head, files_of(self.test)),
            float(reciprocal_ranks(words, texts).mean()),
            float(reciprocal_ranks(asked, others).mean()),
        )
