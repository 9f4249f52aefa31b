"""Fine-tune the real model in full: `python -m benchmarks.tuned OUT`."""

import argparse
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.models import minilm
from benchmarks.tuned.tune import Setting, tune


def main() -> None:
    usual = Setting()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to save the tuned model in (90 MB)")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--eta", type=float, default=usual.eta, help="2e-4 is harsh")
    parser.add_argument("--batch", type=int, default=usual.batch, help="pairs")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    disable_progress_bar()
    this = Setting(steps=given.steps, eta=given.eta, batch=given.batch, seed=given.seed)
    print(this, flush=True)
    print(tune(minilm(), given.out, this))


main()
