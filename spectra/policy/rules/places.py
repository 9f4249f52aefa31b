"""Where a tensor stands: its stack of layers and its layer."""

import re
from collections.abc import Collection, Iterator

from spectra.architectures.lacking import OF_WEIGHTS
from spectra.matrices.layers import place_in
from spectra.matrices.role import kind_of
from spectra.matrices.scopes import is_elsewhere
from spectra.policy.facts import Facts, Subject, is_buffer
from spectra.text import shown

NAMED = 3  # tensors that a message names
LAYERS = frozenset({"layer", "layers", "block", "blocks", "h", "blk"})
"""How the layers of a stack are called, of which each has what the others have."""
POSITIONS = re.compile(
    r"(?:^|[._])(?:pos|position|positions|positional|wpe|pe)(?:$|[._])|pos_?(?:emb|enc|idx)"
)
"""In names of tables of positions, which many models fill with sines and never train."""

INPUTS = (
    "embed_tokens.weight", "word_embeddings.weight", "wte.weight", "embed_in.weight",
    "tok_embeddings.weight", "shared.weight", "token_embd.weight",
)  # fmt: skip
"""How the table of input tokens is called."""


def place(name: str) -> tuple[str, int, str] | None:
    """Return a tensor's stack of layers, its layer and its name there; None: in no layer.

    Of nested layers it is the stack inside their stage, and the number there.
    """
    at = place_in(name)
    if at is None or not (at.word in LAYERS or len(at.numbers) > 1):
        return None
    return at.prefix, at.numbers[-1], at.rest


def layers_of(names: Collection[str]) -> dict[str, dict[int, set[str]]]:
    """Return the names inside each layer of each stack."""
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in names:
        at = place(name)
        if at is not None:
            stacks.setdefault(at[0], {}).setdefault(at[1], set()).add(at[2])
    return stacks


def is_of_positions(subject: Subject) -> bool:
    """Say whether a matrix is a table of positions, whose rows may follow from one another."""
    bare = subject.role == "other" and not subject.tensor.endswith("weight")
    return (bare or subject.role == "embed") and POSITIONS.search(subject.tensor) is not None


def is_zero(subject: Subject) -> bool:
    """Say whether a tensor holds nothing but zeros."""
    return subject.number("largest") == 0.0 and not subject.number("nan") \
        and not subject.number("inf")  # fmt: skip


def weights_of(facts: Facts) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights, without buffers; lost ones are none of them.

    Of a saved check only the matrices' rows and columns are known.
    """
    found: dict[str, tuple[int, ...]] = {}
    for subject in facts.subjects.values():
        shape = facts.shapes.get(subject.tensor, ())
        if not is_buffer(subject.tensor, shape):
            found[subject.tensor] = shape
    return found


def names_of(facts: Facts) -> set[str]:
    """Return every name that a model has, as far as is known: also what is lost or not read."""
    # What is in the files under no name of its own is a part of a quantised weight.
    # A scale that is left alone stands for none.
    parts = {f"{stem}.weight" for name in facts.held.keys() - facts.shapes.keys()
             for stem, _, last in [name.rpartition(".")]
             if last != "bias" and not OF_WEIGHTS.search(last)}  # fmt: skip
    lost = {name for fault in facts.faults for name in fault.tensors}
    told = () if is_beside_index(facts) else facts.index or ()
    return {*facts.shapes, *weights_of(facts), *facts.held, *parts, *lost, *told}


def is_beside_index(facts: Facts) -> bool:
    """Say whether what was opened is a whole file that lies beside an index of others."""
    index, held = set((facts.index or {}).values()), set(facts.held.values())
    return bool(index) and bool(held) and held.isdisjoint(index)


def is_adapter(facts: Facts) -> bool:
    """Say whether this is an adapter, whose names are not those of a model."""
    return facts.is_adapter or any(
        ".lora_" in subject.tensor for subject in facts.subjects.values()
    )


def input_table(facts: Facts) -> str | None:
    """Return the table of input tokens; None where there is none or it is unclear which."""
    names = [subject.name for subject in facts.matrices()
             if subject.tensor.endswith(INPUTS) and not is_elsewhere(subject.tensor)
             and kind_of(subject.tensor) == "embed"]  # fmt: skip
    return names[0] if len(names) == 1 else None


def some(names: Collection[str]) -> str:
    """Write the first few names."""
    first = ", ".join(shown(name) for name in sorted(names)[:NAMED])
    return f"{first} and {len(names) - NAMED:,} more" if len(names) > NAMED else first


def runs(text: object) -> Iterator[range]:
    """Yield the runs that `zero_row_runs` and `zero_col_runs` tell."""
    for word in str(text).split(", ") if text else ():
        start, _, last = word.partition("-")
        yield range(int(start), int(last or start) + 1)
