"""Numbers that settings of other methods than LoRA give, against the shapes that they fix."""

from collections.abc import Callable, Mapping
from typing import Any

from spectra.checkpoint.adapter.settings import CONFIG
from spectra.checkpoint.adapter.updates.update import Sizes

Held = Callable[[Sizes, float], float]
"""What the tensors of a module have of a number; that number itself where they leave it open."""


def _rank(word: str) -> Held:
    """Return the rank: the rows of the first tensor that has such an ending."""
    return lambda sizes, told: next(
        (sizes[name][0] for name in sorted(sizes) if name.endswith(word) and sizes[name]), told
    )


def _oft(sizes: Sizes, told: float) -> float:
    blocks, count = sizes.get("oft_R.weight") or sizes["oft_embedding_R.weight"]
    size = round((1 + (1 + 8 * count) ** 0.5) / 2)
    # PEFT takes the nearest size that divides the inputs; of one block that all share, or of all
    # inputs in one, their number is not known.
    return size if blocks > 1 and blocks * size % told == 0 else told


HELD: Mapping[str, tuple[str, Held]] = {
    "LOHA": ("r", _rank("hada_w1_b")),
    "LOKR": ("r", _rank("_b")),  # whole factors have none
    "VERA": ("r", _rank("vera_lambda_d")),
    "OFT": ("oft_block_size", _oft),
    "BOFT": ("boft_block_size", lambda sizes, _: sizes["boft_R"][-1]),
    "FOURIERFT": ("n_frequency", _rank("fourierft_spectrum")),
}
"""By `peft_type`, the setting and what the tensors have of it."""


def contradiction(
    config: Mapping[str, Any], kind: str, sizes: Sizes, rank: float | None
) -> tuple[str, float]:
    """Say what the settings give otherwise than a module's tensors; empty where nothing.

    Args:
        config: adapter_config.json.
        kind: Its `peft_type`.
        sizes: Shapes of the module's tensors, by PEFT's names.
        rank: What the settings give for this module; None: only what the adapter has.

    Returns:
        A sentence without its subject, and told / held: what a scale over the number lacks.
    """
    setting, held_of = HELD.get(kind, ("", None))
    told = config.get(setting) if rank is None else rank
    if held_of is None or isinstance(told, bool) or not isinstance(told, int | float):
        return "", 1.0
    try:
        held = held_of(sizes, told) if told > 0 and not config.get(f"{setting}_pattern") else told
    except (KeyError, IndexError, ValueError):  # tensors of other shapes are told elsewhere
        return "", 1.0
    if held == told or not held:
        return "", 1.0
    what = "factors of rank" if setting == "r" else f"tensors for {setting} ="
    return f"has {what} {held:g}, but {CONFIG} gives {setting} = {told:g}", told / held
