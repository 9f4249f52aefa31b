"""What is said of layers that may have a basis in common, and which groups are proposed."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from spectra.analyzers.row import Row
from spectra.numbers import percent
from spectra.text import counted, listed

NAMED = 3  # groups in a sentence
CLEAR = 0.05  # of the way from chance to one subspace, from which on layers share something
SCATTER = 6.0  # over the inputs: what chance scatters by, three times over
WHOLE = 1.0 - 1e-9  # of the energy: nothing was cut but what rounding leaves
SPAN = re.compile(r"(?<=\.)\d+-\d+(?=\.)")


def proposed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the groups that are worth a basis in common: none overlap, and they gain most.

    What a group gains is energy that it holds beyond its layers alone with as many parameters.
    """
    found = []
    for own in _by_name(rows).values():
        known = [row for row in own if _pays(row)]
        known.sort(key=lambda row: _layers(row)[-1])
        best: list[tuple[float, list[Row]]] = [(0.0, [])]
        for at, row in enumerate(known):  # the best choice among the first groups by their ends
            before = sum(_layers(one)[-1] < _layers(row)[0] for one in known[:at])
            gain = (row.number("shared_gain") or 0.0) * (row.number("group_energy") or 0.0)
            with_it = best[before][0] + gain, [*best[before][1], row]
            best.append(max(best[-1], with_it, key=lambda one: one[0]))
        found += [
            {"matrix": row.matrix, "role": row.place.role, "layers": row.values["in_group"],
             "shared_rank": row.values["shared_rank"], "shared_gain": row.values["shared_gain"]}
            for row in best[-1][1]
        ]  # fmt: skip
    return found


def reading_of(rows: Sequence[Row], proposal: Sequence[Mapping[str, Any]]) -> str:
    """Say of every role where a basis in common holds more, and whether layers share anything."""
    names = {one["matrix"] for one in proposal}
    told = []
    several = len({row.place.role for row in rows}) < len(_by_name(rows))
    for name, own in _by_name(rows).items():
        known = [row for row in own if row.number("shared_gain") is not None]
        what = name if several else own[0].place.role
        zero = [row for row in own if row.number("group_energy") == 0.0]
        if zero:
            told.append(
                f"{what}: {counted(len(zero), 'group')} of layers "
                f"{'is' if len(zero) == 1 else 'are'} all 0, and "
                f"{'has' if len(zero) == 1 else 'have'} nothing to share."
            )
        if not known:
            continue
        gains = [row for row in known if _pays(row)]
        of = counted(len(known), "group")
        larger = [row for row in known if (row.number("shared_gain") or 0.0) > 0.0]
        if gains:
            first = [row for row in gains if row.matrix in names] or gains
            best = sorted(first, key=lambda row: -(row.number("shared_gain") or 0.0))[:NAMED]
            told.append(
                f"{what}: in {len(gains):,} of {of} of layers one basis in common holds more than "
                f"one for each with as many parameters, most in {listed([*map(_worth, best)])}."
            )
        elif all((row.number("single_energy") or 0.0) > WHOLE for row in known):
            told.append(
                f"{what}: rank {known[0].values['single_rank']} cuts nothing, so that one basis "
                "and one for each hold all of it. A lower --rank tells them apart."
            )
        elif not larger:
            most = max(known, key=lambda row: row.number("shared_gain") or -1.0)
            where = f"none of {of}" if len(known) > 1 else "the only group"
            holds = (
                "does one basis in common hold as much as"
                if len(known) > 1
                else "one basis in common holds less than"
            )
            nearest = "; nearest is" if len(known) > 1 else ", in"
            told.append(
                f"{what}: in {where} of layers {holds} one for each with as many parameters"
                f"{nearest} {_worth(most)}."
            )
        if len(larger) > len(gains):
            more = "more " if gains else ""
            told.append(
                f"{what}: in {len(larger) - len(gains):,} {more}of {of} one basis holds more by "
                "its larger rank alone: any basis would do."
            )
        shares = [share for row in known if (share := row.number("sharing")) is not None]
        if shares:
            told.append(_share(median(shares), _clear(known[0])))
    return " ".join(told) or "No group of layers could be measured."


def _clear(row: Row) -> float:
    return max(CLEAR, SCATTER / row.place.cols)


def _pays(row: Row) -> bool:
    """Say whether layers are better off with one basis, and not by its larger rank alone."""
    share = row.number("sharing")
    return (row.number("shared_gain") or 0.0) > 0.0 and share is not None and share >= _clear(row)


def _share(share: float, clear: float) -> str:
    if share < clear:
        return "Their input directions have no more in common than by chance."
    return (
        f"In the median group their input directions are {percent(share)} of the way from chance "
        "to one subspace for all."
    )


def _worth(row: Row) -> str:
    held, alone = (row.number(key) or 0.0 for key in ("shared_energy", "single_energy"))
    first, *_, last = _layers(row)
    return (
        f"layers {first} to {last} ({percent(held)} at rank {row.values['shared_rank']}, "
        f"{percent(alone)} at rank {row.values['single_rank']} each)"
    )


def _by_name(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return rows by the name of their matrices without layers."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[SPAN.sub("*", row.matrix)].append(row)
    return found


def _layers(row: Row) -> list[int]:
    layers: Any = row.values["in_group"]
    return list(layers)
