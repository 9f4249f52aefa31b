"""spectra cache: what was measured before, and is not measured again."""

import json
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spectra.errors import UsageError
from spectra.text import counted, nbytes_of, size

from ..command import command
from ..guard import DONE
from ..options import OUTPUT, one_of, option
from ..terminal import warn

if TYPE_CHECKING:
    from spectra.work.upkeep import Held, Verified

Form = Literal["table", "json"]
ACTIONS = ("info", "clear", "prune", "export", "import", "verify")
SPAN = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def age(value: str) -> float:
    """Read `30d` as seconds.

    Raises:
        typer.BadParameter: It is no span of time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", value.strip().lower())
    if not found:
        raise typer.BadParameter(f"{value!r} is no age. Expected a number of h, d or w: 30d.")
    return float(found[1]) * SPAN[found[2]]


def room(value: str) -> int:
    """Read `2GB` as bytes.

    Raises:
        typer.BadParameter: It is no size.
    """
    found = nbytes_of(value)
    if found is None:
        raise typer.BadParameter(f"{value!r} is no size. Expected bytes, or KB, MB, GB: 2GB.")
    return found


Action = Annotated[
    str,
    typer.Argument(
        metavar="ACTION", help=f"One of {', '.join(ACTIONS)}.",
        parser=lambda value: one_of(value, ACTIONS), autocompletion=lambda: list(ACTIONS),
    ),
]  # fmt: skip
File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="What export writes, and import reads.")
]
Older = Annotated[
    float | None,
    option("--older AGE", "prune: what was not used for so long goes. Example: 30d", parser=age),
]
Most = Annotated[
    int | None,
    option("--max-size SIZE", "prune: what was used last stays, in a file of so much. Example: 2GB",
           parser=room),
]  # fmt: skip
Format = Annotated[Form, option("--format FORMAT", "info: table or json.", OUTPUT, of=Form)]


@command(19)
def cache(
    action: Action = "info",
    file: File = None,
    older: Older = None,
    max_size: Most = None,
    format: Format = "table",  # noqa: A002 - the option's own name
) -> int:
    """Show or tend the store of what was measured before.

    What was measured of a matrix is kept, by the content of all that was read: the same question
    about the same weights reads nothing again. The store lies in the user's folder for caches, or
    in SPECTRA_CACHE_DIR; --no-cache of a command does without. How long work takes on this machine
    is kept too: dry runs and the time left go by it.

    info tells what it holds; clear empties it; prune drops what was not used lately; export and
    import move measurements to another machine; verify checks every entry, and reads local files
    again that it says it knows.

    Example: spectra cache prune --older 30d --max-size 2GB
    """
    path = _fitting(action, file, older, max_size)
    if action != "info" and format != "table":
        raise UsageError(f"--format is of spectra cache info, not of {action}. Leave it out.")
    from spectra.work import upkeep  # noqa: PLC0415 - not for `--help`
    from spectra.work.store import Store, place  # noqa: PLC0415

    if action == "clear":
        freed = size(upkeep.clear(place()))
        sys.stdout.write(f"{freed} freed in {place().parent}\n")
        return DONE
    with closing(Store()) as store:
        if action == "info":
            told = _held(upkeep.held(store), as_json=format == "json")
        elif action == "prune":
            told = f"{counted(upkeep.prune(store, older, max_size), 'measurement')} dropped"
        elif action == "verify":
            told = _verified(upkeep.verify(store))
        elif action == "export":
            told = f"{counted(upkeep.export(store, path), 'measurement')} written to {path}"
        else:
            taken = upkeep.take_in(store, path)
            told = f"{counted(taken.rows, 'measurement')} new from {path}"
            if taken.damaged:
                warn(
                    f"{counted(taken.damaged, 'damaged entry', 'damaged entries')} of {path} left "
                    "out. Export it anew where that is still there."
                )
        troubles = store.troubles
    sys.stdout.write(f"{told}\n")
    for trouble in troubles:
        warn(f"{trouble}.")
    return DONE


def _fitting(action: str, file: Path | None, older: float | None, most: int | None) -> Path:
    """Return the file; refuse what an action does not take, or lacks.

    Raises:
        UsageError: It does.
    """
    if action in ("export", "import") and file is None:
        raise UsageError(f"spectra cache {action} needs a file. Expected: {action} FILE.")
    if action not in ("export", "import") and file is not None:
        raise UsageError(f"spectra cache {action} takes no file, got {file}.")
    if action != "prune" and (older is not None or most is not None):
        given = "--older" if older is not None else "--max-size"
        raise UsageError(f"{given} is of spectra cache prune, not of {action}.")
    if action == "prune" and older is None and most is None:
        raise UsageError("spectra cache prune needs --older 30d, --max-size 2GB or both.")
    return file or Path()


def _held(found: "Held", *, as_json: bool) -> str:
    if as_json:
        plain = {**found._asdict(), "path": str(found.path), "aside": [*map(str, found.aside)]}
        return json.dumps(plain, indent=2)
    lines = [
        "",
        f"  {found.path}",
        "",
        f"  measurements  {found.rows:,}",
        f"  conclusions   {found.conclusions:,}",
        f"  pictures      {found.pictures:,}",
        f"  read before   {counted(found.files, 'tensor')} of local files",
        f"  rates         {counted(found.rates, 'figure')} of how long work takes",
        f"  on disk       {size(found.nbytes)}",
        *(f"  set aside     {path.name}; spectra cache clear deletes it" for path in found.aside),
    ]
    return "\n".join(lines)


def _verified(found: "Verified") -> str:
    sound = f"{counted(found.rows, 'measurement')} and {counted(found.files, 'tensor')}"
    told = [f"{sound} of local files are sound."]
    if found.damaged:
        told.append(f"{counted(found.damaged, 'damaged entry', 'damaged entries')} dropped.")
    if found.changed:
        told.append(
            f"{counted(found.changed, 'tensor')} held other bytes than when it was read, under the "
            "same size and times of its file: forgotten, and measured again when asked for."
        )
    if found.gone:
        told.append(f"{counted(found.gone, 'tensor')} of files that are gone or others: forgotten.")
    if found.unread:
        told.append(
            f"{counted(found.unread, 'decoded tensor')}: forgotten, as only decoding tells them."
        )
    return " ".join(told)
