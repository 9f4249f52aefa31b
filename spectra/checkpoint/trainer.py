"""What trainers leave beside a checkpoint: its step, learning rate and weight decay."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.documents import MAX_INDEX, read_object
from spectra.checkpoint.pickled.opening import read_pickled_values

STATE = "trainer_state.json"
OPTIMIZER = "optimizer.pt"

_STEP = re.compile(
    r"(?:checkpoint|ckpt|global_?step|step|iter(?:ation)?|epoch)[-_=]?0*([0-9]+)", re.IGNORECASE
)
_LAST = re.compile(r"([0-9]+)[^0-9]*$")


@dataclass(frozen=True, slots=True)
class Training:
    """How a checkpoint was trained, as far as it is known."""

    eta: float | None = None  # the highest learning rate, of the matrices
    weight_decay: float | None = None  # lambda of the matrices, decoupled as in AdamW


def read_training(checkpoint: Checkpoint, *, allow_pickle: bool = False) -> Training:
    """Read the learning rate and weight decay that a trainer left beside the weights.

    Args:
        checkpoint: Opened; its folder is looked through for `trainer_state.json`
            (transformers, TRL, axolotl, LLaMA-Factory), which logs the learning rate, and
            for `optimizer.pt`, whose parameter groups tell both.
        allow_pickle: Also read `optimizer.pt`, as data: nothing in it is run.

    Returns:
        What is there and unambiguous. The optimizer's groups are read first; those without
        weight decay are norms and biases. Groups of matrices that differ tell nothing.

    Raises:
        CheckpointError: A file that is there cannot be read.
    """
    folder = checkpoint.folder
    if folder is None:
        return Training()
    groups: list[Mapping[str, Any]] = []
    if allow_pickle and folder.has(OPTIMIZER):
        found = read_pickled_values(folder, OPTIMIZER)
        listed = found.get("param_groups") if isinstance(found, dict) else None
        groups = [group for group in listed or [] if isinstance(group, dict)]
    decayed = [group for group in groups if _positive(group.get("weight_decay"))] or groups
    eta = _one([_positive(group.get("initial_lr", group.get("lr"))) for group in decayed])
    if eta is None and folder.has(STATE):
        eta = _highest_rate(read_object(folder.file(STATE), MAX_INDEX))
    return Training(eta, _one([_number(group.get("weight_decay")) for group in decayed]))


def read_step(checkpoint: Checkpoint) -> int | None:
    """Return the training step of a checkpoint: from the trainer's state, else its name.

    Of a name, the revision and the last two parts count: `run-7b/checkpoint-500` is step 500,
    `EleutherAI/pythia-70m@step1000` is 1000.

    Raises:
        CheckpointError: The trainer's state cannot be read.
    """
    folder = checkpoint.folder
    if folder is not None and folder.has(STATE):
        step = read_object(folder.file(STATE), MAX_INDEX).get("global_step")
        if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
            return step
    name, _, revision = checkpoint.spec.rstrip("/").partition("@")
    parts = name.split("/")
    for text in (revision, *parts[:-3:-1]):
        named = _STEP.findall(text)
        if named:
            return int(named[-1][:18])
    for text in (revision, parts[-1]):
        last = _LAST.search(text.removesuffix(".safetensors"))
        if last:
            return int(last[1][:18])
    return None


def _highest_rate(state: Mapping[str, Any]) -> float | None:
    """Return the highest learning rate of a trainer's log, which a warm-up leads to."""
    log = state.get("log_history")
    lines = [line for line in log if isinstance(line, dict)] if isinstance(log, list) else []
    rates = [rate for line in lines if (rate := _positive(line.get("learning_rate"))) is not None]
    return max(rates, default=None)


def _one(values: Sequence[float | None]) -> float | None:
    return values[0] if values and len(set(values)) == 1 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _positive(value: object) -> float | None:
    return _number(value) or None
