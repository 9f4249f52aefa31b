"""A real terminal of a chosen width, and a pipe: what is typed there, and what is then seen.

A process that has the program loaded waits for commands and forks for each, so that sixty of
them do not load torch sixty times.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

LINES = 400  # of a screen: enough that nothing scrolls away

WAITING = r"""
import fcntl, json, os, pty, struct, sys, termios
import spectra.api, spectra.report.html, spectra.report.plots, spectra_cli.main as door
import torch
torch.set_num_threads(1)
door.run(["--version"])
sys.stdout.flush()

def act(order):
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    if order["columns"]:
        size = struct.pack("HHHH", order["lines"], order["columns"], 0, 0)
        fcntl.ioctl(1, termios.TIOCSWINSZ, size)
    sys.argv = ["spectra", *order["words"]]
    door.main()

for line in sys.stdin:
    order = json.loads(line)
    if order["columns"]:
        child, seen = pty.fork()
    else:
        seen, write = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(write, 1)
            os.dup2(write, 2)
        os.close(write)
    if not child:
        code = 99  # of what no door caught
        try:
            act(order)
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    parts = []
    while True:
        try:
            part = os.read(seen, 1 << 16)
        except OSError:  # a terminal's way to say that nobody holds it any more
            break
        if not part:
            break
        parts.append(part)
    os.close(seen)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = {"code": code, "text": b"".join(parts).decode("utf-8", "surrogateescape")}
    print(json.dumps(said), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person sees after a command."""

    code: int
    text: str  # as the screen shows it, without what a bar has drawn and taken away
    colours: dict[str, str]  # of each word that has one

    @property
    def lines(self) -> list[str]:
        """Line by line."""
        return self.text.splitlines()


class Desk:
    """Somebody at a desk, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {"OMP_NUM_THREADS": "1", "SPECTRA_CACHE_DIR": str(folder.parent / "store")}
        self._waiting = subprocess.Popen(
            [sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**_plain(os.environ), **own},
        )  # fmt: skip
        assert self._waiting.stdout is not None
        assert self._waiting.stdout.readline().startswith("spectra ")

    def __enter__(self) -> Self:
        """Sit down."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave."""
        with self._waiting as process:
            process.kill()

    def type(self, words: Sequence[str], columns: int, environment: dict[str, str]) -> Seen:
        """Type a command in a terminal of so many columns, or into a pipe where there are none."""
        process = self._waiting
        assert process.stdin is not None
        assert process.stdout is not None
        order = {
            "words": list(words), "folder": str(self.folder), "columns": columns, "lines": LINES,
            "environment": {"TERM": "xterm-256color", **environment},
        }  # fmt: skip
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if not columns:
            return Seen(answer["code"], answer["text"], {})
        text, colours = _shown(answer["text"], columns)
        return Seen(answer["code"], text, colours)


def _shown(written: str, columns: int) -> tuple[str, dict[str, str]]:
    """Return what a terminal shows of what was written to it, and the words that are coloured."""
    screen = pyte.Screen(columns, LINES)
    pyte.Stream(screen).feed(written)
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    colours = {}
    for number, line in enumerate(lines):
        place = 0
        for word in line.split():
            place = line.index(word, place)
            colour = screen.buffer[number][place].fg
            if colour != "default":
                colours[word] = colour
            place += len(word)
    return "\n".join(lines) + "\n", colours


def _plain(environment: "os._Environ[str]") -> dict[str, str]:
    """Return the environment of somebody at home: no CI, no colours asked for or refused."""
    ours = ("CI", "GITHUB", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "HF_", "SPECTRA")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}
