"""Where something is written: looked at before the work, filled under another name, put there."""

import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spectra.errors import OutputError
from spectra.text import counted, quote, shown, size
from spectra.writing.atomic import (
    require_above,
    require_suffix,
    require_writable,
    write_atomically,
)
from spectra.writing.folder import write_folder
from spectra.writing.temporary import bytes_left, put_back

T = TypeVar("T")
RANK = "Choose another place, or a lower rank."


@dataclass(frozen=True, slots=True)
class Destination:
    """A folder or a file that is to be there whole, or not at all."""

    path: Path
    own: Collection[str] = ()
    """Places of files that are written into such a folder: nothing else is ever deleted. None: it
    is one file."""
    force: bool = False  # replace what is there
    suffixes: tuple[str, ...] = ()  # of a file
    expected: str = ""  # how it is told that its suffix is another
    instead: str = RANK  # what to do where there is no room

    @property
    def real(self) -> Path:
        """Where it is put: of a link to a folder, where that leads."""
        linked = self.own and self.path.is_symlink()
        return self.path.resolve() if linked else self.path.absolute()

    @property
    def above(self) -> Path:
        """The folder that it lies in."""
        return self.real.parent

    def require(self, nbytes: int) -> None:
        """Refuse, before any work, a place where it could not be written after it.

        Args:
            nbytes: What it takes on disk while it is written, at most.

        Raises:
            OutputError: The place above is missing or closed, what is there would be lost, or
                there is no room.
        """
        self._require_place()
        free = shutil.disk_usage(self.above).free + bytes_left(self.real)
        if nbytes > free:
            raise OutputError(
                f"{shown(self.path)} may take {size(nbytes)} while it is written, and {size(free)} "
                f"are free there. {self.instead}"
            )

    def write(self, fill: Callable[[Path], T]) -> T:
        """Let `fill` write into a temporary folder or file beside the place, then put that there.

        Raises:
            OutputError: The system refuses, or something was put there meanwhile; what was there
                before is still there.
        """
        found: list[T] = []

        def filled(place: Path) -> None:
            found.append(fill(place))
            self._require_place()

        if self.own:
            write_folder(self.path, filled)
        else:
            write_atomically(self.path, filled)
        return found[0]

    def _require_place(self) -> None:
        if self.own:
            self._require_folder()
            return
        require_suffix(self.path, self.suffixes, self.expected)
        require_writable(self.path)
        if self.path.exists() and not self.force:
            raise OutputError(
                f"{shown(self.path)} exists; nothing is overwritten without --force. Choose "
                "another place."
            )

    def _require_folder(self) -> None:
        path, above = self.path, self.above
        put_back(self.real)
        if path.exists() and not path.is_dir():
            raise OutputError(f"{shown(path)} is a file; expected a folder to write to.")
        require_above(path, above)
        inside = (one for one in path.rglob("*") if not one.is_dir() or one.is_symlink())
        held = sorted(one.relative_to(path).as_posix() for one in inside) if path.exists() else []
        if held and not self.force:
            raise OutputError(
                f"{shown(path)} exists and holds {counted(len(held), 'file')}, e.g. "
                f"{quote(held[0])}; nothing is overwritten without --force. Choose another place."
            )
        if strange := [name for name in held if name not in self.own]:
            raise OutputError(
                f"{shown(path)} holds {quote(strange[0])}, which was not written here: --force "
                "replaces what such a run writes, and nothing else. Choose another place."
            )
        try:
            with tempfile.TemporaryFile(dir=above):
                pass
        except OSError as error:
            raise OutputError(
                f"{shown(path)} cannot be written: {error.strerror or error}. Choose another place."
            ) from None
