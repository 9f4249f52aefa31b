"""Run every benchmark and print its figures, or those named: `python -m benchmarks NAME...`."""

import sys
from importlib import import_module

BENCHMARKS = (
    "layer", "agreement", "check", "conditioning", "door", "kappa-model", "loader", "remote",
    "formats", "latency", "memory", "metrics", "rerun", "cluster", "estimates", "scale", "lowrank",
    "engine", "heads", "circuits",
)  # fmt: skip
TAKES_WORDS = ("layer", "engine")  # those that follow its name


def main() -> None:
    chosen: list[tuple[str, list[str]]] = []
    for word in sys.argv[1:] or BENCHMARKS:
        if word in BENCHMARKS:
            chosen.append((word, []))
        elif chosen and chosen[-1][0] in TAKES_WORDS:
            chosen[-1][1].append(word)
        else:
            sys.exit(f"no benchmark {word}; expected {' '.join(BENCHMARKS)}")
    for name, words in chosen:
        print(f"## {name}\n", flush=True)
        run = import_module(f"benchmarks.{name.replace('-', '_')}").main
        if name in TAKES_WORDS:
            run(words)
        else:
            run()
        print(flush=True)


main()
