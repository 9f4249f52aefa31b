"""The texts of a model's tokens, by their rows: of tokenizer.json, a GGUF file, older lists."""

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.gguf.vocabulary import read_tokens
from spectra.checkpoint.source import Source
from spectra.checkpoint.vocabularies import Form, listed_tokens
from spectra.errors import CheckpointError, UsageError
from spectra.text import printable

NAME = "tokenizer.json"
MOST = 500_000_000  # bytes of one; the largest take about 40 million
MISSING = (
    "--tokens reads tokenizer.json by the package tokenizers, which is not installed: "
    "pip install tokenizers."
)
OTHERS = ("tekken.json", "spiece.model", "sentencepiece.bpe.model", "spm.model", "source.spm")
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The tokens of a model by their rows."""

    source: str  # what they were read from
    count: int  # rows that it may name
    piece: Callable[[int], str | bytes | None]
    form: Form

    def text(self, row: int) -> str | None:
        """Return what a token stands for, None where there is none.

        Bytes that are no UTF-8 text are written in hexadecimal, behind a backslash and an x.
        """
        found = self.piece(row) if row < self.count else None
        if found is None:
            return None
        raw = found.decode("utf-8", "backslashreplace") if isinstance(found, bytes) else found
        if self.form == "bytes":
            return _of_bytes(raw)
        if self.form == "spaces":
            byte = BYTE.fullmatch(raw)
            if byte:
                return bytes([int(byte[1], 16)]).decode("utf-8", "backslashreplace")
            return raw.replace("▁", " ")
        return raw


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer | None:
    """Return what names a model's tokens; None: nothing beside its weights does.

    Raises:
        UsageError: The package tokenizers is not installed.
        CheckpointError: What names them cannot be read.
    """
    shards = sorted(checkpoint.files)
    if shards and all(one.endswith(".gguf") for one in shards):
        kind, tokens = read_tokens(checkpoint.files[shards[0]])
        if tokens:
            form: Form = (
                "bytes" if kind == "gpt2" else
                "spaces" if kind in {"llama", "bert", "t5", "gemma4"} else "plain"
            )  # fmt: skip
            return Tokenizer("its own header", len(tokens), tokens.__getitem__, form)
    folder = checkpoint.folder
    if folder is None:
        return None
    if folder.has(NAME):
        return _read(folder.file(NAME))
    listed = listed_tokens(folder, checkpoint.config.get("model_type"))
    if listed is None:
        return None
    count = max(listed.tokens, default=-1) + 1
    return Tokenizer(listed.source, count, listed.tokens.get, listed.form)


def others_of(checkpoint: Checkpoint) -> list[str]:
    """Return files beside the weights that name tokens in a form that is not read."""
    return [one for one in OTHERS if checkpoint.folder is not None and checkpoint.folder.has(one)]


def _read(source: Source) -> Tokenizer:
    if importlib.util.find_spec("tokenizers") is None:
        raise UsageError(MISSING)
    import tokenizers  # noqa: PLC0415 - an extra

    if source.size > MOST:
        raise CheckpointError(
            f"{source.label} has {source.size:,} bytes, and at most {MOST:,} are read: not a real "
            "one. Fetch that file again."
        )
    try:
        made = tokenizers.Tokenizer.from_str(source.read(0, source.size).decode("utf-8"))
    except Exception as error:  # noqa: BLE001 - whatever that package raises
        raise CheckpointError(
            f"{source.label} is no tokenizer that the package tokenizers "
            f"{tokenizers.__version__} reads: {printable(str(error)[:200])}. Fetch it again, or "
            "update that package."
        ) from None
    rows = made.get_vocab(with_added_tokens=True).values()
    return Tokenizer(NAME, max(rows, default=-1) + 1, made.id_to_token, _form(made))


def _form(made: Any) -> Form:  # noqa: ANN401 - a package that may be absent
    """Return how pieces are written, as its own parts for decoding tell."""
    told = [_told(part) for part in (made.decoder, made.pre_tokenizer, made.normalizer)]
    if any('"ByteLevel"' in one for one in told):
        return "bytes"
    return "spaces" if any("▁" in one for one in told) else "plain"


def _told(part: Any) -> str:  # noqa: ANN401 - likewise
    """Return a part's settings as JSON text."""
    if part is None:
        return ""
    found = part.__getstate__()
    return json.dumps(json.loads(found), ensure_ascii=False)


@cache
def _letters() -> dict[str, int]:
    """Return the letter of each byte in byte-level BPE: itself where it can be seen.

    Source:
        Radford et al. 2019, `bytes_to_unicode` of GPT-2's encoder.
    """
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [one for one in range(256) if one not in seen]
    return {chr(one): one for one in seen} | {chr(256 + at): one for at, one in enumerate(hidden)}


def _of_bytes(piece: str) -> str:
    letters = _letters()
    if any(letter not in letters for letter in piece):
        return piece  # an added token, which is its own text
    return bytes(letters[letter] for letter in piece).decode("utf-8", "backslashreplace")


def seen(text: str) -> str:
    """Return a token's text as tables show it: spaces as `␣`, nothing that moves the cursor."""
    return printable(text).replace(" ", "␣") or "''"
