"""The words that options, files and results share, each list in one place."""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, get_args

ROLES = (
    "attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down",
    "router", "embed", "lm_head", "conv", "other",
)  # fmt: skip
"""What a matrix does in its network."""

GROUPS = tuple(sorted({role.split(".")[0] for role in ROLES if "." in role}))
"""Words that mean several roles: `attn` and `mlp`."""

VOCABULARY = ("embed", "lm_head")
"""Roles whose rows are the vocabulary: often tied, and resized together."""

MATRIX = ("matrix", "matrices")
HEADWISE = ("matrix or head", "matrices and heads")
"""What a row is of, one and several; the latter where those of attention are taken by head."""

VECTOR = "vector"
"""The role of a one-dimensional tensor, which only a check looks at."""

Status: TypeAlias = Literal["ok", "singular", "outside", "non-finite", "failed"]
"""Of a row: it has its numbers, some of them, a bound alone, or none: it holds NaN or Inf, or
measuring it failed."""

FAILED: Final = "failed"
UNMEASURED: Final = frozenset({"non-finite", FAILED})
"""Statuses of rows that have no numbers."""

Side: TypeAlias = Literal["left", "right"]
"""Singular vectors of the outputs, or of the inputs."""
Sides: TypeAlias = Literal["left", "right", "both"]
"""Of one of them, or of each for itself."""

Frame: TypeAlias = Literal["base"]
"""Whose singular vectors a change is seen in."""

By: TypeAlias = Literal["matrices", "params"]
Per: TypeAlias = Literal["global", "role"]
RankBy: TypeAlias = Literal["kappa", "kappa_excess"]

Preset: TypeAlias = Literal["weightwatcher", "spectrum"]
"""Other tools in whose words spectra are told."""

Experts: TypeAlias = Literal["single", "pooled"]
"""Each of them, or the singular values of all experts of a layer and role together."""

Severity: TypeAlias = Literal["error", "warning", "note"]
FailOn: TypeAlias = Literal["error", "warning", "note", "never"]
State: TypeAlias = Literal["new", "unchanged", "gone"]
"""Of a finding, against a baseline."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first."""

Became: TypeAlias = Literal["removed", "added", "reshaped", "recast", "changed", "unknown", "same"]
"""Of a tensor, or a file of weights, between two models."""

BECAME: tuple[Became, ...] = get_args(Became)
"""What is to be looked at first stands first."""

Engine: TypeAlias = Literal["local", "ray"]
"""Who measures: this machine, or the workers of a cluster."""

Format: TypeAlias = Literal["table", "json", "jsonl", "csv", "markdown", "parquet"]
CheckFormat: TypeAlias = Literal[Format, "sarif", "junit", "github"]
"""What a result is written as, and what the findings of a check are besides."""

Stored: TypeAlias = Literal["float32", "bfloat16", "float16"]
To: TypeAlias = Literal["peft", "kohya", "diffusers", "mlx", "gguf"]
"""The dtypes that factors are written in."""

InitMethod: TypeAlias = Literal["pissa", "milora", "soma", "olora", "mica"]
Chosen: TypeAlias = Literal["min", "mid", "max", "random"]
InitForm: TypeAlias = Literal["residual", "difference", "bare"]
"""What an adapter starts from, which singular values it takes, and what is written of it."""

Filter: TypeAlias = Literal["largest", "smallest", "hybrid", "random"]
MaskForm: TypeAlias = Literal["masks", "indices", "shira"]
"""The singular directions whose largest entries a mask takes, and what it is written as."""

ExportForm: TypeAlias = Literal["peft", "axolotl", "llamafactory", "python", "names"]
"""What a selection is exported for."""


def in_order(roles: Iterable[str]) -> list[str]:
    """Return each role once, in the order of `ROLES`; what is none of them last, by name."""
    present = set(roles)
    return [role for role in ROLES if role in present] + sorted(present.difference(ROLES))
