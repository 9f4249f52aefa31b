"""What tokens come in by and go out by: the embedding, the final norm and the output head."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.errors import NothingToAnalyseError
from spectra.matrices.attention_families import Norm, NormKind, family_of
from spectra.matrices.layers import place_in
from spectra.matrices.scopes import is_elsewhere, settings_for
from spectra.matrices.stream import ENCODER, Gain, kind_of
from spectra.matrices.view import View, views_of
from spectra.matrices.width import width_of
from spectra.text import natural, shown

Through: TypeAlias = Literal["output head", "tied embedding", "input embedding"]

EMBEDDING = re.compile(
    r"(?:.*\.)?(?:embed_tokens|tok_embeddings|token_embd|tokens_embed|wte|word_embeddings?|embed_in"
    r"|shared|token_embeddings?|embeddings?)(?:\.weight)?"
)
"""Tables of tokens; those of positions and types go by other names."""
FINAL = re.compile(
    r"(?:.*\.)?(?:norm|ln_f|norm_f|final_layer_?norm|final_norm|layer_norm|ln_out|output_norm)"
    r"\.weight"
)
"""Gains of the norm before the output head, outside of all layers."""
BENT = re.compile(
    r"predictions\.(?:transform|dense)|generator_predictions|vocab_transform|(?:^|\.|lm_)head\.dense"
)
"""What transforms the stream of masked language models before it is read."""
IN_HEAD = re.compile(r"(?:^|\.)(?:lm_)?head\.|predictions\.")
HEADED = re.compile(r"CausalLM|LMHead|MaskedLM|ConditionalGeneration|PreTraining|MTModel|LMModel")
"""Classes that end in scores of tokens."""
ENCODERS = frozenset({
    "bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet", "albert",
    "modernbert", "nomic-bert", "jina-bert-v2", "deberta", "deberta-v2", "t5encoder",
    "gemma-embedding",
})  # fmt: skip
"""Families that, where no class is told, may have no scores of tokens at all."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How directions of the stream are read in tokens."""

    width: int
    head: View  # by which what is written is read
    through: Through
    norm: Gain | None  # before it; None: not known
    embedding: View | None  # by which what reads is read
    bent: bool = False  # between stream and head lies what is not linear, and is left out

    @property
    def tied(self) -> bool:
        """Say whether one table is both."""
        return self.embedding is not None and self.embedding.name == self.head.name


def vocabulary_of(checkpoint: Checkpoint) -> Vocabulary:
    """Find both ends of a model, from headers alone.

    Without an output head, what is written is read by the embedding: the head is tied to it, or
    there is none.

    Raises:
        NothingToAnalyseError: It has neither.
    """
    views = [one for one in views_of(checkpoint)[0] if not is_elsewhere(one.entry.name)]
    heads = [one for one in views if one.role.kind == "lm_head" and one.role.layer is None]
    tables = [
        one for one in views
        if one.role.kind == "embed" and EMBEDDING.fullmatch(one.entry.name)
        and one.role.layer is None
    ]  # fmt: skip
    if not heads and not tables:
        raise NothingToAnalyseError(
            f"--tokens reads directions by an output head or an embedding of tokens, and "
            f"{shown(checkpoint.spec)} has neither that is known by its name. "
            f"`spectra ls {shown(checkpoint.spec)}` shows names and roles."
        )
    wide = width_of(views, checkpoint.spec)
    head = _first(heads, wide)
    embedding = _first([one for one in tables if head is None or one.rows * 2 > head.rows], wide)
    source = head or embedding
    if source is None:  # neither is as wide as the stream
        source = _first(heads or tables, (heads or tables)[0].cols)
        embedding = None if heads else source
        assert source is not None  # noqa: S101 - one of both is not empty
    settings = settings_for(source.entry.name, checkpoint.config)
    through: Through = (
        "output head" if head else "tied embedding" if _is_tied(settings) else "input embedding"
    )
    bent = through != "input embedding" and any(map(BENT.search, checkpoint.entries))
    if embedding is not None and embedding.cols != source.cols:
        embedding = None
    return Vocabulary(
        source.cols, source, through,
        _final(checkpoint, settings, source.cols, alone=bent or through == "input embedding"),
        embedding, bent,
    )  # fmt: skip


def _first(views: Sequence[View], width: int) -> View | None:
    """Return the largest of the plainest name that is as wide as the stream."""
    some = [one for one in views if one.cols == width and not one.part.transposed]
    some = [one for one in some if one.part.expert is None and one.part.group is None]
    return min(
        some,
        key=lambda one: (-one.rows, one.entry.name.count("."), natural(one.name)),
        default=None,
    )


def _is_tied(settings: Mapping[str, Any]) -> bool:
    """Say whether a head that is not stored is the embedding."""
    classes = settings.get("architectures")
    if isinstance(classes, list) and classes:
        return any(HEADED.search(str(one)) for one in classes)
    if settings.get("model_type") in ENCODERS:
        return False
    return settings.get("tie_word_embeddings") is not False


def _final(
    checkpoint: Checkpoint, settings: Mapping[str, Any], width: int, *, alone: bool
) -> Gain | None:
    """Return the norm before the head; where norms stand behind what is added, the last layer's.

    Args:
        checkpoint: The model.
        settings: Of the part that has the head.
        width: Of the stream.
        alone: No head reads what the last layer leaves, as it is.
    """
    family = family_of(settings)
    before = family.before if family else None
    if before is not None and before.of == "previous":
        return Gain() if alone else _last(before, checkpoint, width)
    if before is not None and not before.names:
        return Gain(None, before.kind)
    entries = checkpoint.entries
    found = [
        entry for name, entry in entries.items()
        if FINAL.fullmatch(name) and entry.numel == width and place_in(name) is None
        and not is_elsewhere(name) and "embed" not in name.rpartition(".")[0]
        and not IN_HEAD.search(name)
    ]  # fmt: skip
    decoders = [entry for entry in found if not ENCODER.search(entry.name)]
    entry = next(iter(sorted(decoders, key=lambda one: natural(one.name))), None)
    if entry is None:
        return None
    behind = family.behind if family else None
    kind: NormKind = next((one.kind for one in (before, behind) if one is not None), "")
    if not kind or kind == "gain":
        kind = _told(entry, entries)
    return Gain(entry, kind_of(entry, kind))


def _last(norm: Norm, checkpoint: Checkpoint, width: int) -> Gain | None:
    """Return the norm that the last layer before the head ends with; None: it is not there."""
    ends = tuple(f".{one}.weight" for one in norm.names)
    layers = {
        place.numbers[-1]: entry for name, entry in checkpoint.entries.items()
        if name.endswith(ends) and entry.numel == width and not ENCODER.search(name)
        and not is_elsewhere(name) and (place := place_in(name)) is not None
    }  # fmt: skip
    return Gain(layers[max(layers)], norm.kind) if layers else None


def _told(entry: TensorEntry, entries: Mapping[str, TensorEntry]) -> NormKind:
    """Tell a norm of an unknown family by its offset: without one its gain alone is taken."""
    return "layer" if f"{entry.name.removesuffix('.weight')}.bias" in entries else "gain"
