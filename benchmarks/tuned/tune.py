"""Full fine-tuning: every parameter, AdamW, contrastive loss with in-batch negatives."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import BertModel

from benchmarks.tuned.pairs import Pair, Reader, held_out, pairs
from benchmarks.width.corpus import Corpus, corpus

TEMPERATURE = 0.05  # as sentence-transformers' MultipleNegativesRankingLoss
WARMUP = 0.1  # of the steps; then down to 0 in a line
DECAY = 0.01
LOG_EVERY = 25  # steps
VALIDATION = 512  # pairs


@dataclass(frozen=True, slots=True)
class Setting:
    """How long and how hard."""

    steps: int = 300
    eta: float = 3e-5
    batch: int = 16  # pairs; each has the others as its negatives
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What the fine-tune was worth, on pairs it never saw."""

    loss_before: float  # nats
    loss_after: float
    hits_before: float  # share of paragraphs whose neighbour is the nearest of its batch
    hits_after: float
    train_first: float  # mean loss of the first and of the last tenth of the steps
    train_last: float
    seconds: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in asdict(self).items())


def embed(model: BertModel, reader: Reader, paragraphs: list[str]) -> Tensor:
    """Unit vectors (paragraphs, width): means over tokens, as the model was trained for."""
    tokens = reader.read(paragraphs)
    hidden = model(input_ids=tokens.ids, attention_mask=tokens.mask).last_hidden_state
    weight = tokens.mask[:, :, None].to(hidden.dtype)
    return normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)


def scores(model: BertModel, reader: Reader, batch: list[Pair]) -> Tensor:
    """Logits (pairs, pairs) of every paragraph against every neighbour; right on the diagonal."""
    first, second = (embed(model, reader, list(side)) for side in zip(*batch, strict=True))
    return first @ second.T / TEMPERATURE


@torch.no_grad()
def validate(model: BertModel, reader: Reader, batches: list[list[Pair]]) -> tuple[float, float]:
    """Mean loss and share of hits over held-out batches."""
    model.train(mode=False)
    loss, hits = 0.0, 0.0
    for batch in batches:
        found, right = scores(model, reader, batch), torch.arange(len(batch))
        loss += float(cross_entropy(found, right))
        hits += float((found.argmax(1) == right).float().mean())
    return loss / len(batches), hits / len(batches)


def tune(
    source: Path,
    target: Path,
    this: Setting,
    *,
    text: Corpus | None = None,
    checked: int = VALIDATION,
) -> Report:
    """Fine-tune the BERT in `source` and save it, safetensors and config, to `target`.

    `checked` held-out pairs are looked at before and after.
    """
    began = time.perf_counter()
    torch.manual_seed(this.seed)  # dropout
    text = text or corpus()
    reader, model = Reader(source), BertModel.from_pretrained(source)
    train, order = pairs(text.train), torch.Generator().manual_seed(this.seed)
    held = held_out(text)
    mixed = torch.randperm(len(held), generator=order)[:checked].tolist()
    batches = [
        [held[i] for i in mixed[at : at + this.batch]]
        for at in range(0, len(mixed) - this.batch + 1, this.batch)
    ]
    before = validate(model, reader, batches)
    losses = descend(model, reader, train, this, order)
    after = validate(model, reader, batches)
    model.save_pretrained(target)
    tenth = max(1, this.steps // 10)
    return Report(
        loss_before=before[0],
        loss_after=after[0],
        hits_before=before[1],
        hits_after=after[1],
        train_first=sum(losses[:tenth]) / tenth,
        train_last=sum(losses[-tenth:]) / tenth,
        seconds=time.perf_counter() - began,
    )


def descend(
    model: BertModel, reader: Reader, train: list[Pair], this: Setting, order: torch.Generator
) -> list[float]:
    """Train every parameter of the model in place; the loss of every step."""
    tuner = torch.optim.AdamW(model.parameters(), lr=this.eta, weight_decay=DECAY, fused=True)
    warm = max(1, round(WARMUP * this.steps))
    left = max(1, this.steps - warm)
    rate = torch.optim.lr_scheduler.LambdaLR(
        tuner, lambda n: min((n + 1) / warm, (this.steps - n) / left)
    )
    model.train()
    losses: list[float] = []
    for step in range(1, this.steps + 1):
        chosen = torch.randint(len(train), (this.batch,), generator=order).tolist()
        found = scores(model, reader, [train[i] for i in chosen])
        loss = cross_entropy(found, torch.arange(this.batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        tuner.step()
        tuner.zero_grad()
        rate.step()
        losses.append(float(loss.detach()))
        if step % LOG_EVERY == 0:
            mean = sum(losses[-LOG_EVERY:]) / LOG_EVERY
            print(f"step {step} of {this.steps}: loss {mean:.3f}", flush=True)
    return losses
