"""What a dry run tells: what an analysis would cost."""

import os
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spectra.numbers import OF_ESTIMATE, estimate, percent
from spectra.report.kinds import kind_of
from spectra.text import counted, duration, size
from spectra.words import HEADWISE

if TYPE_CHECKING:
    from spectra.work.estimate import Estimate

KINDS = {
    "products": "products",
    "eigenvalues": "eigenvalues",
    "decompositions": "decompositions",
    "krylov": "Krylov spaces",
    "passes": "passes over entries",
    "calls": "calls",
}
NAMED = 0.01  # of the work, from which on a kind of it is named
SLOW = 0.2  # of the time, from which on the start is told apart
BUSY = 1.25  # times longer than alone, from which on it is said


def estimated(found: "Estimate", command: str, *, device: str, limit: int | None = None) -> str:
    """Return an estimate as a screen, lines no longer than the limit."""
    kind = kind_of(command)
    what = HEADWISE if found.heads else kind.task or kind.row
    lines = {
        "known before": counted(found.known, *what) if found.known else "",
        "to read": size(found.nbytes) + _from_afar(found),
        "peak memory": f"about {size(found.memory)} beside the program itself",
        "work": ", ".join(
            f"{KINDS.get(name, name)} {percent(share, OF_ESTIMATE)}"
            for name, share in found.work.items() if share >= NAMED
        ),
        "time": _time(found, device),
        "busy now": _busy(found),
        "more workers": _others(found, what[0]),
    }  # fmt: skip
    told = "".join(_folded(name, text, limit) for name, text in lines.items() if text)
    tensors = counted(found.tensors, "tensor")
    told_of = kind.row if kind.judges else what  # a check counts the model, whatever is measured
    return (
        f"\n  {counted(found.matrices, *told_of)} in "
        f"{tensors}, {found.skipped:,} skipped; nothing was read but headers.\n\n{told}"
    )


def _folded(name: str, text: str, limit: int | None) -> str:
    head = f"  {name:<14}"
    if limit is None:
        return f"{head}{text}\n"
    lines = textwrap.wrap(text, limit, initial_indent=head, subsequent_indent=" " * len(head))
    return "\n".join(lines) + "\n"


def _from_afar(found: "Estimate") -> str:
    if found.reading is None:
        return ", from a network of which no speed is known: not in the time below"
    return ""


def _time(found: "Estimate", device: str) -> str:
    if found.seconds is None:
        return f"not known: nothing was measured on {device} yet"
    told = f"about {duration(found.seconds)}"
    if found.matrices == found.known:
        return told
    told += f" with {counted(found.workers, 'worker')}"
    if found.start >= SLOW * found.seconds:
        told += f", {duration(found.start)} of it to start"
    by = {
        "runs": "by earlier runs here",
        "probe": "by a probe: no run like it was timed here yet",
        "both": "by earlier runs here, and a probe for what was not timed yet",
    }
    return f"{told}, {by[found.basis]}"


def _busy(found: "Estimate") -> str:
    if found.seconds is None or found.busy < BUSY or found.matrices == found.known:
        return ""
    return f"{estimate(found.busy)} x as long as alone: other work has the cores too"


def _others(found: "Estimate", what: str) -> str:
    if not found.others:
        return ""
    told = ", ".join(f"{count}: {duration(took)}" for count, took in found.others.items())
    return f"{told}; the longest {what} takes {duration(found.longest or 0.0)}"


def since_start() -> float:
    """Return the seconds that this process has taken so far, where the system tells them."""
    try:
        begun = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - begun / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError, IndexError):
        return time.process_time()
