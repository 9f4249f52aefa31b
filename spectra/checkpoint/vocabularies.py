"""The tokens of a model as older files list them: vocab.json, vocab.txt and tokenizer.model."""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from spectra.checkpoint.documents import MAX_INDEX, read_object
from spectra.checkpoint.source import Folder, Source
from spectra.errors import CheckpointError
from spectra.text import quote

Form: TypeAlias = Literal["bytes", "spaces", "plain"]
"""Pieces are bytes, each written as one letter; have ▁ for a space; or are texts."""

ADDED: Final = "added_tokens.json"
SPACE, BYTES = "▁", "Ġ"  # a space in pieces of sentencepiece, and of byte-level BPE
VARINT, LONG, TEXT, SHORT = 0, 1, 2, 5  # wire types of Protocol Buffers
PIECE: Final = 1  # the field of a piece in a model, and of its text in a piece


@dataclass(frozen=True, slots=True)
class Listed:
    """Tokens by their rows, and how they are written."""

    tokens: Mapping[int, str | bytes]
    form: Form
    source: str = ""  # the file that lists them


def listed_tokens(folder: Folder, kind: object) -> Listed | None:
    """Return the tokens that a file beside the weights lists.

    Args:
        folder: Where the weights lie.
        kind: The model_type of config.json; some shift what sentencepiece counts.

    Returns:
        None: there is no such file.

    Raises:
        CheckpointError: It is no such list.
    """
    names = [one for one in READ if folder.has(one)]
    if not names or (names[0] in SENTENCEPIECE and str(kind).startswith(SHIFTED)):
        return None
    source = folder.file(names[0])
    if source.size > MAX_INDEX:
        raise CheckpointError(
            f"{source.label} has {source.size:,} bytes, and at most {MAX_INDEX:,} are read: not a "
            "real one. Fetch that file again."
        )
    found = READ[names[0]](source)
    added = _by_row(folder.file(ADDED)).tokens if folder.has(ADDED) else {}
    return Listed({**added, **found.tokens}, found.form, names[0])


def _by_row(source: Source) -> Listed:
    """Return the tokens of a JSON object of rows by tokens."""
    rows: Mapping[str, object] = read_object(source, MAX_INDEX)
    wrong = next((one for one in rows.items() if type(one[1]) is not int or one[1] < 0), None)
    if wrong is not None:
        raise CheckpointError(
            f"{source.label} gives the token {quote(wrong[0])} the row {quote(wrong[1])}, expected "
            "a number from 0 on. Fetch that file again, or save tokenizer.json beside it."
        )
    spaces, letters = (any(one.startswith(sign) for one in rows) for sign in (SPACE, BYTES))
    form: Form = "spaces" if spaces else "bytes" if letters else "plain"
    return Listed({row: token for token, row in rows.items() if isinstance(row, int)}, form)


def _by_line(source: Source) -> Listed:
    """Return the tokens of a text of one a line."""
    raw = source.read(0, source.size)
    try:
        lines = raw.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{source.label} is no UTF-8 text at byte {error.start:,}, expected one token a line. "
            "Fetch that file again, or save tokenizer.json beside it."
        ) from None
    if lines == [""]:
        raise CheckpointError(
            f"{source.label} is empty, expected one token a line. Fetch that file again, or save "
            "tokenizer.json beside it."
        )
    return Listed(dict(enumerate(line.removesuffix("\r") for line in lines)), "plain")


def _by_piece(source: Source) -> Listed:
    """Return the pieces of a model of sentencepiece, or of one of tiktoken under its name.

    The one is a message of Protocol Buffers, the other has a line of base64 and a row each.

    Source:
        sentencepiece_model.proto: ModelProto.pieces and SentencePiece.piece are field 1 of each;
        tiktoken's `load_tiktoken_bpe`.
    """
    raw = source.read(0, source.size)
    try:
        found = [
            bytes(value).decode("utf-8")
            for field, piece in _fields(memoryview(raw)) if field == PIECE
            for inner, value in _fields(piece) if inner == PIECE
        ]  # fmt: skip
    except (IndexError, ValueError):
        found = []
    if found:
        return Listed(dict(enumerate(found)), "spaces")
    try:
        ranks = [line.split() for line in raw.splitlines() if line]
        told = {int(row): base64.b64decode(token, validate=True) for token, row in ranks}
    except ValueError:
        told = {}
    if not told:
        raise CheckpointError(
            f"{source.label} is no model of sentencepiece, nor one of tiktoken. Fetch that file "
            "again, or save tokenizer.json beside it, as transformers' save_pretrained does."
        )
    return Listed(told, "plain")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of each field that has a length; others are passed over."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError(shift)

    while at < len(message):
        field, wire = divmod(number(), 8)
        if wire == VARINT:
            number()
            continue
        if wire not in (LONG, TEXT, SHORT):
            raise ValueError(wire)
        size = number() if wire == TEXT else {LONG: 8, SHORT: 4}[wire]
        if size > len(message) - at:
            raise ValueError(size)
        if wire == TEXT:
            yield field, message[at : at + size]
        at += size


SENTENCEPIECE: Final = ("tokenizer.model", "spiece.model")
SHIFTED: Final = ("pegasus",)  # rows of these are further on than pieces
READ: Final[Mapping[str, Callable[[Source], Listed]]] = {
    "vocab.json": _by_row, "vocab.txt": _by_line, **dict.fromkeys(SENTENCEPIECE, _by_piece),
}  # fmt: skip
"""Files that list tokens, in the order in which they are looked for."""
