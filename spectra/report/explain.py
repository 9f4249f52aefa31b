"""What a key or a heading means: what it is, its formula, how to read it, where it misleads."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from spectra.errors import UsageError
from spectra.report.keys import KEYS
from spectra.report.table import GAP, Column
from spectra.text import guess

HEADINGS = {
    "sigma max": "sigma_max", "min": "sigma_min", "stable": "stable_rank", "excess": "kappa_excess",
    "delta": "delta_relative", "rank": "delta_rank", "|cos|": "worst_cos", "at": "worst_at",
    "lowest cosine": "worst_cos", "95 %": "low", "first": "last", "at least": "least",
    "normalised": "normalised_slope", "finding": "message", "finds": "rule_name", "code": "rule",
    "±": "alpha_sigma", "tail": "alpha_tail", "signal": "signal_energy", "likelier": "truncated_p",
    "soft rank": "mp_softrank", "distance": "random_distance", "edge": "mp_edge", "ks": "alpha_ks",
    "effective": "effective_rank", "ratio to the proxy": "ratio", "matches": "ok",
    "what it finds": "summary", "in tokens": "tokens", "what ov reads → writes": "tokens",
    "intruder in tokens, and its best match": "tokens", "cosines": "dct_energy",
    "of best": "dct_ratio",
}  # fmt: skip
"""Titles of columns on screens and cards, where these are shorter than a key's."""

ABOUT = {
    "worst_cos": "intruders", "worst_at": "intruders", "worst_energy": "intruders",
    "certified": "intruders", "intruder_detail": "intruders", "delta_rank_status": "delta-rank",
    "heavy_tail": "noise-edge", "spikes": "noise-edge", "kappa_low": "kappa", "kappa_high": "kappa",
    "kappa_resolved": "kappa", "sigma_max_low": "sigma", "sigma_max_high": "sigma",
    "effective_share": "effective-rank", "resolved_share": "numerical-rank",
    "low": "width-slope", "high": "width-slope", "sigma_profile": "sigma",
    "intruders_right": "intruders", "worst_cos_right": "intruders",
    "intruder_detail_right": "intruders", "null_cos_right": "null-cos",
    "subspace_overlap_right": "subspace-overlap",
    **dict.fromkeys(
        ("alpha_tail", "alpha_sigma", "alpha_error", "alpha_status", "alpha_weighted",
         "log_alpha_norm"), "alpha",
    ),
    **dict.fromkeys(("mp_softrank", "signal_energy"), "noise-edge"),
    **dict.fromkeys(("traps", "sigma_max_random", "random_distance"), "shuffled"),
    **dict.fromkeys(
        (f"{law}_{told}" for law in ("lognormal", "exponential", "truncated")
         for told in ("ratio", "p")), "alternatives",
    ),
    "entropy": "effective-rank",
    **dict.fromkeys(
        (f"{key}_{when}" for key in ("r", "r_top", "weighted", "weighted_top", "overlap")
         for when in ("before", "after")), "weight-matching",
    ),
    "weighted_null": "weight-matching",
    **dict.fromkeys(("shared_energy", "single_energy", "shared_gain", "shared_null",
                     "shared_ceiling"), "sharing"),
    **dict.fromkeys(("dct_rank", "dct_energy", "dct_null", "dct_ratio"), "dct"),
    **dict.fromkeys(("delta_dct_energy", "delta_dct_null", "delta_dct_ratio"), "dct"),
    "copying_tokens": "tokens",
    "frame_svfit": "frame", "frame_salt": "frame", "frame_rounding": "frame",
}  # fmt: skip
"""Pages that tell of a key beside the one that they are named after."""

PARTS = (
    ("formula", "Formula"), ("read", "How to read it"), ("misleads", "Where it misleads"),
    ("source", "Where it comes from"),
)  # fmt: skip


