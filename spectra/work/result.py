"""What an analysis found: rows, skips and a summary, ready to write or draw."""

import datetime as dt
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.analyzers import Row
from spectra.checkpoint import Checkpoint, Skipped
from spectra.deferred import Tensor

SCHEMA = "spectra/1"


@dataclass(frozen=True, slots=True)
class Model:
    """One checkpoint of an analysis."""

    spec: str  # as the user wrote it
    resolved: str  # the file or folder it means
    part: str  # base, tuned or model
    codecs: Mapping[str, int] = field(default_factory=dict)  # matrices decoded by each scheme
    labels: Mapping[str, Any] = field(default_factory=dict)  # of several models: its name and more
    digest: str | None = None  # of its weights, as `weights_digest` makes it; None: not known


def now() -> str:
    """Return the time in UTC, to the second; that of SOURCE_DATE_EPOCH where it is set."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = int(given) if given.isdecimal() else dt.datetime.now(tz=dt.UTC).timestamp()
    return dt.datetime.fromtimestamp(moment, tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Result:
    """One finished analysis."""

    command: str
    version: str  # of spectra
    settings: Mapping[str, Any]
    models: Sequence[Model]
    rows: Sequence[Row]
    skipped: Sequence[Skipped]
    summary: Mapping[str, Any]
    seconds: float  # wall time; not part of the document
    checkpoints: Sequence[Checkpoint] = field(default=(), repr=False)  # headers; not part either
    cached: bool = field(default=False, repr=False)  # a store was asked, and may be; likewise
    date: str = field(default_factory=now)  # when it was made, alone varies from run to run

    @property
    def arrays(self) -> dict[str, Mapping[str, Tensor]]:
        """What was measured beside the document, for pictures: tensors by matrix and name."""
        return {row.matrix: row.arrays for row in self.rows if row.arrays}

    def document(self) -> dict[str, Any]:
        """Return the whole result as plain data; numbers that are not finite are null."""
        return {
            "schema": SCHEMA,
            "spectra": self.version,
            "date": self.date,
            "command": self.command,
            "settings": dict(self.settings),
            "models": [
                {
                    "spec": model.spec,
                    "resolved": model.resolved,
                    "part": model.part,
                    "codecs": dict(model.codecs),
                    "digest": model.digest,
                    **plain(model.labels),
                }
                for model in self.models
            ],
            "rows": [plain(row.flat()) for row in self.rows],
            "skipped": [
                {"tensor": s.tensor, "reason": s.reason} | ({"model": s.model} if s.model else {})
                for s in self.skipped
            ],
            "summary": plain(self.summary),
        }


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return JSON data without NaN or infinity, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):  # most are, and a mapping is slow to tell
        return value
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
