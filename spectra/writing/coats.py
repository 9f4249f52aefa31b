"""Whose way a LoRA is written in: the names of its tensors, what tells the scale, and its files."""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from spectra.errors import UsageError
from spectra.text import quote
from spectra.writing.coat import Coat, Names, Worn
from spectra.writing.ggml import write_ggml
from spectra.writing.peft import CONFIG, FOLDER, PREFIX, config_text, whole, write_peft
from spectra.writing.tensors import Slot, write_tensors


class _File:
    """What ways have in common that are one safetensors file."""

    __slots__ = ()
    word: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)
    one_rank: ClassVar[bool] = False
    stacks: ClassVar[Literal["", "memory", "each"]] = ""

    def beside(self, module: Worn) -> dict[str, Slot]:  # noqa: ARG002 - of the protocol
        return {}

    def refused(self, module: Worn) -> str:
        if module.experts:
            return f"{self.word} has no LoRA of stacks of experts"
        return f"{self.word} has no LoRA of embeddings" if module.kind == "embedding" else ""

    def settings(
        self, modules: Sequence[Worn], config: Mapping[str, Any]  # noqa: ARG002 - likewise
    ) -> Mapping[str, Any]:  # fmt: skip
        return {}

    def write(
        self, place: Path, slots: Mapping[str, Slot], settings: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> int:  # fmt: skip
        return write_tensors(place, slots, {"format": "pt", **settings, **metadata})


@dataclass(frozen=True, slots=True)
class Peft:
    """A folder of settings and weights; alpha over rank is the scale, patterns tell where else."""

    word: ClassVar[str] = "peft"
    suffixes: ClassVar[tuple[str, ...]] = ()
    one_rank: ClassVar[bool] = False
    stacks: ClassVar[Literal["", "memory", "each"]] = "memory"

    def names(self, module: Worn) -> Names:
        """Return what a module's factors are called."""
        if module.kind == "embedding":
            stem = f"{PREFIX}{module.name}.lora_embedding_"
            return Names(f"{stem}A", f"{stem}B")
        return Names(*_pair(f"{PREFIX}{module.name}"))

    def beside(self, module: Worn) -> dict[str, Slot]:  # noqa: ARG002 - of the protocol
        """Return nothing: the settings tell all."""
        return {}

    def lengths(self, module: str, count: int, axes: int) -> tuple[str, tuple[int, ...]]:
        """Return what DoRA's lengths are called; of a convolution they have its axes."""
        own = (1, count, *(1,) * (axes - 2)) if axes > 2 else (count,)
        return f"{PREFIX}{module}.lora_magnitude_vector", own

    def refused(self, module: Worn) -> str:  # noqa: ARG002 - of the protocol
        """Return nothing: PEFT has all of it."""
        return ""

    def settings(self, modules: Sequence[Worn], config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return PEFT's."""
        return {**config, "use_dora": any(module.lengths for module in modules)}

    def write(
        self, place: Path, slots: Mapping[str, Slot], settings: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> int:  # fmt: skip
        """Write both files."""
        return write_peft(place, slots, settings, metadata)


@dataclass(frozen=True, slots=True)
class Kohya(_File):
    """A file of `lora_down` and `lora_up`, and an alpha for each module."""

    word: ClassVar[str] = "kohya"

    def names(self, module: Worn) -> Names:
        """Return what a module's factors are called."""
        return Names(f"{module.name}.lora_down.weight", f"{module.name}.lora_up.weight")

    def beside(self, module: Worn) -> dict[str, Slot]:
        """Return alpha, in float32."""
        alpha = struct.pack("<f", module.told * module.rank)
        return {f"{module.name}.alpha": Slot("F32", (), 4, lambda: (alpha,))}

    def lengths(self, module: str, count: int, axes: int) -> tuple[str, tuple[int, ...]]:
        """Return what DoRA's lengths are called, one row each."""
        return f"{module}.dora_scale", (count, *(1,) * (axes - 1))

    def settings(
        self, modules: Sequence[Worn], config: Mapping[str, Any]  # noqa: ARG002 - likewise
    ) -> Mapping[str, Any]:  # fmt: skip
        """Return what kohya's tools show of a file."""
        ranks = {module.rank for module in modules}
        alphas = {module.told * module.rank for module in modules}
        return {
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
            "ss_network_alpha": str(whole(alphas.pop())) if len(alphas) == 1 else "Dynamic",
        }


@dataclass(frozen=True, slots=True)
class Diffusers(_File):
    """A file of PEFT's factors under the part of a pipeline; the scale is in them."""

    word: ClassVar[str] = "diffusers"

    def names(self, module: Worn) -> Names:
        """Return what a module's factors are called."""
        return Names(*_pair(module.name))

    def lengths(self, module: str, count: int, axes: int) -> tuple[str, tuple[int, ...]]:
        """Return what DoRA's lengths are called."""
        name, own = Peft().lengths(module, count, axes)
        return name.removeprefix(PREFIX), own


def _pair(module: str) -> tuple[str, str]:
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


LAYER = re.compile(r"(?:.+\.)?layers\.\d{1,6}\.(.+)", re.DOTALL)
MLX_WEIGHTS = "adapters.safetensors"


@dataclass(frozen=True, slots=True)
class Mlx:
    """A folder as mlx-lm has it: both factors the other way round, one rank and scale for all.

    Source:
        mlx-lm, `tuner/utils.py`, `load_adapters`: since 0.32.2 every tensor has to have the shape
        that the rank gives it.
    """

    word: ClassVar[str] = "mlx"
    suffixes: ClassVar[tuple[str, ...]] = ()
    one_rank: ClassVar[bool] = True
    stacks: ClassVar[Literal["", "memory", "each"]] = "each"

    def names(self, module: Worn) -> Names:
        """Return what a module's factors are called."""
        plain = not module.experts  # of a stack both lie as in PEFT
        return Names(f"{module.name}.lora_a", f"{module.name}.lora_b", (plain, plain))

    def beside(self, module: Worn) -> dict[str, Slot]:  # noqa: ARG002 - of the protocol
        """Return nothing: the settings tell all."""
        return {}

    def lengths(
        self,
        module: str,
        count: int,
        axes: int,  # noqa: ARG002 - of the protocol
    ) -> tuple[str, tuple[int, ...]]:
        """Return what DoRA's lengths are called."""
        return f"{module}.m", (count,)

    def refused(self, module: Worn) -> str:
        """Say what mlx-lm does not train."""
        if module.axes > 2:
            return "mlx-lm has no LoRA of convolutions"
        if module.kind == "embedding" and module.lengths:
            return "mlx-lm has other lengths for embeddings with DoRA"
        return ""

    def settings(self, modules: Sequence[Worn], config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return mlx-lm's.

        Raises:
            UsageError: Some modules have DoRA's lengths and some have none.
        """
        dora = {module.lengths for module in modules}
        if len(dora) > 1:
            raise UsageError(
                "some modules have DoRA's lengths and others none, and mlx-lm has them for all or "
                "none. Expected --to peft."
            )
        found = [(LAYER.fullmatch(module.name), module.name) for module in modules]
        keys = {name if inside is None else inside[1] for inside, name in found}
        first = next(iter(modules), Worn("", 1))  # none: the room it takes is asked for
        return {
            "fine_tune_type": "dora" if True in dora else "lora",
            "model": config.get("base_model_name_or_path"),
            "num_layers": -1,  # they are counted from the last one on: all
            "lora_parameters": {
                "rank": first.rank,
                "scale": first.told,
                "dropout": 0.0,
                "keys": sorted(keys),
            },
        }

    def write(
        self, place: Path, slots: Mapping[str, Slot], settings: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> int:  # fmt: skip
        """Write both files."""
        text = config_text(settings)
        (place / CONFIG).write_text(text, encoding="utf-8")
        return write_tensors(place / MLX_WEIGHTS, slots, metadata) + len(text.encode())


@dataclass(frozen=True, slots=True)
class Gguf:
    """A file as llama.cpp's converter lays it: one alpha for all, 0 where the scale is 1."""

    architecture: str = ""
    word: ClassVar[str] = "gguf"
    suffixes: ClassVar[tuple[str, ...]] = (".gguf",)
    one_rank: ClassVar[bool] = False
    stacks: ClassVar[Literal["", "memory", "each"]] = "each"

    def names(self, module: Worn) -> Names:
        """Return what a module's factors are called; of an embedding A has its rows first."""
        turned = module.kind == "embedding", False
        return Names(f"{module.name}.lora_a", f"{module.name}.lora_b", turned)

    def beside(self, module: Worn) -> dict[str, Slot]:  # noqa: ARG002 - of the protocol
        """Return nothing: the metadata tell all."""
        return {}

    def lengths(
        self,
        module: str,
        count: int,
        axes: int,  # noqa: ARG002 - of the protocol
    ) -> tuple[str, tuple[int, ...]]:
        """Return nothing that is ever asked for: what has lengths is refused."""
        return f"{module}.lora_m", (count,)

    def refused(self, module: Worn) -> str:
        """Say what llama.cpp does not apply."""
        if module.lengths:
            return "GGUF has no DoRA"
        return "GGUF has no LoRA of convolutions" if module.axes > 2 else ""

    def settings(
        self, modules: Sequence[Worn], config: Mapping[str, Any]  # noqa: ARG002 - of the protocol
    ) -> Mapping[str, Any]:  # fmt: skip
        """Return the metadata of an adapter."""
        alphas = {module.told * module.rank for module in modules}
        same = all(module.told == 1.0 for module in modules)
        return {
            "general.architecture": self.architecture,
            "general.type": "adapter",
            "adapter.type": "lora",
            "adapter.lora.alpha": 0.0 if same or len(alphas) > 1 else alphas.pop(),
        }

    def write(
        self, place: Path, slots: Mapping[str, Slot], settings: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> int:  # fmt: skip
        """Write the file; where it came from is told under our own names."""
        told = {f"general.{key.replace('_', '.')}": text for key, text in metadata.items()}
        return write_ggml(place, slots, {**settings, **told})


COATS: Mapping[str, Coat] = {one.word: one for one in (Peft(), Kohya(), Diffusers(), Mlx(), Gguf())}
MLX_FILES = frozenset({CONFIG, MLX_WEIGHTS})
FILES = FOLDER | MLX_FILES
"""Everything that is ever written into an adapter's folder."""


def scales_told(to: str, scales: Sequence[float], ranks: Sequence[int]) -> list[float]:
    """Return the scale that a coat tells of each module; what is left goes into its factors.

    Args:
        to: Its word.
        scales: Of the modules.
        ranks: Of the modules.

    Source:
        mlx-lm, `tuner/lora.py` (one scale); llama.cpp, `llama_adapter_lora_weight::get_scale`:
        alpha / rank, or 1 where alpha is 0; diffusers, which takes alpha as the rank where its
        file says nothing.
    """
    if to in ("peft", "kohya"):
        return list(scales)
    if to == "mlx":
        usual = max(scales, key=lambda scale: (scales.count(scale), scale), default=1.0)
        return [usual] * len(scales)
    alphas = {struct.pack("<f", scale * rank) for scale, rank in zip(scales, ranks, strict=True)}
    if to == "gguf" and len(alphas) == 1:
        alpha = struct.unpack("<f", alphas.pop())[0]
        told = [alpha / rank for rank in ranks]
        if alpha and told == list(scales):
            return told
    return [1.0] * len(scales)


def coat_of(to: str) -> Coat:
    """Return a coat by its word.

    Raises:
        UsageError: There is none.
    """
    if to not in COATS:
        raise UsageError(f"--to {quote(to)} is not known. Expected one of {', '.join(COATS)}.")
    return COATS[to]
