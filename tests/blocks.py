"""The code blocks of a page: read, run as a reader would, compared with what the page shows.

`python tests/blocks.py [PAGE]...` runs them and writes what came out into the pages.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUN = ("console", "bash", "python")
DATA = ("toml", "yaml", "json", "text", "markdown")
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
EXIT = re.compile(r"<!-- exit: (\d+) -->")
FENCE = re.compile(
    r"(?P<before>(?:^[^\n]*\n)?)(?P<indent>^ *)(?P<fence>```+)(?P<language>[\w-]*)"
    r"(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
SHELL = re.compile(r"[|<>&;$*]")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
QUANTITY = re.compile(r"(?:about )?[\d.,]+ (?:s|ms|min|MiB|GiB|B)\b")
NUMBER = re.compile(r"[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
UNSEEN = " > /dev/null"
ELISION = "[...]"
COLUMNS = "100"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block and what the comment above it says."""

    language: str
    title: str
    text: str
    start: int  # where the text lies in the page
    not_run: str
    exit_code: int
    indent: str

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Every command with the lines shown below it."""
        found: list[tuple[str, list[str]]] = []
        lines = iter(self.text.splitlines())
        for line in lines:
            if self.language == "console" and not line.startswith("$ "):
                assert found, f"a console block begins with its output: {line}"
                found[-1][1].append(line)
                continue
            command = line.removeprefix("$ ") if self.language == "console" else line
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip().removeprefix("> ")
            if command.strip() and not command.startswith("#"):
                found.append((command, []))
        return found


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        said = match["before"]
        title = re.search(r'title="([^"]+)"', match["info"])
        reason, code = NOT_RUN.search(said), EXIT.search(said)
        indent = match["indent"]
        lines = [line.removeprefix(indent) for line in match["text"].splitlines(keepends=True)]
        found.append(
            Block(
                match["language"],
                title[1] if title else "",
                "".join(lines),
                match.start("text"),
                reason[1] if reason else "",
                int(code[1]) if code else 0,
                indent,
            )
        )
    return found


class _Terminal(io.StringIO):
    """A terminal of 100 columns, as the command line sees it."""

    def isatty(self) -> bool:
        """Say that a person reads along."""
        return True


class _Errors(io.TextIOBase):
    """Standard error, on the same screen, without a bar that moves."""

    def __init__(self, screen: io.StringIO) -> None:
        self.screen = screen

    def write(self, text: str) -> int:
        """Put text on the screen."""
        return self.screen.write(text)


@dataclass(slots=True)
class Reader:
    """Someone who types what a page shows, in a folder with the two demo models."""

    folder: Path
    store: Path  # of measurements, which pages may share
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "page"})
    differences: list[str] = field(default_factory=list)

    def follow(self, text: str) -> str:
        """Run every block of a page; return the page with the outputs that came.

        What differs from what is shown stands in `differences` afterwards.
        """
        renewed = text
        moved = 0
        for block in blocks(text):
            if block.not_run:
                continue
            if block.title and block.language in DATA:
                place = self.folder / block.title
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(block.text)
            if block.language not in RUN:
                continue
            fresh = self._run(block)
            if block.language == "console" and fresh != block.text:
                at = block.start + moved
                end = at + sum(len(block.indent) + len(x) for x in block.text.splitlines(True))
                new = "".join(block.indent + line for line in fresh.splitlines(keepends=True))
                renewed = renewed[:at] + new + renewed[end:]
                moved = len(renewed) - len(text)
        return renewed

    def _run(self, block: Block) -> str:
        """Run one block and return its text with the outputs that came."""
        if block.language == "python":
            known = {**os.environ, "SPECTRA_CACHE_DIR": str(self.store)}
            with _environment(known), contextlib.chdir(self.folder), _shown():
                exec(compile(block.text, "page", "exec"), self.names)  # noqa: S102 - our own page
            return block.text
        written = []
        for command, shown in block.commands:
            if command.startswith("make "):
                require_target(command.split()[1])
                continue
            code, actual = self.type(command)
            if code != block.exit_code:
                raise AssertionError(f"`{command}` exits with {code}:\n{actual}")
            lines = [line.rstrip() for line in actual.rstrip("\n").splitlines()]
            if shown and shown[-1] == ELISION and len(lines) > len(shown):
                lines = [*lines[: len(shown) - 1], ELISION]
            if block.language == "console" and not alike(shown, lines):
                self.differences.append("\n".join([f"$ {command}", *lines]))
            written.append("\n".join([f"$ {command}", *lines]) + "\n")
        return "".join(written)

    def type(self, command: str) -> tuple[int, str]:
        """Type one command; return its exit code and what the terminal shows.

        A plan tells what is known, so it is made where nothing is; what is measured is shown alike
        whether it was known or not.
        """
        if "--dry-run" not in command:
            return self._typed(command, self.store)
        with tempfile.TemporaryDirectory() as empty:
            return self._typed(command, Path(empty))

    def _typed(self, command: str, store: Path) -> tuple[int, str]:
        settings = {
            **os.environ,
            "SPECTRA_CACHE_DIR": str(store),
            "COLUMNS": COLUMNS,
            "NO_COLOR": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        seen = command.removesuffix(UNSEEN)
        words = shlex.split(seen, comments=True)
        if words[0] != "spectra" or SHELL.search(re.sub(r"'[^']*'", "", seen)):
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.folder, env=settings, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            return done.returncode, ANSI.sub("", done.stdout)
        from spectra_cli.main import run  # noqa: PLC0415 - needed by pages that run something

        out = contextlib.nullcontext() if seen == command else _unseen()
        with _environment(settings), contextlib.chdir(self.folder), _shown() as screen, out:
            code = run(words[1:])
        return code, ANSI.sub("", screen.getvalue())


@contextlib.contextmanager
def _shown() -> Iterator[io.StringIO]:
    """Collect what goes to the terminal, whichever stream it takes."""
    screen = _Terminal()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(_Errors(screen)):
        yield screen


def _unseen() -> contextlib.AbstractContextManager[object]:
    """Take what goes to standard output away, as a shell does."""
    return contextlib.redirect_stdout(io.StringIO())


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set the environment for a moment."""
    before = dict(os.environ)
    os.environ.update(settings)
    os.environ.pop("FORCE_COLOR", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def require_target(name: str) -> None:
    """Refuse a make target that the Makefile does not have."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{re.escape(name)}:", makefile, re.MULTILINE), f"no target {name}"


def alike(shown: Sequence[str], actual: Sequence[str]) -> bool:
    """Say whether two screens agree: times aside, numbers to two percent."""
    if len(shown) != len(actual):
        return False
    return all(_alike(*pair) for pair in zip(shown, actual, strict=True))


def _alike(shown: str, actual: str) -> bool:
    """Compare two lines."""
    one, two = (" ".join(QUANTITY.sub("#", line).split()) for line in (shown, actual))
    if NUMBER.sub("#", one) != NUMBER.sub("#", two):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(two), strict=True)
    return all(_close(_number(first), _number(second)) for first, second in pairs)


def _number(text: str) -> float:
    """Read a number as a table writes it."""
    return float(text.replace(",", "").rstrip(".").replace("\u2212", "-"))


def _close(first: float, second: float) -> bool:
    """Say whether two numbers are one to two percent."""
    return abs(first - second) <= 0.02 * max(abs(first), abs(second))


def prepare(folder: Path) -> Path:
    """Put the two models of `make demo` into a folder."""
    for name in ("all-MiniLM-L6-v2", "minilm-lora-r8"):
        place = folder / name
        if not place.exists():
            place.symlink_to((ROOT / "demo" / name).resolve())
    return folder


def main(pages: Sequence[str]) -> None:
    """Write what came out into the pages; into all of them where none is named."""
    every = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in [Path(name) for name in pages] or every:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as store:
            reader = Reader(prepare(Path(folder)), Path(store))
            fresh = reader.follow(page.read_text())
        if fresh != page.read_text():
            page.write_text(fresh)
            sys.stdout.write(f"{page}: {len(reader.differences)} outputs differed\n")


if __name__ == "__main__":
    main(sys.argv[1:])
