"""Train one model of the family: warm-up, then a constant learning rate to a steady state.

`python -m benchmarks.width.train --rule fixed --width 64 --steps 500 --seed 0 --out DIR` writes
`DIR/fixed-d64/checkpoint-<step>/` as transformers' Trainer lays one out, `DIR/training.toml` with
eta and lambda, and `DIR/sigma/fixed-d64.csv` and `DIR/loss/fixed-d64.csv` as it goes.
"""

import argparse
import csv
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, TrainerState
from transformers.utils.logging import disable_progress_bar

from benchmarks.width.corpus import Corpus, corpus, windows
from benchmarks.width.model import CONTEXT, llama, matrices, optimizer
from benchmarks.width.rules import ETA, LAMBDA, RULES, Setting, setting

BATCH = 8  # sequences of CONTEXT bytes
WARMUP = 30  # steps
LOOKS = 10  # measurements of sigma_1 a tau
VALIDATION = 128  # sequences
LOG_EVERY = 10  # steps

SIGMA = ("step", "matrix", "rows", "cols", "sigma_1", "frobenius")
LOSS = ("step", "train", "validation")


class Track:
    """A CSV that is on disk after every row."""

    def __init__(self, path: Path, columns: Iterable[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self.add([columns])

    def add(self, rows: Iterable[Iterable[object]]) -> None:
        self._rows.writerows(rows)
        self._file.flush()


def norms(model: LlamaForCausalLM, step: int) -> list[tuple[object, ...]]:
    """sigma_1 and the Frobenius norm of every matrix, through its Gram matrix in float64."""
    rows: list[tuple[object, ...]] = []
    for name, parameter in matrices(model).items():
        values = parameter.detach().double()
        thin = values if values.shape[0] <= values.shape[1] else values.T
        top = float(torch.linalg.eigvalsh(thin @ thin.T)[-1].sqrt())
        rows.append((step, name, *values.shape, f"{top:.6g}", f"{float(values.norm()):.6g}"))
    return rows


@torch.no_grad()
def validate(model: LlamaForCausalLM, text: torch.Tensor) -> float:
    """Nats a byte over the same sequences of held-out text at every call."""
    starts = torch.linspace(0, len(text) - CONTEXT, VALIDATION).long()
    parts = [windows(text, some, CONTEXT) for some in starts.split(32)]
    return sum(float(model(input_ids=x, labels=x).loss) for x in parts) / len(parts)


def record(out: Path, this: Setting) -> None:
    """Add the model's table to the settings of the family, for `spectra width --training`."""
    path = out / "training.toml"
    known = tomllib.loads(path.read_text()) if path.exists() else {}
    known[this.name] = {"eta": this.eta, "lambda": this.decay}
    tables = (
        f"[{name}]\neta = {t['eta']!r}\nlambda = {t['lambda']!r}\n" for name, t in known.items()
    )
    path.write_text("\n".join(tables))


def save(model: LlamaForCausalLM, state: TrainerState, folder: Path) -> None:
    """Write a checkpoint as transformers' Trainer does, without the optimiser."""
    place = folder / f"checkpoint-{state.global_step}"
    model.save_pretrained(place)
    state.save_to_json(str(place / "trainer_state.json"))


def train(this: Setting, steps: int, seed: int, out: Path, text: Corpus) -> None:
    """Train `this` for a number of steps; a checkpoint every tau and at the end."""
    out.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()
    record(out, this)
    model = llama(this.width, seed)
    tuner = optimizer(model, this)
    warm = torch.optim.lr_scheduler.LambdaLR(tuner, lambda n: min(1.0, (n + 1) / WARMUP))
    order = torch.Generator().manual_seed(1000 + seed)  # the same batches at every width
    sigma = Track(out / "sigma" / f"{this.name}.csv", SIGMA)
    losses = Track(out / "loss" / f"{this.name}.csv", LOSS)
    state = TrainerState(max_steps=steps, logging_steps=LOG_EVERY, train_batch_size=BATCH)
    every, look = round(this.tau), max(1, round(this.tau / LOOKS))
    sigma.add(norms(model, 0))
    recent: list[float] = []
    began = time.perf_counter()
    for step in range(1, steps + 1):
        starts = torch.randint(len(text.train) - CONTEXT, (BATCH,), generator=order)
        x = windows(text.train, starts, CONTEXT)
        rate = warm.get_last_lr()[0]
        loss = model(input_ids=x, labels=x).loss
        loss.backward()
        tuner.step()
        tuner.zero_grad()
        warm.step()
        recent.append(float(loss.detach()))
        state.global_step = step
        if step % LOG_EVERY == 0:
            mean = sum(recent[-LOG_EVERY:]) / LOG_EVERY
            state.log_history.append({"loss": mean, "learning_rate": rate, "step": step})
        if step % look == 0 or step == steps:
            sigma.add(norms(model, step))
        if step % every == 0 or step == steps:
            held = validate(model, text.validation)
            mean = sum(recent[-every:]) / len(recent[-every:])
            losses.add([(step, f"{mean:.4f}", f"{held:.4f}")])
            save(model, state, out / this.name)
            spent = time.perf_counter() - began
            print(
                f"{this.name} seed {seed}: step {step} of {steps} ({step / this.tau:.1f} tau), "
                f"loss {mean:.3f}, validation {held:.3f}, {spent:.0f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rule", choices=RULES, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eta", type=float, default=ETA, help="at width 64")
    parser.add_argument("--lambda", type=float, default=LAMBDA, dest="decay", help="at width 64")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    chosen = setting(given.rule, given.width, given.eta, given.decay)
    train(chosen, given.steps, given.seed, given.out, corpus())


if __name__ == "__main__":
    main()
