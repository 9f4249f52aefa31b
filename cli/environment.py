"""What spectra runs on here: versions, what torch finds, folders, settings. Asks no network."""

import os
import platform
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

import spectra
from spectra import distribution
from spectra.report.formats import dumps
from spectra.text import counted, printable, size

from .guard import DONE, UNUSABLE
from .terminal import width

REQUIREMENT: Final = re.compile(
    r"(?P<name>[\w.-]+)(?:\[[^\]]*\])?(?P<range>[^;]*)(?:;.*extra == .(?P<extra>\w+))?"
)
DEVELOPERS: Final = "dev"  # the extra that nobody needs to use spectra
SECRET: Final = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PROXY")  # an address may hold a password
SETTINGS: Final = re.compile(
    r"(SPECTRA|HF|HUGGINGFACE|OMP|MKL|OPENBLAS|CUDA|RAY)_\w+|PYTORCH_\w*|NO_COLOR|FORCE_COLOR|"
    r"COLUMNS|(HTTPS?|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|MPLBACKEND|PYTHONPATH",
    re.IGNORECASE,
)
"""Variables that change what a run does; of those that hold a secret only that they are set."""


def show(form: str = "table") -> int:
    """Write what there is, as a table or as JSON, and return the exit code."""
    found = environment()
    sys.stdout.write(dumps(found, indent=2) if form == "json" else told(found, width()))
    return UNUSABLE if found["problems"] else DONE


def environment() -> dict[str, Any]:
    """Return what there is, as plain data; what is missing or broken is said in `problems`."""
    problems: list[str] = []
    warnings: list[str] = []
    libraries = list(_libraries(problems))
    return {
        "spectra": {"version": distribution.version(), "place": str(Path(spectra.__file__).parent)},
        "python": {"version": platform.python_version(), "place": sys.executable},
        "platform": {
            "system": platform.platform(),
            "cores": _cores(),
            "memory": _memory(),
        },
        "torch": _torch(problems),
        "blas": list(_blas(problems)),
        "libraries": libraries,
        "folders": _folders(problems, warnings),
        "settings": {
            name: "set, not shown" if SECRET.search(name.upper()) else printable(_bare(value))
            for name, value in sorted(os.environ.items())
            if SETTINGS.fullmatch(name)
        },
        "problems": problems,
        "warnings": warnings,
    }


def told(found: dict[str, Any], limit: int | None) -> str:
    """Return the same as a screen, of at most so many columns where words allow."""
    machine, torch, memory = found["platform"], found["torch"], found["platform"]["memory"]
    room = f", {size(memory)} of memory" if memory else ""
    rows = [
        ("spectra", found["spectra"]["version"], found["spectra"]["place"]),
        ("python", found["python"]["version"], found["python"]["place"]),
        ("platform", "", f"{machine['system']}, {counted(machine['cores'], 'core')}{room}"),
        ("torch", torch["version"] or "-", _told_of_torch(torch)),
        *(
            (f"BLAS of {one['of']}", one["version"] or "-", _told_of_blas(one))
            for one in found["blas"]
        ),
        *(
            (one["name"], one["version"] or "-", _told_of_library(one))
            for one in found["libraries"]
        ),
        *((name, "", place) for name, place in found["folders"].items()),
        *((name, "", value) for name, value in found["settings"].items()),
    ]
    names, versions = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [""]
    for name, number, rest in rows:
        lead = f"  {name.ljust(names)}  " + (f"{number.ljust(versions)}  " if number else "")
        lines += _folded(rest, lead, limit)
    closing = [
        *(
            [f"{kind}: {text}" for kind in ("problem", "warning") for text in found[f"{kind}s"]]
            or ["No problem found."]
        ),
        "No telemetry: spectra sends nothing anywhere, and reads from the Hub what you name.",
    ]
    return "\n".join(
        [*lines, "", *(one for text in closing for one in _folded(text, "  ", limit)), ""]
    )


def _folded(text: str, lead: str, limit: int | None) -> list[str]:
    """Return text after its lead on as many lines as it takes; paths stay whole, to be copied."""
    if limit is None:
        return [(lead + text).rstrip()]
    under = " " * len(lead)
    return textwrap.wrap(
        text, limit, initial_indent=lead, subsequent_indent=under, break_long_words=False,
        break_on_hyphens=False,
    ) or [lead.rstrip()]  # fmt: skip


