"""Which matrices of a model are alike enough that one can be an outlier among them."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

from spectra.policy.facts import Subject

FEWEST = 4  # like matrices, from which on one can be an outlier among them
UNLIKE = frozenset({"other", "conv", "embed"})
"""Roles whose members need have nothing in common: a CTC head and an LSTM, a patch embedding and
a depthwise kernel, tokens and positions."""

_NUMBER = re.compile(r"(?<![^.\[])\d+(?![^.\]])")  # also alone in brackets: `exps[12]`
_MEMBER = re.compile(r"=\d+")  # of a stack: `[expert=3,up]`


def pattern(name: str) -> str:
    """Return a glob for a matrix and its like in other layers.

    Args:
        name: Of the matrix: `h.0.attn.weight`, of which the number may be any.
    """
    return _NUMBER.sub("*", name)


def peers(subjects: Iterable[Subject]) -> Mapping[str, Hashable]:
    """Return, by name, what each matrix shares with those that it can be compared with.

    Matrices of one name but for its numbers (other layers, other experts) are alike where there
    are `FEWEST`; outside the roles that say what a matrix does, of one shape besides. Those left
    over in a role that says it are alike where they are in one stack, experts and the rest apart;
    all others have no like.
    """
    named = {one.name: _of_name(one) for one in subjects}
    counts = Counter(named.values())
    found: dict[str, Hashable] = {}
    for name, key in named.items():
        role, expert, *_ = key
        alone = counts[key] >= FEWEST or role in UNLIKE
        found[name] = key if alone else (role, expert, pattern(name).partition("*")[0])
    return found


def _of_name(one: Subject) -> tuple[Hashable, ...]:
    shape = (one.rows, one.cols) if one.role in UNLIKE else ()
    name = _MEMBER.sub("=*", pattern(one.name))
    return one.role, one.expert is not None, name, *shape
