"""Messages are written in the words of the command line; from Python they are told in Python's."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FLAGS = {
    "all", "all-directions", "allow-pickle", "compose", "delta-rank", "download", "exact",
    "factors", "force", "full-spectrum", "include-embeddings", "intruders", "merged",
    "per-head", "tokens",
}  # fmt: skip
CALLED = {"lambda": "weight_decay", "widths": "widths"}
WHOLE = {"dry-run": ".plan()", "trend": "spectra.trend()", "no-cache": "cache=False",
         "no-fold": "fold=False", "no-sorsa": "sorsa=False"}  # fmt: skip
METHODS = {"save-baseline": "save", "output": "save", "plot": "plot", "export": "export"}
"""Options that are methods of a result."""
CHOICES = {"engine": "local|ray", "address": r"auto|(?:ray://)?[\w.-]+:\d+",
           "device": r"auto|cpu|cuda(?::\d+)?(?:,cuda:\d+)*",
           "export": "peft|axolotl|llamafactory|python|names",
           "rank-by": "kappa_excess|kappa", "by": "matrices|params", "per": "global|role",
           "side": "left|right", "include": r"[\w.*?]*[_*][\w.*?]*",
           "dtype": "float32|bfloat16|float16", "chosen": "min|mid|max|random",
           "preset": "weightwatcher|spectrum", "form": "residual|difference|bare",
           "to": "peft|kohya|diffusers|mlx|gguf"}  # fmt: skip
WRITERS = "extract|resize|merge|convert|repair|init|mask"
COMMANDS = (
    f"ls|spectrum|diff|kappa|heads|match|shared|width|check|report|compare|lowrank (?:{WRITERS})"
)
LISTS = {"widths", "eta", "lambda", "ramp"}

VALUE = r"'[^']*'|\"[^\"]*\"|[A-Z]{3,}\b|[\w.:/@*-]*[0-9][\w.,:/@%*+-]*(?<![.,:])%?"
BOTH = re.compile(r"--[a-z][a-z-]*(?: \S+)? \(`([^`]+)`\)")  # already told in both ways
CALL = re.compile(
    rf"`spectra ({COMMANDS})( [^`]*)?`"
    rf"|\bspectra ({COMMANDS})((?: -{{0,2}}[\w./'@:*,=%-]*[\w/'%*])+)"
)
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
REPEATED = re.compile(r"\b(include|exclude|role)='[^']*'(?: \1='[^']*')+")
SHORT = re.compile(r"(?<![\w-])-o ([\w./{}-]*\w)")

_typed: ContextVar[bool] = ContextVar("typed", default=False)


@contextmanager
def typed() -> Iterator[None]:
    """Within this, errors are told in the words of the command line."""
    token = _typed.set(True)
    try:
        yield
    finally:
        _typed.reset(token)


def worded(text: str) -> str:
    """Return a message in the words of who reads it."""
    return text if _typed.get() else in_python(text)


def in_python(text: str) -> str:
    """Return a message with options as arguments, and commands as calls."""
    text = BOTH.sub(r"`\1`", text)
    text = CALL.sub(_call, text)
    text = SHORT.sub(r".save('\1')", text)
    pieces, end = [], 0
    for found in OPTION.finditer(text):
        if found.start() < end:
            continue
        name = found[1]
        after = re.compile(rf"[ =]({CHOICES.get(name, '(?!)')}|{VALUE})(?=[\s.,;:)?!`]|$)")
        value = None if name in FLAGS else after.match(text, found.end())
        pieces += [text[end : found.start()], _argument(name, value[1] if value else None)]
        end = value.end() if value else found.end()
    return REPEATED.sub(_list, "".join([*pieces, text[end:]]))


def _list(found: re.Match[str]) -> str:
    """Return an option that is given several times as Python has it: a list."""
    values = re.findall(rf"{found[1]}=('[^']*')", found[0])
    return f"{found[1]}=[{', '.join(values)}]"


def _argument(name: str, value: str | None) -> str:
    """Return one option as Python has it."""
    if name in METHODS:
        return f".{METHODS[name]}({'' if value is None else _literal(value)})"
    if name in WHOLE:
        return WHOLE[name]
    word = CALLED.get(name, name.replace("-", "_"))
    if name in FLAGS:
        return f"{word}=True"
    if value is not None and name in LISTS and "," in value:
        return f"{word}=[{value.replace(',', ', ')}]"
    return f"{word}={'' if value is None else _literal(value)}"


def _literal(value: str) -> str:
    plain = value.isupper() or value[0] in "'\""
    return value if plain or re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) else repr(value)


def _call(found: re.Match[str]) -> str:
    """Return a command as a call: `spectra diff BASE x --intruders`."""
    name, rest = (found[1] or found[3]).replace(" ", "."), found[2] or found[4] or ""
    place = ""
    try:
        words = shlex.split(rest)
    except ValueError:
        return found[0]
    given: list[str] = []
    method = ""
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            given.append(_literal(word))
            continue
        option = {"-o": "output", "-v": "verbose"}.get(word, word.removeprefix("--"))
        if option == "verbose":
            continue
        if option == "output" and "." in name and words:
            place = _literal(words.pop(0))
            continue
        has = words and option not in {*FLAGS, *WHOLE} and words[0][0] != "-"
        told = _argument(option, words.pop(0) if has else None)
        if told[0] == ".":
            method += told
        else:
            given.append(told)
    if place:  # of what writes an adapter it is no file of a result
        at = sum("=" not in one for one in given)
        given.insert(at, place)
    code = f"spectra.{name}({', '.join(given) or '...'}){method}"
    return f"`{code}`" if found[0][0] == "`" else code
