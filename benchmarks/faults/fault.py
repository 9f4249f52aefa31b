"""One input on which a conclusion was wrong, and how today's answer is judged."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clock import unmeasured


@dataclass(frozen=True)
class Fault:
    """A kind of input, what was said of it once, and what is right."""

    kind: str  # the inputs it stands for: `comfy nvfp4`
    was: str  # what spectra 0.1.0 said
    right: str  # by the owning library or in float64
    make: Callable[[Path], None]  # writes the input into an empty folder
    ask: Callable[[Path], str]  # runs spectra there and returns what it says, in one line
    holds: Callable[[str], bool]  # whether that is right


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The result, asked for by `--format json`."""
        return json.loads(self.out)

    @property
    def reading(self) -> str:
        """The sentence on top of a result in JSON; the error where there is none."""
        return self.document["summary"]["reading"] if self.out else self.err.strip()


def spectra(folder: Path, *args: str) -> Ran:
    """Run a command in a folder, as a user would."""
    with unmeasured() as environment:
        done = subprocess.run(
            [sys.executable, "-m", "spectra_cli", *args],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
            env={**environment, "HF_HUB_OFFLINE": "1"},
        )
    return Ran(done.returncode, done.stdout, done.stderr)


def read(folder: Path, *args: str) -> Ran:
    """Run a command for its JSON."""
    return spectra(folder, *args, "--format", "json", "-q")
