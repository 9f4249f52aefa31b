"""Train the whole family in sequence, small widths first: `python -m benchmarks.width OUT`."""

import argparse
from pathlib import Path

import torch

from benchmarks.width.corpus import corpus
from benchmarks.width.rules import RULES, setting
from benchmarks.width.train import train

WIDTHS = (64, 128, 256, 512)
TAUS = 8.0  # e-foldings of the decay: the start is forgotten to exp(-8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a folder for this seed's checkpoints (about 1 GB)")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--taus", type=float, default=TAUS, help="length of a run, in tau")
    parser.add_argument("--least", type=int, default=0, help="steps of a run at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    text = corpus()
    print(f"text {text.digest[:16]}, {len(text.train)} bytes, unigram {text.entropy():.3f} nats")
    settings = [setting(rule, width) for width in sorted(given.widths) for rule in given.rules]
    for number, chosen in enumerate(settings, 1):
        steps = max(round(given.taus * chosen.tau), given.least)
        print(f"{number} of {len(settings)}: {chosen.name}, {steps} steps", flush=True)
        train(chosen, steps, given.seed, given.out, text)


main()
