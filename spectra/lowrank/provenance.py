"""Where what is written came from: sources, settings, version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from spectra.runs.result import Result

HERE: Final = frozenset({"output", "force", "reserved", "measured", "copied"})
"""Settings that are of a run, not of what was written: the same weights give the same bytes."""


def told_of(result: Result) -> dict[str, Any]:
    """Return what a run tells of what it wrote."""
    return {
        "spectra": result.version,
        "command": result.command.replace("_", " "),
        "settings": own_settings(result.settings),
        "sources": [
            {"spec": one.spec, "resolved": one.resolved, "part": one.part, "digest": one.digest}
            for one in result.models
        ],
    }


def own_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that were given, of what is written alone."""
    return {
        key: value
        for key, value in settings.items()
        if key not in HERE and value not in (None, (), "", [])
    }


def named_base(spec: str) -> dict[str, str | None]:
    """Return what settings say of the base: its name as transformers takes it, and a revision."""
    name, _, revision = spec.removeprefix("hf://").partition("@")
    if not revision or Path(spec).exists():
        return {"base_model_name_or_path": spec.removeprefix("hf://"), "revision": None}
    return {"base_model_name_or_path": name, "revision": revision}
