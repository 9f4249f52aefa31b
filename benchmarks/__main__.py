"""Run every benchmark and print its figures."""

import sys

from benchmarks import (
    agreement,
    check,
    conditioning,
    door,
    formats,
    intruders,
    kappa_model,
    loader,
    memory,
    remote,
    spectrum_cost,
)

BENCHMARKS = {
    "agreement": agreement.main,
    "check": check.main,
    "conditioning": conditioning.main,
    "door": door.main,
    "intruders": intruders.main,
    "kappa-model": kappa_model.main,
    "loader": loader.main,
    "remote": remote.main,
    "spectrum-cost": spectrum_cost.main,
    "formats": formats.main,
    "memory": memory.main,
}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark {' '.join(unknown)}; expected {' '.join(BENCHMARKS)}")
    for name in chosen:
        print(f"## {name}\n", flush=True)
        BENCHMARKS[name]()
        print(flush=True)


main()
