"""GPT-2's layers: the model holds them [in, out], and quantisers store them [out, in]."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.checkpoint.codecs.bitsandbytes import FourBits, Int8
from spectra.checkpoint.codecs.gptq import Gptq
from spectra.checkpoint.entry import Codec, ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor

FAMILIES = frozenset({"gpt2", "imagegpt", "openai-gpt"})
LAYERS = re.compile(r"(?:^|\.)(?:c_attn|c_fc|c_proj|q_attn)\.weight")


@dataclass(frozen=True, slots=True)
class Turned:
    """The transpose of what another codec gives."""

    inner: Codec

    @property
    def name(self) -> str:
        """The scheme's own name."""
        return self.inner.name

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """The stored parts."""
        return self.inner.parts

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as the model holds them; a transposed view."""
        values = self.inner.decode(read, None).T
        return values if slab is None else values[slab[0] : slab[1]]

    def nudge(self, main: Tensor) -> "Tensor | None":
        """Return what the scheme itself returns."""
        return self.inner.nudge(main)


def as_held(entry: TensorEntry, config: Mapping[str, Any]) -> TensorEntry:
    """Return a decoded weight in the orientation that the model's family holds.

    Args:
        entry: The weight as its scheme stores it.
        config: The model's config.json; `model_type` counts.

    Source:
        `Conv1D` in transformers 5.23 (`integrations/bitsandbytes.py`) and GPTQModel 7.7
        (`pack_block`): both transpose before they quantise.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES or not LAYERS.search(entry.name):
        return entry
    if not isinstance(entry.codec, FourBits | Int8 | Gptq) or len(entry.shape) != 2:
        return entry
    return replace(entry, shape=entry.shape[::-1], codec=Turned(entry.codec))
