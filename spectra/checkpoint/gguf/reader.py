"""Numbers, texts and arrays as GGUF's header writes them, none longer than the file."""

import struct
from typing import Any, Final, NoReturn, TypeAlias

from spectra.checkpoint.source import Source
from spectra.errors import CheckpointError
from spectra.text import quote

MAX_HEADER = 100_000_000  # bytes; the largest vocabularies take about 20 million
MAX_KEY = 65_535  # bytes; the format's own limit
MAX_NESTING = 4  # arrays in arrays; no known file has any
KEPT_TEXT = 4_096  # bytes of a text that is kept, of a chat template none is needed
KEPT_NUMBERS = 1_024  # entries of an array that is kept: one per layer, at most
FIRST_CHUNK, LAST_CHUNK = 1 << 18, 1 << 24  # bytes read at once: growing, so requests are few
AGAIN = "Fetch or write that file again."

Value: TypeAlias = int | float | str | tuple[int | float, ...]

SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
"""Kinds of values that are one number, as struct writes them."""
TEXT, ARRAY, U32 = 8, 9, 4


class GgufReader:
    """A place in a file, read ahead in chunks that grow."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.limit = min(source.size, MAX_HEADER)
        self.buffer = b""
        self.at = 0  # in the buffer
        self.base = 0  # of the buffer in the file
        self.chunk = FIRST_CHUNK

    @property
    def position(self) -> int:
        """Bytes from the start of the file."""
        return self.base + self.at

    def refuse(self, reason: str) -> NoReturn:
        """Raise the one-line error for a broken rule."""
        raise CheckpointError(f"{self.source.label} {reason}. {AGAIN}")

    def opening(self) -> bytes:
        """Return the file's first bytes, from which its kind is told."""
        self.buffer = self.source.read(0, min(self.limit, FIRST_CHUNK))
        return self.buffer[:64]

    def must_hold(self, count: int, size: int, what: str, most: int = MAX_HEADER) -> None:
        """Refuse a count that the rest of the file has no room for, or that none has."""
        if count > most:
            self.refuse(f"announces {count:,} {what}, expected at most {most:,}")
        left = self.limit - self.position
        if count * size > left:
            self.refuse(
                f"announces {count:,} {what} of {size} bytes or more, and {left:,} bytes are left "
                "for its header: the download was cut, or the count is wrong"
            )

    def skip(self, count: int) -> None:
        """Go on by so many bytes, reading none of those beyond the buffer."""
        if self.position + count > self.limit:
            self._cut()
        self.at += count

    def count(self, form: str) -> int:
        """Return one integer."""
        return int(self._number(form))

    def text(self, limit: int, what: str) -> str:
        """Return a short text, not empty."""
        length = self.count("<Q")
        if not 0 < length <= limit:
            self.refuse(f"has {what} of {length:,} bytes, expected 1 to {limit:,}")
        raw = self._take(length)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.refuse(f"has {what}, {quote(raw)}, that is not UTF-8 text")

    def key(self) -> str:
        """Return the name of a value."""
        return self.text(MAX_KEY, "a key")

    def texts(self) -> list[bytes]:
        """Return an array of texts, which need not be UTF-8; of anything else none, and skip it."""
        kind, count = self.count("<I"), self.count("<Q")
        if kind != TEXT:
            self._entries(kind, count, 1, keep=False)
            return []
        self.must_hold(count, 8, "texts")
        return [self._take(self.count("<Q")) for _ in range(count)]

    def value(self, kind: int, *, keep: bool) -> Value | None:
        """Return a value; or skip it and return None where it is long or not asked for."""
        found: Value | None = None
        if kind in SCALARS:
            found = self._number(SCALARS[kind])
        elif kind == TEXT:
            length = self.count("<Q")
            if keep and length <= KEPT_TEXT:
                found = self._take(length).decode("utf-8", "replace")
            else:
                self.skip(length)
        elif kind == ARRAY:
            found = self._array(1, keep=keep)
        else:
            self.refuse(f"has a value of kind {kind}, expected 0 to 12")
        return found if keep else None

    def _array(self, depth: int, *, keep: bool) -> Value | None:
        """Return a short array of numbers; skip any other."""
        return self._entries(self.count("<I"), self.count("<Q"), depth, keep=keep)

    def _entries(self, kind: int, count: int, depth: int, *, keep: bool) -> Value | None:
        found: Value | None = None
        if kind in SCALARS:
            form = SCALARS[kind]
            self.must_hold(count, struct.calcsize(form), "array entries")
            if keep and count <= KEPT_NUMBERS:
                found = tuple(self._number(form) for _ in range(count))
            else:
                self.skip(count * struct.calcsize(form))
        elif kind == TEXT:
            self.must_hold(count, 8, "texts")
            self._skip_texts(count)
        elif kind == ARRAY:
            if depth == MAX_NESTING:
                self.refuse(f"has arrays in arrays, over {MAX_NESTING} deep")
            self.must_hold(count, 12, "arrays")
            for _ in range(count):
                self._array(depth + 1, keep=False)
        else:
            self.refuse(f"has an array of kind {kind}, expected 0 to 12")
        return found

    def _skip_texts(self, count: int) -> None:
        """Skip texts, a vocabulary's hundred thousands in one loop over the buffer."""
        length_at = struct.Struct("<Q").unpack_from
        while count:
            buffer, at, end = self.buffer, self.at, len(self.buffer)
            while count and at + 8 <= end:
                after = at + 8 + length_at(buffer, at)[0]
                if after > end:
                    break
                at, count = after, count - 1
            self.at = at
            if count:
                self.skip(self.count("<Q"))
                count -= 1

    def _number(self, form: str) -> Any:  # noqa: ANN401 - int, float or bool, as the form says
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, count: int) -> bytes:
        """Return the next bytes, reading more of the file where they are not at hand."""
        if self.at + count > len(self.buffer):
            start = self.position
            if start + count > self.limit:
                self._cut()
            stop = min(self.limit, start + max(count, self.chunk))
            self.chunk = min(2 * self.chunk, LAST_CHUNK)
            self.buffer, self.base, self.at = self.source.read(start, stop), start, 0
            if len(self.buffer) < count:
                self._cut()
        self.at += count
        return self.buffer[self.at - count : self.at]

    def _cut(self) -> NoReturn:
        if self.limit < self.source.size:
            self.refuse(f"has a header of over {MAX_HEADER:,} bytes, more than any real one")
        self.refuse(
            f"ends at byte {self.source.size:,} inside its own header: the download was cut, or "
            "a length in it is wrong"
        )
