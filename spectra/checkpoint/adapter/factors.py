"""What each tensor of an adapter is, told from its name: factors, magnitudes, rows, wholes."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from spectra.checkpoint.adapter.settings import CONFIG, unsupported
from spectra.checkpoint.adapter.views import stacked
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.checkpoint.wrappers import plain_names
from spectra.errors import AdapterError
from spectra.text import quote, shown

PREFIX = "base_model.model."
NAMED = re.compile(
    r"(?P<before>.*\.(?:lora_(?:embedding_)?[AB]|lora_magnitude_vector|trainable_tokens_delta))"
    r"\.(?P<name>(?!(?:weight|bias)$)[^.]+)(?P<after>(?:\.weight|\.bias)?)",
    re.DOTALL,
)
"""A tensor with its adapter's own name in it, which PEFT leaves out when it saves."""
WRAPPERS = re.compile(r"\.(modules_to_save(\.default)?|base_layer|token_adapter)(?=\.)")
NESTED = ".base_layer"
FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.default)?(?P<weight>\.weight)?",
    re.DOTALL,
)
MAGNITUDE = re.compile(
    r"(?P<module>.+)\.lora_magnitude_vector(\.default)?(\.weight)?(\.default)?", re.DOTALL
)
TOKENS = re.compile(r"(?P<module>.+)\.trainable_tokens_delta(\.default)?", re.DOTALL)

OF_FACTOR = re.compile(r"(?P<module>.+)\.lora_B(\.[^.]+)?\.bias", re.DOTALL)
BIAS = "a bias that is scaled with its factors (lora_bias)"
"""Of what lora_B adds beside its weight: no weight changes by it."""
DROPPED = f"a bias of lora_B, which PEFT drops, as {CONFIG} does not set lora_bias"
"""Likewise, of one that the settings do not ask for."""

BEFORE = re.compile(r".*\.(original_module\..+|trainable_tokens_original(\.default)?)", re.DOTALL)
"""What was there before training: PEFT saves it where the vocabulary was resized."""

Kind = Literal["linear", "embedding", "parameter"]


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """One module's update: `scale * B @ A`, both still on disk.

    Of kind `parameter` it is that of a bare parameter of the module, such as a stack of
    experts, whose rank and scale hang on which parameter it is; then `rank` and `scale`
    are those of the first that may be meant.
    """

    module: str  # as the adapter names it, without PEFT's own prefix and wrappers
    kind: Kind
    a: TensorEntry
    b: TensorEntry
    rank: int
    scale: float
    magnitude: TensorEntry | None = None  # DoRA's, one entry per output, or per embedding feature
    choices: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Rank and scale by the name of the parameter; empty for a module's weight."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs) and columns (inputs) of the update, in canonical orientation."""
        if self.kind == "embedding":  # (B A)^T on a table stored [entries, features]
            return self.a.shape[1], self.b.shape[0]
        return self.b.shape[0], math.prod(self.a.shape[1:])

    @property
    def count(self) -> int:
        """How many matrices a stack holds, each with factors of its own; 1 for others."""
        return self.a.shape[0] // self.rank


def stack_factors(module: str, a: TensorEntry, b: TensorEntry, scale: float) -> LoraFactors:
    """Return the factors of a stack of experts that is a module of its own.

    Args:
        module: Its name.
        a: [count, r, in], or its rows one below the other.
        b: [count, out, r].
        scale: Of all.
    """
    count, _, rank = b.shape
    flat = replace(a, shape=(count * rank, a.shape[-1]))
    return LoraFactors(
        module, "parameter", flat, stacked(b), rank, scale, choices={"weight": (rank, scale)}
    )


@dataclass(slots=True)
class Sorted:
    """An adapter's tensors by what they are; modules as in the file, without the prefix."""

    halves: dict[tuple[str, Kind], dict[str, TensorEntry]] = field(default_factory=dict)
    magnitudes: dict[str, TensorEntry] = field(default_factory=dict)
    tokens: dict[str, TensorEntry] = field(default_factory=dict)  # new rows of an embedding
    saved: dict[str, TensorEntry] = field(default_factory=dict)  # whole tensors by name
    skipped: list[Skipped] = field(default_factory=list)


def sort_tensors(spec: str, entries: Mapping[str, TensorEntry]) -> Sorted:
    """Tell an adapter's factors from its whole tensors and from what is neither.

    Raises:
        AdapterError: Two names mean the same tensor, or one belongs to another method.
    """
    found = Sorted()
    refuse_empty(spec, entries)
    named = saved_names(spec, entries)
    plains = {plain for plain, _ in named}
    copies: list[tuple[str, TensorEntry]] = []
    for plain, entry in named:
        factor = FACTOR.fullmatch(plain)
        magnitude, tokens = MAGNITUDE.fullmatch(plain), TOKENS.fullmatch(plain)
        if factor and bool(factor["weight"]) != bool(factor["embedding"]):
            kind: Kind = "embedding" if factor["embedding"] else "linear"
            halves = found.halves.setdefault((factor["module"], kind), {})
            note(spec, halves, factor["side"], entry)
        elif magnitude:
            note(spec, found.magnitudes, magnitude["module"], entry)
        elif tokens:
            note(spec, found.tokens, WRAPPERS.sub("", f"{tokens['module']}.")[:-1], entry)
        elif reason := _no_part(spec, plain):
            found.skipped.append(Skipped(entry.name, reason))
        elif ".modules_to_save." in plain:
            copies.append((WRAPPERS.sub("", plain), entry))
        else:
            note(spec, found.saved, WRAPPERS.sub("", plain), entry)
    for key, entry in copies:  # PEFT reads the plain name where both are there
        if key in plains:
            found.skipped.append(Skipped(entry.name, "a copy of the tensor of the plain name"))
        else:
            note(spec, found.saved, key, entry)
    return found


