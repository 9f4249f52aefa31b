"""A LoRA as PEFT reads it: the names of its tensors, and the settings that go with them."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spectra.text import endings
from spectra.writing.tensors import Slot, write_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
"""Files of a tokenizer, which an adapter's folder may hold beside its own."""

FOLDER = frozenset({CONFIG, WEIGHTS, *BESIDE})
"""Everything that is ever written into an adapter's folder."""

PLAIN: Mapping[str, Any] = {
    "peft_type": "LORA", "task_type": None, "base_model_name_or_path": None, "revision": None,
    "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "lora_dropout": 0.0,
    "modules_to_save": None, "init_lora_weights": True, "use_rslora": False, "use_dora": False,
}  # fmt: skip
"""Settings of an adapter of which no more is known."""

STARTS = ("eva_config", "corda_config", "lora_ga_config", "loftq_config")
"""Settings of how training began, which are none of what is written."""

MOST = 1 << 53  # up to which floats hold every whole number
NARROWING = ("exclude_modules", "layers_to_transform", "layers_pattern")
"""Settings that take modules away from those that `target_modules` names."""


@dataclass(frozen=True, slots=True)
class Module:
    """One module's factors, its scale in them: alpha is the rank, unless it is told."""

    name: str  # as the model has it
    rank: int  # at least 1
    kind: Literal["linear", "embedding"] = "linear"
    alpha: float | None = None

    @property
    def pair(self) -> tuple[int, float]:
        """Rank and alpha."""
        return self.rank, float(self.rank) if self.alpha is None else self.alpha

    @property
    def names(self) -> tuple[str, str]:
        """The names of A and B in the file."""
        if self.kind == "embedding":
            return tuple(f"{PREFIX}{self.name}.lora_embedding_{side}" for side in "AB")  # type: ignore[return-value]
        return tuple(f"{PREFIX}{self.name}.lora_{side}.weight" for side in "AB")  # type: ignore[return-value]


def alpha_of(scale: float, rank: int) -> float:
    """Return the alpha that PEFT divides by the rank; a whole one where that gives the scale."""
    alpha = scale * rank
    near = float(round(alpha)) if abs(alpha) < MOST else alpha
    return near if near / rank == scale else alpha


def config_of(
    modules: Sequence[Module],
    given: Mapping[str, Any],
    *,
    kept: Mapping[str, tuple[int, float]] | None = None,
    targets: Sequence[str] | str | None = None,
    start: bool | str = True,
) -> dict[str, Any]:
    """Return the settings of an adapter.

    The rank that most modules have is `r`, or that of stacks where there are some; others have
    theirs in `rank_pattern`, and in `alpha_pattern` an alpha to match, as PEFT scales by alpha over
    rank.

    Args:
        modules: With their ranks.
        given: Settings of what it is made from; what they say of ranks is replaced.
        kept: Rank and alpha of modules that are left as they were, by what PEFT looks up.
        targets: `target_modules`; None: as given.
        start: `init_lora_weights`; a word that gives training rules of its own, as `mica` does.
    """
    pairs = Counter(module.pair for module in modules)
    most = max(pairs, key=lambda pair: (pairs[pair], *pair), default=(1, 1.0))
    # PEFT warns of patterns that fit no module, so what is none gets the rank of all others.
    usual = next(iter((kept or {}).values()), most)
    own = {module.name: module.pair for module in modules} | dict(kept or {})
    patterns = patterns_of(own)
    other = {patterns[name]: pair for name, pair in own.items() if pair != usual}
    if lone := [name for name in kept or () if patterns[name] in other]:
        witness = {patterns[module.name]: module.pair for module in modules[:1]}
        other = _witnessed(other, [patterns[name] for name in lone], witness)
    config = {**PLAIN, **given}
    config |= {
        "r": usual[0], "lora_alpha": whole(usual[1]), "use_rslora": False,
        "init_lora_weights": start,
        "rank_pattern": {name: rank for name, (rank, _) in other.items()},
        "alpha_pattern": {name: whole(alpha) for name, (_, alpha) in other.items()},
    }  # fmt: skip
    config |= {key: None for key in STARTS if config.get(key)}
    if targets is not None:
        config["target_modules"] = targets if isinstance(targets, str) else list(targets)
        config |= {key: None for key in NARROWING if config.get(key)}
    return dict(sorted(config.items()))


def _witnessed(
    other: Mapping[str, tuple[int, float]],
    lone: Sequence[str],
    witness: Mapping[str, tuple[int, float]],
) -> dict[str, tuple[int, float]]:
    """Return patterns of which none fits bare parameters alone, where there is a module.

    PEFT applies those to parameters, but says of what fits no module that it was ignored. So they
    name a module too, whose own pattern comes before, as it does once PEFT has sorted them.

    Source:
        PEFT 0.21, `tuners_utils.BaseTuner.inject_adapter`, `utils.other.get_pattern_key`.
    """
    if not witness:
        return dict(other)
    groups: dict[tuple[int, float], list[str]] = {}
    for name in lone:
        groups.setdefault(other[name], []).append(name)
    plain = {name: pair for name, pair in other.items() if name not in lone} | dict(witness)
    return plain | {"|" + "|".join([*names, *witness]): pair for pair, names in groups.items()}


def patterns_of(names: Iterable[str]) -> dict[str, str]:
    """Return what stands for each module in a pattern of PEFT: its name, where that is enough.

    A pattern fits every module that ends with it from a dot on, so a name that others end with is
    anchored; versions of PEFT that do not know that take names as they are.
    """
    known = list(names)
    tails = {tail for name in known for tail in endings(name) if tail != name}
    return {name: f"^{_escaped(name)}" if name in tails else name for name in known}


def _escaped(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "_-/" else re.escape(sign) for sign in name)


def targets_of(names: Sequence[str], others: Iterable[str] = ()) -> list[str] | str:
    """Return `target_modules` that mean these modules and none else.

    Names mean every module that ends with one of them; where that is more, a pattern.

    Args:
        names: Of the modules, whole.
        others: All modules of the model, where they are known.
    """
    wanted = set(names)
    more = (tail for name in {*wanted, *others} for tail in endings(name) if tail != name)
    if wanted.isdisjoint(more):
        return sorted(wanted)
    return f"(?:{'|'.join(map(_escaped, sorted(wanted)))})"


def whole(value: float) -> float | int:
    """Return a number without a fraction as an integer, as PEFT has alpha."""
    return int(value) if value == int(value) else value


def write_peft(
    folder: Path,
    slots: Mapping[str, Slot],
    config: Mapping[str, Any],
    metadata: Mapping[str, str],
) -> int:
    """Write an adapter into a folder that is there, and return its size in bytes.

    Raises:
        OutputError: The system refuses.
    """
    text = config_text(config)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    written = write_tensors(folder / WEIGHTS, slots, {"format": "pt", **metadata})
    return written + len(text.encode())


def config_text(config: Mapping[str, Any]) -> str:
    """Return settings as the file has them."""
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
