"""Make every input, ask, and print today's answer beside the right one.

`python -m benchmarks.faults [WORD]`; exits with 1 where an answer is wrong.
"""

import importlib
import pkgutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import benchmarks.faults
from benchmarks.faults.fault import Fault


def every() -> Iterator[Fault]:
    """Yield the faults of all files of this folder."""
    for module in pkgutil.iter_modules(benchmarks.faults.__path__):
        if module.name not in {"fault", "__main__"}:
            yield from importlib.import_module(f"benchmarks.faults.{module.name}").FAULTS


def answer(fault: Fault) -> tuple[str, bool]:
    """Return what is said today, and whether that is right."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            fault.make(Path(folder))
            said = fault.ask(Path(folder))
            return said, fault.holds(said)
        except Exception:  # noqa: BLE001 - whatever it is, the row says so
            return traceback.format_exc().strip().splitlines()[-1], False


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    wrong = 0
    print("| | input | once | today | right |\n|---|---|---|---|---|")
    for fault in every():
        if word in fault.kind:
            said, right = answer(fault)
            wrong += not right
            cells = ("ok" if right else "WRONG", fault.kind, fault.was, said, fault.right)
            row = " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
            print(f"| {row} |", flush=True)
    sys.exit(1 if wrong else 0)


main()
