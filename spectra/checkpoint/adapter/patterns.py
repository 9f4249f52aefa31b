"""Regular expressions out of a file: matched exactly as `re` does, and never for ever."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from spectra.errors import AdapterError
from spectra.text import quote

SECONDS = 5.0  # for all patterns of an adapter; real ones take milliseconds
MEMORY = 512 << 20  # bytes of address space, where the system can limit it
DIRECT = 50_000_000  # characters times patterns that are matched here without a limit

FORM = r"\A(.*\.)?({})$"
"""Where `get_pattern_key` of PEFT lets a pattern fit: the end of a name, from a dot on."""

SAFE = re.compile(r"\^?(?:[\w/-]|\\?\.)*", re.ASCII)
"""Names, with dots escaped or not: nothing in them repeats, so that matching is quick."""

_CHILD = """
import json, re, sys
asked = json.load(sys.stdin)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (asked["memory"], asked["memory"]))
except (ImportError, ValueError, OSError):
    pass
for table, patterns in asked["tables"].items():
    left = asked["modules"]
    for index, pattern in enumerate(patterns):
        print(json.dumps([table, index, "begun"]), flush=True)
        try:
            fits = re.compile(asked["form"].replace("{}", pattern)).search
            found = [module for module in left if fits(module)]
        except (re.error, OverflowError, RecursionError) as error:
            print(json.dumps([table, index, "wrong", str(error)]))
            sys.exit()
        print(json.dumps([table, index, "fits", found]))
        done = set(found)
        left = [module for module in left if module not in done]
"""


def first_fits(
    tables: Mapping[str, Sequence[str]], modules: Sequence[str], subject: str, form: str = FORM
) -> dict[str, dict[str, str]]:
    r"""Return, for each table, the first pattern that fits each module.

    A pattern fits where PEFT says so: `re.match(rf"(.*\.)?({pattern})$", module)`. Patterns
    that could take for ever are matched in a process of its own, which is ended after
    `SECONDS`.

    Args:
        tables: Patterns by the table's name, in the order that counts.
        modules: Names to match.
        subject: The file they come from, for messages.
        form: What is searched for in a name, with {} for the pattern.

    Returns:
        By table, the pattern by module; modules that none fits are absent.

    Raises:
        AdapterError: One is no regular expression, or matching takes too long.
    """
    work = sum(map(len, modules)) * sum(len(patterns) for patterns in tables.values())
    simple = all(SAFE.fullmatch(pattern) for patterns in tables.values() for pattern in patterns)
    if not simple or work > DIRECT:
        return _apart(tables, modules, subject, form)
    fitting: dict[str, dict[str, str]] = {}
    for table, patterns in tables.items():
        found = fitting.setdefault(table, {})
        for pattern in patterns:
            fits = re.compile(form.replace("{}", pattern)).search
            found |= {name: pattern for name in modules if name not in found and fits(name)}
    return fitting


def _apart(
    tables: Mapping[str, Sequence[str]], modules: Sequence[str], subject: str, form: str
) -> dict[str, dict[str, str]]:
    """Match in a child process within limits of time and memory."""
    given = {"tables": {k: list(v) for k, v in tables.items()}, "modules": list(modules)}
    asked = json.dumps({**given, "memory": MEMORY, "form": form})
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    try:
        run = subprocess.run(  # noqa: S603 - our own text; the patterns are data on its input
            command, input=asked.encode(), capture_output=True, timeout=SECONDS, check=False
        )
        said, late = run.stdout, False
        ended = run.returncode != 0
    except subprocess.TimeoutExpired as error:
        said, late, ended = error.stdout or b"", True, True
    except OSError as error:
        raise AdapterError(
            f"{subject}: its patterns are matched in a process of its own, which cannot start "
            f"({error.strerror}). Write the modules' names in them."
        ) from None
    fitting: dict[str, dict[str, str]] = {table: {} for table in tables}
    begun = next(iter(tables), ""), 0
    for line in said.splitlines(keepends=True):
        if not line.endswith(b"\n"):  # cut when the child was ended
            break
        table, index, state, *more = json.loads(line)
        begun = table, index
        if state == "fits":
            pattern = tables[table][index]
            fitting[table] |= dict.fromkeys(more[0], pattern)
        elif state == "wrong":
            raise AdapterError(
                f"{subject}: {table} holds {quote(tables[table][index])}, expected a regular "
                f"expression ({quote(more[0])[1:-1]}). Save the adapter again."
            )
    if ended:
        table, index = begun
        takes = f"more than {SECONDS:g} seconds" if late else "more memory than it is given"
        raise AdapterError(
            f"{subject}: matching {table} takes {takes}, at {quote(tables[table][index])}: such "
            "a pattern stands for no list of modules. Write the modules' names in it."
        )
    return fitting