def _libraries(problems: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what spectra requires beside torch, and what its extras bring."""
    for line in requires(distribution.NAME) or ():
        one = REQUIREMENT.match(line)
        if one is None or one["extra"] == DEVELOPERS or one["name"] == "torch":
            continue
        found = _version_of(one["name"])
        if found is None and not one["extra"]:
            problems.append(f"{one['name']} is not installed: pip install '{line}'.")
        yield {
            "name": one["name"], "version": found, "needed": one["range"].strip(),
            "extra": one["extra"],
        }  # fmt: skip


def _torch(problems: list[str]) -> dict[str, Any]:
    """Return which torch there is, what it was built for, and what it finds here."""
    found: dict[str, Any] = {
        "version": _version_of("torch"), "build": None, "threads": None, "devices": [],
    }  # fmt: skip
    try:
        torch = import_module("torch")
        found["build"] = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
        if getattr(torch.version, "hip", None):
            found["build"] = f"ROCm {torch.version.hip}"
        found["threads"] = torch.get_num_threads()
        for index in range(torch.cuda.device_count()):
            of = torch.cuda.get_device_properties(index)
            found["devices"].append(
                {"name": f"cuda:{index}", "what": of.name, "memory": of.total_memory}
            )
    except Exception as error:  # noqa: BLE001 - a torch that is broken is what this is asked for
        said = " ".join(f"{type(error).__name__}: {error}".split())
        problems.append(f"torch cannot be used: {printable(said)}")
    return found


def _blas(problems: list[str]) -> Iterator[dict[str, Any]]:
    """Yield which BLAS torch has, and numpy and scipy: last digits and speed hang on them.

    Of one that threadpoolctl does not know, such as Accelerate, there is what it was built with.
    """
    with suppress(Exception):  # which `_torch` tells
        torch = import_module("torch")
        built = torch.__config__.show()
        name, number, kind = (
            (re.search(sought, built) or [None, None])[1]
            for sought in (r"BLAS_INFO=(\w+)", r"Math Kernel Library Version ([\d.]+)",
                           r"CPU capability usage: (\w+)")
        )  # fmt: skip
        yield {"of": "torch", "name": name, "version": number if name == "mkl" else None,
               "architecture": kind, "threads": torch.get_num_threads()}  # fmt: skip
    for package in ("numpy", "scipy"):
        try:
            own = import_module(package)
            import_module(f"{package}.linalg")  # which loads it
            built = own.show_config(mode="dicts")["Build Dependencies"]["blas"]
            loaded = [
                one for one in import_module("threadpoolctl").threadpool_info()
                if one["user_api"] == "blas" and package in Path(one["filepath"]).parent.name
            ]  # fmt: skip
            known = loaded[0] if loaded else {}
            yield {"of": package, "name": known.get("internal_api") or built.get("name"),
                   "version": known.get("version") or built.get("version"),
                   "architecture": known.get("architecture"),
                   "threads": known.get("num_threads")}  # fmt: skip
        except Exception as error:  # noqa: BLE001 - as above
            said = " ".join(f"{type(error).__name__}: {error}".split())
            problems.append(f"{package} cannot be used: {printable(said)}")


def _folders(problems: list[str], warnings: list[str]) -> dict[str, str]:
    """Return where the Hub's cache and the store are, and what was installed to read."""
    found = {}
    try:
        found["Hub cache"] = str(import_module("huggingface_hub.constants").HF_HUB_CACHE)
    except Exception as error:  # noqa: BLE001 - as above
        said = " ".join(f"{type(error).__name__}: {error}".split())
        problems.append(f"huggingface_hub cannot be used: {printable(said)}")
    work = import_module("spectra.work.store")
    found["store"] = str(work.place())
    with closing(work.Store()) as store:
        warnings += [f"{one}." for one in store.troubles]  # all works without
    data = Path(sysconfig.get_path("data"))
    for label, place in (("manual", "man/man1/spectra.1"), ("rules", "doc/spectra/rules.md")):
        if (data / "share" / place).is_file():
            found[label] = str(data / "share" / place)
    return found


def _bare(value: str) -> str:
    """Take user and password out of an address."""
    return re.sub(r"//[^/@\s]*@", "//", value)


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    """Return the machine's memory in bytes, where the system tells it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _told_of_torch(found: dict[str, Any]) -> str:
    if found["build"] is None:
        return "cannot be used, see below"
    devices = [f"{one['name']} {one['what']}, {size(one['memory'])}" for one in found["devices"]]
    threads = counted(found["threads"], "thread")
    return f"{found['build']} build, {threads}, {'; '.join(devices) or 'no GPU'}"


def _told_of_blas(found: dict[str, Any]) -> str:
    threads = counted(found["threads"], "thread") if found["threads"] else ""
    told = (found["name"] or "not known", found["architecture"], threads)
    return ", ".join(part for part in told if part)


def _told_of_library(one: dict[str, Any]) -> str:
    if one["version"] is None:
        why = {
            "gguf": "to read GGUF",
            "parquet": "to write Parquet",
            "ray": "for --engine ray",
        }.get(one["extra"], "")
        return f"not installed{f', {why}' if why else ''}: pip install {one['name']}"
    return f"({one['needed']})" if one["needed"] else ""
