"""Fine-tuning for the task: LoRA by PEFT, or every parameter; AdamW, cross-entropy, one head."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import BertModel

from benchmarks.evidence.measure import files_of, pooled
from benchmarks.evidence.wordnet import FILES, Gloss
from benchmarks.tuned.pairs import Reader

if TYPE_CHECKING:
    from peft import PeftModel

WARMUP = 0.1  # of the steps; then down to 0 in a line
HEAD_ETA = 1e-2  # of the new head, the same in every run
MODULES = ("query", "key", "value", "dense")  # the six matrices of each layer
LOG_EVERY = 25  # steps


@dataclass(frozen=True, slots=True)
class Method:
    """How much of the model may move."""

    name: str
    rank: int | None  # of a LoRA; None: everything is trained
    eta: float


RANKS = {"lora1": 1, "lora8": 8, "lora64": 64, "full": None}
ETAS = {  # by development accuracy: the higher rates are near the greatest that train well
    "usual": {"lora1": 3e-3, "lora8": 1e-3, "lora64": 5e-4, "full": 1e-4},
    "high": {"lora1": 1e-2, "lora8": 5e-3, "lora64": 1.5e-3, "full": 4e-4},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs share."""

    steps: int = 150
    batch: int = 32
    seed: int = 0


Head = tuple[Tensor, Tensor]  # weight (files, width), bias (files)


def adapted(model: BertModel, rank: int) -> "PeftModel":
    """Put a LoRA on all 36 matrices of the encoder, alpha = 2 rank."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow, and says a word

    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=rf"encoder\.layer\.\d+\..*({'|'.join(MODULES)})",
    )
    return get_peft_model(model, settings)


def schedule(tuner: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the rates: up in a line, then down to 0."""
    warm = max(1, round(WARMUP * steps))
    left = max(1, steps - warm)
    return torch.optim.lr_scheduler.LambdaLR(
        tuner, lambda n: min((n + 1) / warm, (steps - n) / left)
    )


def batches(count: int, this: Setting, order: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows of each step: every one of them once before any comes again."""
    queue = torch.empty(0, dtype=torch.long)
    for _ in range(this.steps):
        if len(queue) < this.batch:
            queue = torch.randperm(count, generator=order)
        chosen, queue = queue[: this.batch], queue[this.batch :]
        yield chosen


def tune(
    model: BertModel, reader: Reader, train: list[Gloss], method: Method, this: Setting
) -> tuple[BertModel, Head]:
    """Return the tuned model, a LoRA merged in float32, and its head; `model` is consumed."""
    torch.manual_seed(this.seed)  # A of a LoRA, dropout
    order = torch.Generator().manual_seed(this.seed)
    lora = None if method.rank is None else adapted(model, method.rank)
    body = model if lora is None else lora
    weight = torch.zeros(FILES, model.config.hidden_size, requires_grad=True)
    bias = torch.zeros(FILES, requires_grad=True)
    moving = [one for one in body.parameters() if one.requires_grad]
    groups = [
        {"params": moving, "lr": method.eta},
        {"params": [weight, bias], "lr": HEAD_ETA},
    ]
    tuner = torch.optim.AdamW(groups, weight_decay=0.0)
    rate = schedule(tuner, this.steps)
    files = files_of(train)
    body.train()
    losses, began = list[float](), time.perf_counter()
    for step, chosen in enumerate(batches(len(train), this, order), 1):
        features = pooled(body, reader, [train[i].text for i in chosen.tolist()])
        loss = cross_entropy(features @ weight.T + bias, files[chosen])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        tuner.step()
        tuner.zero_grad()
        rate.step()
        losses.append(float(loss.detach()))
        if step % LOG_EVERY == 0:
            mean = sum(losses[-LOG_EVERY:]) / LOG_EVERY
            spent = time.perf_counter() - began
            print(f"{method.name}: step {step}, loss {mean:.3f}, {spent:.0f} s", flush=True)
    body.train(mode=False)
    whole = model if lora is None else lora.merge_and_unload()
    return whole, (weight.detach(), bias.detach())


def probe(features: Tensor, files: Tensor, this: Setting) -> Head:
    """Return a head trained as long on what the base says, which does not move."""
    order = torch.Generator().manual_seed(this.seed)
    weight = torch.zeros(FILES, features.shape[1], requires_grad=True)
    bias = torch.zeros(FILES, requires_grad=True)
    tuner = torch.optim.AdamW([weight, bias], lr=HEAD_ETA, weight_decay=0.0)
    rate = schedule(tuner, this.steps)
    for chosen in batches(len(files), this, order):
        loss = cross_entropy(features[chosen] @ weight.T + bias, files[chosen])
        loss.backward()
        tuner.step()
        tuner.zero_grad()
        rate.step()
    return weight.detach(), bias.detach()
