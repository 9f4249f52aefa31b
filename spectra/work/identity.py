"""What tells a measurement for ever: the content of what was read, and what made numbers of it."""

import ast
import sys
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from site import getsitepackages, getusersitepackages
from sysconfig import get_path
from typing import Final, Protocol

from spectra.checkpoint.fingerprints import Ledger, plain
from spectra.distribution import version
from spectra.work.task import Input, Remade, Replaced, Shifted, Task, Updated

ROOMS: Final = "kernels", "analyzers", "matrices", "checkpoint"
FORMING: Final = "load.py", "sides.py"  # of the room `work`
_HOME: Final = Path(__file__).parent.parent


class Named(Protocol):
    """An analyzer, or what else makes numbers of matrices by settings that are its fields."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """What it tells."""
        ...


def identity(task: Task, analyzer: Named, ledger: Ledger | None = None) -> str | None:
    """Return what tells a measurement for ever: those of one identity are equal.

    Args:
        task: What is measured. Where its bytes lie and what its tensors are called plays no part.
        analyzer: What measures it; its settings count, its version, and the code that makes
            numbers of bytes.
        ledger: Knows what local files hold that were read before.

    Returns:
        A digest; None where what is read is not known without reading it, or nothing tells the
        analyzer's code from another.
    """
    code = code_of(type(analyzer))
    if code is None:
        return None
    contents = [read.fingerprint(ledger) for one in task.inputs for read in one.used]
    if None in contents:
        return None
    about = [
        (one.role, one.view.role.kind, one.view.part, one.view.rows, one.view.cols, one.paired,
         _way(one))
        for one in task.inputs
    ]  # fmt: skip
    told = repr(
        (
            code,
            analyzer.name,
            analyzer.keys,
            plain(analyzer),
            about,
            *((replace(task.about, module=""),) if task.about else ()),
            contents,
        )
    )
    return sha256(told.encode()).hexdigest()


@cache
def code_of(kind: type) -> str | None:
    """Return the digest of the code that an analyzer's class hangs on, as it was when first asked.

    A class that is loaded again is another one, and so is what its file holds by then.

    Returns:
        None where nothing tells one code from the next: a class of a notebook has no file, and what
        one that a function made closes over stands in none.
    """
    own, named = _file_of(kind.__module__), attrgetter(kind.__qualname__)
    if own is None or not (own.is_relative_to(_HOME) or own.is_file()):
        return None
    try:
        if named(sys.modules[kind.__module__]) is not kind:
            return None
    except AttributeError:
        return None
    return numerics(kind.__module__)


def numerics(module: str) -> str:
    """Return the digest of the code between bytes and rows, an analyzer's own module included.

    Of a module of this package its whole room is: it may ask the others. Of one outside those are
    that it imports, but for Python's own and what is installed. A version that somebody
    forgot to raise makes no wrong number then. Where there are no sources it is that of what is
    installed.
    """
    own = _file_of(module)
    inside = own is not None and own.is_relative_to(_HOME)
    found = sha256(_rooms(own.parent if own and inside else None))
    if own and not inside:
        for path in _outside(module):
            found.update(path.read_bytes())
    return found.hexdigest()


def _outside(module: str) -> list[Path]:
    """Return the files of a module outside this package, and of all that these import, by name.

    Those of Python and of what is installed are taken to stay, but for its own package's.
    """
    package, found = module.partition(".")[0], dict[str, Path]()
    seen, left = {module}, [module]
    while left:
        name = left.pop()
        own = _file_of(name) or _not_loaded(name)
        if own is None or not own.is_file() or (
            name.partition(".")[0] != package and any(map(own.is_relative_to, _installed()))
        ):  # fmt: skip
            continue
        found[name] = own
        more = _imported(own, name) - seen
        seen |= more
        left += more
    return [found[name] for name in sorted(found)]


def _imported(file: Path, module: str) -> set[str]:
    """Return the names of the modules that a file imports anywhere in it, and perhaps of more."""
    home = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # no source, or no longer
        return found
    for one in ast.walk(tree):
        if isinstance(one, ast.Import):
            found |= {alias.name for alias in one.names}
        elif isinstance(one, ast.ImportFrom):
            above = home.split(".")[: len(home.split(".")) + 1 - one.level] if one.level else []
            origin = ".".join([*above, *([one.module] if one.module else [])])
            found |= {origin, *(f"{origin}.{alias.name}" for alias in one.names)}
    parts = [name.split(".") for name in found]
    return {".".join(some[: count + 1]) for some in parts for count in range(len(some))}


def _not_loaded(module: str) -> Path | None:
    """Return the file of a module that is imported later, as within a function."""
    above = module.rpartition(".")[0]
    if above and above not in sys.modules:
        return None
    try:
        found = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(found.origin) if found and found.has_location and found.origin else None


@cache
def _installed() -> tuple[Path, ...]:
    """Return where Python's own modules lie, this package's, and what is installed."""
    places = get_path("stdlib"), get_path("platlib"), getusersitepackages(), *getsitepackages()
    return _HOME, *map(Path, places)


@cache
def _rooms(own: Path | None) -> bytes:
    """Return the digest of this package's code, and of another room of it."""
    code = {_HOME / "work" / name for name in FORMING} | set(own.glob("*.py") if own else ())
    code |= {path for room in ROOMS for path in _HOME.glob(f"{room}/**/*.py")}
    found = sha256(version().encode() if not all(path.is_file() for path in code) else b"")
    for path in sorted(path for path in code if path.is_file()):
        found.update(path.read_bytes())
    return found.digest()


def _file_of(module: str) -> Path | None:
    found = getattr(sys.modules.get(module), "__file__", None)
    return Path(found) if found else None


def _way(one: Input) -> tuple[object, ...]:
    """Return how an input's tuned values come of what is read."""
    change = one.change
    if isinstance(change, Replaced):
        return ("replaced", change.part)
    if isinstance(change, Updated):
        own = change.factors
        return ("updated", own.kind, own.scale, own.rank, own.count, change.turned, change.expert,
                change.rows, *(("inside",) if change.inside else ()))  # fmt: skip
    if isinstance(change, Shifted):
        return ("shifted", change.scale, change.rank, change.start is not None)
    if isinstance(change, Remade):
        made = change.update
        names = tuple(name for name, _ in made.parts)
        return ("remade", made.method, names, made.told, change.turned)
    return ("rewritten", change.rows.indices) if change else ()
