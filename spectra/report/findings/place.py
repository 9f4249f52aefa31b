"""Where a finding lies, as a file of the repository that a reader of it can open."""

import re
from urllib.parse import quote

from spectra.policy.finding import Finding
from spectra.report.findings.found import Verdict

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".json")
ROOT = "."
"""What is left of a place that is the repository itself."""
SCHEME = re.compile(r"[a-z][a-z0-9+]+://", re.IGNORECASE)
DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def path_of(one: Finding, verdict: Verdict) -> tuple[str, int]:
    """Return the file of a finding and the line in it, `/` between its parts.

    Weights have no lines: it is the first one of the shard, or that of the policy file. Where a
    finding has no file of its own it is the policy's, else the model itself.
    """
    model, line = _model(verdict), one.line or 1
    if one.file is None:
        return (_joined(verdict.policy) if verdict.policy else model) or ROOT, line
    if one.line is not None or one.file == verdict.policy or _is_absolute(one.file):
        return _joined(one.file) or ROOT, line
    if model.lower().endswith(WEIGHTS):  # one file is the model
        model = model.rpartition("/")[0]
    return (_joined(f"{model}/{one.file}") if model else _joined(one.file)) or ROOT, line


def uri_of(path: str) -> str:
    """Return a path as a URI: relative where it is, with everything escaped that must be."""
    escaped = quote(path, safe="/:" if DRIVE.match(path) else "/")
    if path.startswith("/"):
        return f"file://{escaped}"
    return f"file:///{escaped}" if DRIVE.match(path) else escaped


def _model(verdict: Verdict) -> str:
    """Return the model's folder or file; of one on the Hub, its name without a revision."""
    spec = verdict.spec
    if SCHEME.match(spec):
        spec = SCHEME.sub("", spec, count=1)
        return _joined(re.sub(r"@[^/]*", "", spec))
    if re.fullmatch(r"[\w.-]+/[\w.-]+@[^/]+(/.*)?", spec):
        return _joined(re.sub(r"@[^/]*", "", spec, count=1))
    return _joined(spec)


def _joined(path: str) -> str:
    """Return a path without `.`, `..` and empty parts, which a repository's own never has."""
    plain = path.replace("\\", "/")
    parts: list[str] = []
    for part in plain.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    joined = "/".join(parts)
    return f"/{joined}" if plain.startswith("/") and parts else joined


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or DRIVE.match(path) is not None