def saved_names(spec: str, entries: Mapping[str, TensorEntry]) -> list[tuple[str, TensorEntry]]:
    """Return tensors by the names that PEFT saves, without its prefix.

    Wrappers that a model was saved in, a prefix written twice and the adapter's own name in
    place of PEFT's `default` are seen through.

    Raises:
        AdapterError: The file holds several adapters.
    """
    plains = [(name, entries[stored]) for stored, name in bare_names(entries).items()]
    found = {plain: NAMED.fullmatch(plain) for plain, _ in plains}
    own = {match["name"]: None for match in found.values() if match}
    if len(own) > 1:
        raise AdapterError(
            f"{shown(spec)} holds {len(own)} adapters, {', '.join(map(quote, own))}: which one is "
            "meant is unknown. Save one alone (`save_pretrained(..., selected_adapters=[NAME])`)."
        )
    word = next(iter(own), "default")
    named = []
    for plain, entry in plains:
        match = found[plain]
        name = f"{match['before']}.default{match['after']}" if match else plain
        named.append(
            (name.replace(f".modules_to_save.{word}.", ".modules_to_save.default."), entry)
        )
    return named


def bare_names(names: Collection[str]) -> dict[str, str]:
    """Return names, by those stored, without PEFT's prefix and without wrappers of the model."""
    inner = plain_names(names)
    found = {}
    for stored in names:
        name = inner.get(stored, stored)
        while name.startswith(PREFIX):
            name = name.removeprefix(PREFIX)
        found[stored] = name
    return found


def refuse_empty(spec: str, entries: Mapping[str, TensorEntry]) -> None:
    """Refuse tensors without elements: what DeepSpeed leaves of parameters on other machines.

    Raises:
        AdapterError: There are some, or no tensors at all.
    """
    empty = [entry for entry in entries.values() if not entry.numel]
    if entries and not empty:
        return
    held = "no tensors at all"
    if empty:
        first, more = empty[0], len(empty) - 1
        held = (
            f"{len(empty):,} of {len(entries):,} tensors without elements "
            f"({quote(first.name)} {list(first.shape)}{', ...' if more else ''})"
        )
    raise AdapterError(
        f"{shown(spec)} holds {held}, expected LoRA factors (lora_A, lora_B): what training under "
        "DeepSpeed ZeRO-3 saves when parameters are not gathered. Save it again with "
        "stage3_gather_16bit_weights_on_model_save, or from the checkpoint by zero_to_fp32.py."
    )


def unnested(module: str) -> str:
    """Return a module's name without the wrappers of its parameters."""
    stop = len(module)
    while module.endswith(NESTED, 0, stop):
        stop -= len(NESTED)
    return module[:stop]


def check_factors(spec: str, factors: LoraFactors) -> LoraFactors:
    """Check that A, B and the magnitude of one module fit each other.

    Raises:
        AdapterError: They do not.
    """
    subject = f"{shown(spec)}: module {quote(factors.module)}"
    a, b, kind = factors.a, factors.b, factors.kind
    axes = max(2, len(a.shape)) if kind == "linear" else 2  # a convolution's B is 1 x 1
    if not len(a.shape) == len(b.shape) == axes or not 0 < a.shape[0] == b.shape[1]:
        raise AdapterError(
            f"{subject} has lora_A {list(a.shape)} and lora_B {list(b.shape)}, expected [r, in] "
            "and [out, r]. Save the adapter again, without grouped convolutions."
        )
    if set(b.shape[2:]) - {1}:
        raise AdapterError(
            f"{subject} has lora_B {list(b.shape)}, expected a 1 x 1 convolution [out, r, 1, 1]."
            " Merge it into its base (`merge_and_unload`) and give the merged model."
        )
    for entry in (a, b, factors.magnitude):
        if entry is not None and not entry.is_weights:
            raise AdapterError(
                f"{subject} has {quote(entry.name)} of dtype {entry.dtype}, expected floating "
                "point. Save the adapter again."
            )
    magnitude, long = factors.magnitude, factors.shape[1 if kind == "embedding" else 0]
    if magnitude is not None and magnitude.numel != long:
        raise AdapterError(
            f"{subject} has lora_magnitude_vector {list(magnitude.shape)}, expected {long:,} "
            "entries, as many as its outputs. Save the adapter again."
        )
    return factors


def _no_part(spec: str, plain: str) -> str:
    """Say why a tensor takes no part in the tuned weights; empty where it may."""
    if ".lora_diag" in plain:
        raise unsupported(spec, "KaSA")
    if BEFORE.fullmatch(plain):
        return "values from before the training"
    if OF_FACTOR.fullmatch(plain):
        return BIAS
    return "not a LoRA factor of a weight" if ".lora_" in plain else ""


def note(spec: str, table: dict[str, TensorEntry], key: str, entry: TensorEntry) -> None:
    """Note a tensor of an adapter; two names that mean the same one are refused."""
    if key in table:
        raise AdapterError(
            f"{shown(spec)} holds {quote(table[key].name)} and {quote(entry.name)}, which mean "
            "the same tensor: which one counts is unknown. Save the adapter again."
        )
    table[key] = entry
