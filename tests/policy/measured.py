"""Facts measured of tensors that a test makes, and what a rule says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analyzers.subjects import DTYPES
from examples import role_of
from policy.subjects import Fixed
from spectra.analyzers import Row
from spectra.analyzers.soundness import Soundness
from spectra.checkpoint.entry import TensorEntry
from spectra.matrices import Matrix, View
from spectra.matrices.part import Part
from spectra.policy import RULES, Breach
from spectra.policy.facts import Facts, Subject
from spectra.text import natural
from spectra.words import VECTOR

FILE = "model.safetensors"
LLAMA = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
SETTINGS: dict[str, Any] = {
    "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
    "hidden_size": 16, "vocab_size": 20,
}  # fmt: skip


def llama(layers: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """A small decoder: hidden size 16, four heads, two of keys."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    tensors = {"model.embed_tokens.weight": random(20, 16), "model.norm.weight": torch.ones(16)}
    for layer in range(layers):
        inside = f"model.layers.{layer}."
        tensors[f"{inside}input_layernorm.weight"] = torch.ones(16)
        for name in LLAMA:
            rows, cols = {"k_": (8, 16), "v_": (8, 16), "do": (16, 24)}.get(
                name.split(".")[1][:2], (24, 16) if name.startswith("mlp") else (16, 16)
            )
            tensors[f"{inside}{name}.weight"] = random(rows, cols)
    return tensors


def subject(name: str, values: Tensor) -> Subject:
    """Measure one tensor as a check does."""
    shape = tuple(values.shape)
    entry = TensorEntry(name, DTYPES[values.dtype], shape, FILE, 0, values.nbytes)
    role = role_of(name)
    if len(shape) != 2:
        role = replace(role, kind=VECTOR)
    rows = shape[0] if shape else 1
    view = View(name, role, entry, Part(), rows, values.numel() // rows)
    found = Soundness().measure(Matrix(view, view.part.of(values)))
    return Subject.read(Row(view.place(), "ok", None, found.values).flat(), FILE)


def facts_of(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any] | None = None,
    **more: Any,  # noqa: ANN401 - other fields of Facts
) -> Facts:
    """Everything that rules may know of a model with these tensors."""
    names = sorted(tensors, key=natural)
    given = {"shapes": {name: tuple(tensors[name].shape) for name in names},
             "held": dict.fromkeys(names, FILE), **more}  # fmt: skip
    subjects = {name: subject(name, tensors[name]) for name in names}
    return Facts(subjects=subjects, config=config or {}, **given)


def breaches(code: str, facts: Facts, **settings: object) -> list[Breach]:
    """Let one rule judge, with its default settings or these."""
    rule = RULES[code]
    return list(rule.judge(facts, Fixed(rule, settings)))


def told(code: str, facts: Facts, **settings: object) -> list[tuple[str | None, str]]:
    """Return where a rule finds something, and what."""
    return [(one.matrix or one.subject, one.message) for one in breaches(code, facts, **settings)]


def places(code: str, facts: Facts) -> list[str | None]:
    """Return where a rule finds something."""
    return [place for place, _ in told(code, facts)]


def every(facts: Facts) -> Sequence[tuple[str, str | None, str]]:
    """Return all that the rules of integrity find."""
    codes = [code for code in RULES if code.startswith("SPC0")]
    return [(code, place, text) for code in codes for place, text in told(code, facts)]
