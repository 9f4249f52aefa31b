"""Runs of the command line that end at a chosen moment: a process forks for each.

None has to load anything so. A moment is a call that changes something in the output's folder. What
is asked for comes line by line on standard input: the words, the folder, the moment (0: none) and
the signal; what is answered is how many moments there were, and how it ended. A model whose family
is known from then on is named on the command line.
"""

import json
import os
import sys
from pathlib import Path

import spectra_cli.run  # noqa: F401
from spectra_cli.entry import main

import spectra.lowrank  # noqa: F401 - loaded before it forks, as are those below
from spectra.checkpoint import Checkpoint, open_spec
from spectra.exports.memory import memory_of
from spectra.runs.engine import engine  # noqa: F401

CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "ctypes.dlsym")
WRITES = os.O_WRONLY | os.O_RDWR


def changes(event: str, given: tuple[object, ...], folder: Path) -> bool:
    """Say whether a call changes something in a folder; that by which two exchange places does."""
    if event == "open":
        flags = given[2]
        return isinstance(flags, int) and bool(flags & WRITES) and str(folder) in str(given[0])
    return event == "ctypes.dlsym" or (event in CHANGING and str(folder) in str(given[0]))


def fork(words: list[str], folder: Path, moment: int, number: int) -> None:
    """Run in a child, which tells how many moments there were."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        told = os.read(reading, 64).decode()
        os.close(reading)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps([told, os.waitstatus_to_exitcode(status)]) + "\n")
        sys.stdout.flush()
        return
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    seen = 0

    def hook(event: str, given: tuple[object, ...]) -> None:
        nonlocal seen
        if (event == "open" or event in CHANGING) and changes(event, given, folder):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)
    sys.argv = ["spectra", *words]
    try:
        main()
    except SystemExit as end:
        os.write(writing, str(seen).encode())
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    opened = open_spec(sys.argv[1])
    assert isinstance(opened, Checkpoint)
    memory_of(opened)  # loads what its family takes
    for line in sys.stdin:
        words, place, moment, number = json.loads(line)
        fork(words, Path(place), moment, number)
