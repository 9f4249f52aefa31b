"""The command that gave a result, from what the result says of it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from spectra.text import printable

Settings = Mapping[str, Any]

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "spectrum": {"energy": 0.99},
    "diff": {"k": 10, "epsilon": 0.5, "side": "left"},
    "kappa": {"select": None, "rank_by": "kappa", "by": "matrices", "per": "global"},
}
"""Options with a value, by their setting, and the value they have where none is given."""

SWITCHES: Mapping[str, Sequence[str]] = {
    "diff": ("intruders", "exact"),
    "kappa": ("include_embeddings", "exact"),
}
"""Options without a value."""

CHECK: Mapping[str, Any] = {
    "base": None, "adapter": None, "baseline": None, "fail_on": "error", "min_coverage": 0.0,
}  # fmt: skip
"""Options of a check and their defaults."""

LISTS = {"include": "--include", "exclude": "--exclude", "roles": "--role"}
NEEDING_INTRUDERS = ("k", "epsilon", "side")


def arguments(document: Mapping[str, Any]) -> list[str]:
    """Return the words after `spectra` that give this result again.

    Options that say where weights come from (`--allow-pickle`, `--download`, `--variant`) and how
    work is shared (`--device`, `--workers`) change no number and are in no result.
    """
    command, settings = str(document["command"]), document["settings"]
    words = _given(command, settings)
    words += _judged_by(document) if command == "check" else []
    members = settings.get("members")
    if command == "width" and isinstance(members, list):
        words += _family(members, settings)
    for key, option in LISTS.items():
        chosen = settings.get(key)
        for value in chosen if isinstance(chosen, list | tuple) else ():
            words += [option, str(value)]
    if settings.get("layers"):
        words += ["--layers", str(settings["layers"])]
    main = ("model",) if command == "check" else MAIN
    specs = [str(model["spec"]) for model in document["models"] if model["part"] in main]
    if command == "width" and isinstance(members, list) and any(map(_is_proxy, members)):
        words += ["--against", specs.pop()]
    # A number after an option of several values would be taken for one of them.
    lead = ["spectrum", "--trend"] if command == "trend" else [command]
    fence = ["--"] if any(spec.startswith("-") for spec in specs) else []
    return [*lead, *words, *fence, *specs] if fence else [*lead, *specs, *words]


MAIN = ("model", "base", "tuned")
"""Parts that stand without an option."""


def command_line(document: Mapping[str, Any], onward: Sequence[str] = ()) -> str:
    """Return the command as it is typed, on one line, control characters escaped.

    Args:
        document: A result.
        onward: Words after it, such as `-o FILE`.
    """
    words = ["spectra", *arguments(document), *onward]
    return " ".join(printable(shlex.quote(word)) for word in words)


def _given(command: str, settings: Settings) -> list[str]:
    """Return the options whose value is not the default."""
    words = [_option(key) for key in SWITCHES.get(command, ()) if settings.get(key) is True]
    for key, default in DEFAULTS.get(command, {}).items():
        value = settings.get(key, default)
        if key in NEEDING_INTRUDERS and not settings.get("intruders"):
            continue
        if value is not None and value != default:
            words += [_option(key), str(value)]
    return words


def _judged_by(document: Mapping[str, Any]) -> list[str]:
    """Return the options of a check: its policy, and the models it compares with."""
    settings, words = document["settings"], []
    policy = document["summary"].get("policy")
    words += ["--policy", policy] if isinstance(policy, str) and policy else ["--isolated"]
    for key, default in CHECK.items():
        value = settings.get(key, default)
        if value is not None and value != default and isinstance(value, str | float | int):
            words += [_option(key), str(value)]
    selected, ignored = settings.get("select"), settings.get("ignore")
    if isinstance(selected, list | tuple) and list(selected) != ["SPC"]:
        words += [word for code in selected for word in ("--select", str(code))]
    if isinstance(ignored, list | tuple):
        words += [word for code in ignored for word in ("--ignore", str(code))]
    return words


def _family(members: Sequence[Settings], settings: Settings) -> list[str]:
    """Return widths and training of several models, in their order."""
    words: list[str] = []
    for key, option in (("width", "--widths"), ("eta", "--eta"), ("weight_decay", "--lambda")):
        values = [member.get(key) for member in members]
        if all(isinstance(value, int | float) for value in values):
            texts = [f"{value!r}" for value in values]
            alike = len(set(texts)) == 1
            words += [option, texts[0] if alike else ",".join(texts)]
    tolerance = settings.get("tolerance", 0.1)
    if tolerance != 0.1:
        words += ["--tolerance", repr(tolerance)]
    return words


def _is_proxy(member: object) -> bool:
    """Say whether a model is the one that others are matched to."""
    return isinstance(member, Mapping) and member.get("proxy") is True


def _option(key: str) -> str:
    """Return the option of a setting."""
    return "--" + key.replace("_", "-")
