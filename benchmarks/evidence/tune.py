"""Fine-tuning for the task: LoRA by PEFT, or every parameter; AdamW, cross-entropy, one head."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.evidence.measure import files_of, pooled
from benchmarks.evidence.wordnet import FILES, Gloss
from benchmarks.tuned.pairs import Reader

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


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs share."""

    steps: int = 300
    batch: int = 32
    seed: int = 0


Head = tuple[Tensor, Tensor]  # weight (files, width), bias (files)


def adapted(model: Any, rank: int) -> Any:
    """Put a LoRA on all 36 matrices of the encoder, alpha = 2 rank as in the paper."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=rf"encoder\.layer\.\d+\..*({'|'.join(MODULES)})",
    )
    return get_peft_model(model, settings)


def tune(
    model: Any, reader: Reader, train: list[Gloss], method: Method, this: Setting
) -> tuple[Any, Head]:
    """Return the tuned model, a LoRA merged in float32, and its head; `model` is consumed."""
    torch.manual_seed(this.seed)  # A of a LoRA, dropout
    order = torch.Generator().manual_seed(this.seed)
    body = model if method.rank is None else adapted(model, method.rank)
    weight = torch.zeros(FILES, model.config.hidden_size, requires_grad=True)
    bias = torch.zeros(FILES, requires_grad=True)
    moving = [one for one in body.parameters() if one.requires_grad]
    groups = [
        {"params": moving, "lr": method.eta},
        {"params": [weight, bias], "lr": HEAD_ETA},
    ]
    tuner = torch.optim.AdamW(groups, weight_decay=0.0)
    warm = max(1, round(WARMUP * this.steps))
    left = max(1, this.steps - warm)
    rate = torch.optim.lr_scheduler.LambdaLR(
        tuner, lambda n: min((n + 1) / warm, (this.steps - n) / left)
    )
    files = files_of(train)
    queue = torch.empty(0, dtype=torch.long)
    body.train()
    losses, began = list[float](), time.perf_counter()
    for step in range(1, this.steps + 1):
        if len(queue) < this.batch:  # every gloss once before any comes again
            queue = torch.randperm(len(train), generator=order)
        chosen, queue = queue[: this.batch], queue[this.batch :]
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
    whole = body if method.rank is None else body.merge_and_unload()
    return whole, (weight.detach(), bias.detach())