@cache
def _told() -> Mapping[str, Any]:
    """Return the texts of the documentation."""
    text = files("spectra.report").joinpath("explained.json").read_text("utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def key_named(word: str) -> str | None:
    """Return the key that a word names: a key, its title, or a heading of a table."""
    titles = {known.title.lower(): key for key, known in reversed(list(KEYS.items()))}
    wanted = " ".join(word.split()).lower()
    spelt = (wanted, wanted.replace(" ", "_"), wanted.replace("-", "_"))
    key = next((one for one in spelt if one in KEYS), None) or HEADINGS.get(wanted)
    told = {known.lower(): known for known in _told()["keys"]}
    return key or next((told[one] for one in spelt if one in told), titles.get(wanted))


def explained(word: str) -> dict[str, Any]:
    """Return what is known of a key, as plain data.

    Raises:
        UsageError: Nothing goes by that name.
    """
    key = key_named(word)
    if key is None:
        near = guess(word.lower(), known_words())
        raise UsageError(f"{word!a} is no key or heading.{near} `spectra explain` lists all.")
    known, own = KEYS.get(key), _told()["keys"].get(key, {})
    page = _told()["pages"].get(_page(key), {})
    found = {
        "key": key,
        "title": known.title if known else key,
        "meaning": known.meaning if known else "",
        **page,
        **{name: told for name, told in own.items() if name != "page"},
    }
    return {name: value for name, value in found.items() if value}


def _page(key: str) -> str | None:
    page: str | None = _told()["keys"].get(key, {}).get("page") or ABOUT.get(key)
    return page


def known_words() -> list[str]:
    """Return all that can be asked for."""
    titles = [known.title for known in KEYS.values()]
    return list(dict.fromkeys([*KEYS, *_told()["keys"], *HEADINGS, *titles]))


def explanation(word: str, limit: int | None) -> str:
    """Return a key's whole page as text, wrapped where a terminal shows it.

    Raises:
        UsageError: Nothing goes by that name.
    """
    found = explained(word)
    title = f"  ({found['title']})" if found["title"] != found["key"] else ""
    lines = ["", f"{GAP}{found['key']}{title}"]
    for name in ("what", "definition"):
        if name in found:
            text = found[name] if found[name].endswith(".") else f"{found[name]}."
            if text.partition(" ")[0].isalpha():  # no formula, and no name
                text = text[0].upper() + text[1:]
            lines += ["", *_wrapped(text, limit)]
    for name, heading in PARTS:
        if name in found:
            if name == "formula" and not re.search(rf"\b{found['key']}\b", " ".join(found[name])):
                heading += f" of its page, {_page(found['key'])}"  # noqa: PLW2901 - it names others
            lines += ["", f"{GAP}{heading}"]
            write = _formula if name == "formula" else _wrapped
            lines += [line for text in found[name] for line in write(text, limit)]
    return "\n".join(lines) + "\n"


def listing() -> list[tuple[str, str]]:
    """Return every key of a result with what it means, in the order of tables."""
    told = _told()["keys"]
    both = dict.fromkeys([*KEYS, *told])
    return [
        (
            key,
            told.get(key, {}).get("what")
            or (KEYS[key].meaning if key in KEYS else "")
            or told[key]["definition"],
        )
        for key in both
    ]


def legend(columns: Sequence[Column]) -> list[str]:
    """Return what the columns of a table mean, in one line."""
    told: dict[str, list[str]] = {}  # titles, by what they mean
    for column in columns:
        known = KEYS.get(key_named(column.key or column.title) or "") if column.title else None
        meaning = column.means or (known.meaning if known else "")
        titles = told.setdefault(meaning, [])
        if meaning and column.title not in titles:
            titles.append(column.title)
    pieces = [f"{', '.join(titles)}: {meaning}" for meaning, titles in told.items() if titles]
    return [f"{'; '.join(pieces)}. More: spectra explain KEY."] if pieces else []


def _wrapped(text: str, limit: int | None) -> list[str]:
    if limit is None:
        return [GAP + text]
    hanging = GAP + "  " if text.startswith("- ") else GAP
    return textwrap.wrap(
        text, limit, initial_indent=GAP, subsequent_indent=hanging, break_on_hyphens=False
    )


def _formula(line: str, _limit: int | None) -> list[str]:
    return [f"{GAP}{GAP}{line}".rstrip()]
