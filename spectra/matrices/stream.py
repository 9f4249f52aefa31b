"""How a matrix touches the residual stream: it reads or writes it, and past which norm."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.matrices.attention import ACROSS
from spectra.matrices.attention_families import Family, Norm, NormKind, family_of
from spectra.matrices.attention_norms import bare, gain_of
from spectra.matrices.layers import LayerName, place_in
from spectra.matrices.scopes import is_elsewhere, settings_for
from spectra.matrices.view import View
from spectra.matrices.width import READS
from spectra.words import Side

Flow: TypeAlias = Literal["reads", "writes"]

READING = (*READS, "router")
WRITING = ("attn.o", "mlp.down")
OF_MLP = (
    "pre_feedforward_layernorm", "ln_mlp", "post_attention_layernorm", "ln_2", "norm_2",
    "layer_norm2", "final_layer_norm", "input_layernorm", "ln_1",
)  # fmt: skip
"""Norms that a feed-forward part of a known family may read past, the first that a layer has."""
OF_LATE_MLP = (
    "attention.output.LayerNorm", "sa_layer_norm", "encoder_attn_layer_norm",
    "self_attn_layer_norm",
)  # fmt: skip
"""Likewise, of families whose norms stand behind what is added."""
BEHIND_MLP = ("post_feedforward_layernorm", "post_mlp_layernorm", "layer_scale2.lambda1")
ENCODER = re.compile(r"(?:^|\.)encoder\.")
TABLE = re.compile(r"(?:^|\.)shared\.|encoder\.(?:embed_tokens|\w+\.word_embeddings)\.")
"""Tables of an encoder's tokens, or of those of both stacks."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a norm does to each number of the stream, beside dividing all by one length."""

    entry: TensorEntry | None = None  # None: all are multiplied with 1
    kind: NormKind = ""

    @property
    def word(self) -> str:
        """Return what is folded in, as results say it."""
        return {"rms1": "rms"}.get(self.kind, self.kind) or "none"


@dataclass(frozen=True, slots=True)
class Touch:
    """Where a matrix's directions of the stream are, and what stands between both."""

    flow: Flow
    side: Side  # of the singular vectors that are directions of the stream
    gain: Gain | None = Gain()  # None: not known
    outside: bool = False  # it is the output head, which nothing but tokens lies behind


def touch_of(view: View, checkpoint: Checkpoint, width: int) -> Touch | str:
    """Return how a matrix touches a stream of a width; or why it does not, or that is not known.

    Args:
        view: The matrix.
        checkpoint: All of its model.
        width: Numbers in the stream that tokens come from and go to.
    """
    kind = view.role.kind
    flow: Flow = "reads" if kind in READING else "writes"
    why = apart(view.entry.name, kind, flow, checkpoint)
    if why:
        return why
    if kind not in {*READING, *WRITING, "embed", "lm_head"}:
        return "whether it reads from the stream or writes to it is not known by its name"
    side: Side = "left" if kind in WRITING else "right"
    size, what = (view.rows, "outputs") if kind in WRITING else (view.cols, "inputs")
    if size != width:
        what = "columns" if kind in {"embed", "lm_head"} else what
        return f"its {size:,} {what} are not the {width:,} numbers of the stream"
    gain = _beside(view, checkpoint, width) if kind in {*READING, *WRITING} else Gain()
    return Touch(flow, side, gain, outside=kind == "lm_head")


def apart(name: str, kind: str, flow: Flow, checkpoint: Checkpoint) -> str:
    """Return why what a matrix reads or writes is no stream between tokens; empty where it is.

    Args:
        name: Of its tensor.
        kind: Of its role.
        flow: What it does.
        checkpoint: All of its model.
    """
    if is_elsewhere(name):
        return "it is in the vision or audio part, whose stream holds no tokens"
    if flow == "reads" and kind in {"attn.k", "attn.v"} and ACROSS.search(name):
        return "it reads what another stack has written, not what its tokens come in as"
    settings = settings_for(name, checkpoint.config)
    if kind == "embed" or not (settings.get("is_encoder_decoder") and ENCODER.search(name)):
        return ""
    if flow == "writes":
        return "the encoder writes it, and the decoder alone is read by the output head"
    tokens = any(TABLE.search(one) for one in checkpoint.entries)
    return "" if tokens else "the encoder's stream does not begin with tokens"


def _beside(view: View, checkpoint: Checkpoint, width: int) -> Gain | None:
    """Return the norm between a matrix and the stream; None: not known."""
    name, kind = view.entry.name, view.role.kind
    family, place = family_of(settings_for(name, checkpoint.config)), place_in(name)
    if kind in WRITING:
        return _behind(kind, family, place, checkpoint.entries, width)
    own = None if family is None else family.across if ACROSS.search(name) else family.before
    return None if family is None else _before(kind, own, place, checkpoint.entries, width)


def _before(
    kind: str, own: Norm | None, place: LayerName | None,
    entries: Mapping[str, TensorEntry], width: int,
) -> Gain | None:  # fmt: skip
    """Return the norm that a matrix of a known family reads past; None: not known."""
    if own is None:  # it reads the stream as it is
        return Gain()
    if kind.startswith("attn"):
        return _found(own, place, entries, width)
    if not own.names:  # which has no gain, here and there
        return Gain(None, own.kind)
    if own.names[0].startswith("layer."):  # T5's steps of a layer
        step = re.match(r"layer\.[0-9]+", place.rest if place else "")
        names: tuple[str, ...] = (f"{step[0]}.layer_norm",) if step else ()
    else:
        names = OF_LATE_MLP if own.of == "previous" else OF_MLP
    return _found(Norm(names, own.kind), place, entries, width)


def _behind(
    kind: str, family: Family | None, place: LayerName | None,
    entries: Mapping[str, TensorEntry], width: int,
) -> Gain | None:  # fmt: skip
    """Return the norm that what a matrix writes passes before it is added; None: not known."""
    if family is None:
        return None
    if family.behind is None:
        return Gain()
    norm = family.behind if kind == "attn.o" else Norm(BEHIND_MLP, family.behind.kind)
    return _found(norm, place, entries, width)


def _found(
    norm: Norm, place: LayerName | None, entries: Mapping[str, TensorEntry], width: int
) -> Gain | None:
    if not norm.names:
        return Gain(None, norm.kind)
    entry = gain_of(norm, place, entries)
    if entry is None and bare(norm, place):
        return Gain()
    if entry is None or entry.numel != width:
        return None
    return Gain(entry, kind_of(entry, norm.kind))


def kind_of(entry: TensorEntry, kind: NormKind) -> NormKind:
    """Return what a stored gain is: llama.cpp adds the 1 that some families leave out."""
    return "rms" if kind == "rms1" and entry.shard.endswith(".gguf") else kind
