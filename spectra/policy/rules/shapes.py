"""Tensors of another shape than a reference's, or than config.json says."""

from collections.abc import Iterator, Sequence
from itertools import chain

from spectra.matrices.heads import impossible
from spectra.matrices.per_head import ATTENTION
from spectra.matrices.rule import first_count
from spectra.matrices.scopes import settings_for
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Breach
from spectra.policy.rule import SettingsOf
from spectra.policy.rules.inventory import DEPTH, compared, references
from spectra.policy.rules.places import input_table
from spectra.text import quote

FEW = 4  # matrices of a role, from which on one can differ from the others
MOST = 0.75  # share of them that must agree
WIDTH = ("hidden_size", "n_embd", "d_model")
COUNTS = {
    "vocab_size": "number of words",
    **dict.fromkeys(WIDTH, "width"),
    **dict.fromkeys(DEPTH, "number of layers"),
}
FACTORISED = ("embedding_size", "word_embed_proj_dim", "embed_dim", "embedding_dim", "d_embed",
              "emb_dim", "input_embedding_size", "rnn_hidden_size")  # fmt: skip
"""Settings of models whose tokens are looked up in another width than that of the layers."""


def mismatch(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield tensors that have another shape than they should."""
    told: set[str] = set()
    apart = {names.word for names in compared(facts) if names.apart}
    for word, reference in references(facts):
        for name, own, theirs in _pairs(facts, reference) if word not in apart else ():
            gone = name in facts.empty  # which has a rule
            if own != theirs and not gone and name not in told and settings_of(name) is not None:
                told.add(name)
                yield Breach(_told(own, theirs, word), name)
    for name, text in chain(_against_config(facts), _against_bias(facts), _heads(facts)):
        if name not in told and settings_of(name) is not None:
            yield Breach(text, name)


def _pairs(
    facts: Facts, reference: Facts
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Yield the shapes of what both have; of a saved check, of its matrices."""
    for name, own in facts.shapes.items():
        theirs = reference.shapes.get(name)
        if theirs is not None:
            yield name, own, theirs
    for name, subject in facts.subjects.items() if not reference.shapes else ():
        twin = reference.subjects.get(name)
        if twin is not None:
            yield name, (subject.rows, subject.cols), (twin.rows, twin.cols)


def _told(own: Sequence[int], theirs: Sequence[int], word: str) -> str:
    differing = [axis for axis, (one, other) in enumerate(zip(own, theirs, strict=False))
                 if one != other]  # fmt: skip
    if len(own) == len(theirs) <= 2 and len(differing) == 1:
        axis = differing[0]
        noun = ("rows", "columns")[axis] if len(own) == 2 else "entries"
        return f"{noun} {theirs[axis]:,} -> {own[axis]:,} ({word} -> here)"
    return f"shape {list(theirs)} -> {list(own)} ({word} -> here)"


def _against_bias(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield matrices whose bias has another length than they have outputs.

    Which side the outputs are is certain only where most of a role agree; elsewhere a bias
    that fits either side will do.
    """
    for role, subjects in facts.by_role().items():
        if role == "router":  # whose bias may be that of a choice among some of its outputs
            continue
        pairs = [(one, size) for one in subjects if (size := _bias(one, facts)) is not None]
        agree = sum(one.rows == size for one, size in pairs)
        certain = len(pairs) >= FEW and agree >= MOST * len(pairs)
        for one, size in pairs:
            if size != one.rows and (certain or size != one.cols):
                told = f"is {one.rows:,} x {one.cols:,}, and its bias has {size:,} entries"
                yield one.name, told


def _bias(subject: Subject, facts: Facts) -> int | None:
    name = subject.tensor
    if subject.name != name or not name.endswith(".weight") or len(facts.shapes.get(name, ())) != 2:
        return None
    bias = facts.shapes.get(name.removesuffix("weight") + "bias", ())
    return bias[0] if len(bias) == 1 else None


def _heads(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the first matrix of attention that each impossible setting of its heads is about."""
    said: set[str] = set()
    for subject in facts.matrices():
        if subject.role in ATTENTION:
            value, text = impossible(subject.tensor, facts.config)
            if text and text not in said and not isinstance(value, list):
                said.add(text)
                yield subject.name, text


def _against_config(facts: Facts) -> Iterator[tuple[str, str]]:
    name = input_table(facts)
    if name is None:
        return
    table = facts.subjects[name]
    settings = settings_for(table.tensor, facts.config)
    for key, what in COUNTS.items():
        value = settings.get(key)
        if value is not None and not _counts(value):
            yield name, f"config.json has {key} {quote(value)}, which is no {what}"
            return
    words = first_count(settings, "vocab_size")
    if words is not None and table.rows < words:
        yield name, f"{table.rows:,} rows, and config.json says a vocabulary of {words:,}"
        return
    widths = {settings[key] for key in WIDTH if isinstance(settings.get(key), int)}
    factorised = any(isinstance(settings.get(key), int) for key in FACTORISED)
    if widths and not factorised and table.cols not in widths:
        told = " or ".join(f"{width:,}" for width in sorted(widths))
        yield name, f"{table.cols:,} columns, and config.json says a hidden size of {told}"


def _counts(value: object) -> bool:
    """Say whether a setting may count something; a list or table has one number of each part."""
    if isinstance(value, list | dict):
        return True
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1
