"""How pictures write names and numbers: what a file says is drawn as plain text that fits."""

from collections.abc import Iterator
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import TextToPath

from spectra.numbers import number

FONT = "DejaVu Sans"  # comes with matplotlib, so pictures are the same everywhere
HINTED = 1.025  # letters on whole pixels take more room than their outlines
LONGEST = 400  # characters of a name that are looked at; the middle of the rest is cut

ROLE = 1.0  # inches that a role may take

_paths = TextToPath()


@cache
def _glyphs() -> frozenset[int]:
    """Return the code points that the font can draw."""
    return frozenset(get_font(findfont(FONT)).get_charmap())


def plain_text(text: str, longest: int = LONGEST) -> str:
    """Return text on one line; what is no printable character of the font, escaped.

    Names come from files: a line break would tear the picture apart, and a character
    without a glyph would be drawn as an empty box.
    """
    if len(text) > longest:
        text = text[: longest // 2] + "…" + text[-longest // 2 :]
    known = _glyphs()
    return "".join(
        letter
        if letter.isprintable() and ord(letter) in known
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def width_of(text: str, points: float, weight: str = "normal") -> float:
    """Return how wide a line of text is drawn, in inches."""
    properties = FontProperties(family=FONT, size=points, weight=weight)
    width, _, _ = _paths.get_text_width_height_descent(text, properties, ismath=False)
    return float(width) / 72.0 * HINTED


def shortened(text: str, points: float, inches: float, weight: str = "normal") -> str:
    """Return plain text that is at most so wide, its middle cut where it is longer."""
    text = plain_text(text)
    if width_of(text, points, weight) <= inches:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        kept = (fits + too_long) // 2
        if width_of(_ends(text, kept), points, weight) <= inches:
            fits = kept
        else:
            too_long = kept
    return _ends(text, fits)


def wrapped(text: str, points: float, inches: float, lines: int) -> list[str]:
    """Return plain text as lines that are at most so wide; the last ends in … if cut."""
    found = list(_lines(plain_text(text, lines * LONGEST), points, inches))
    if len(found) <= lines:
        return found
    last = found[lines - 1]
    while last and width_of(last + " …", points) > inches:
        last = last.rpartition(" ")[0] or last[:-1]
    return [*found[: lines - 1], last + " …"]


def matrix_label(name: str, points: float, inches: float) -> str:
    """Return a matrix's name for a tick; the `.weight` that all of them share is left out."""
    return shortened(name.replace(".weight[", "[").removesuffix(".weight"), points, inches)


def role_label(role: str) -> str:
    """Return a role as it is drawn; a file may name any."""
    return shortened(role, 8.0, ROLE)


def tick(value: float, _position: int | None = None) -> str:
    """Write a tick of a logarithmic axis: no mathtext, as names are drawn without it."""
    return number(value)


def _ends(text: str, kept: int) -> str:
    """Return this many characters of a text's two ends."""
    tail = (kept + 1) // 2
    return text[: kept - tail] + "…" + text[len(text) - tail :]


def _lines(text: str, points: float, inches: float) -> Iterator[str]:
    """Fill lines word by word; a word wider than a line is broken."""
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if width_of(joined, points) <= inches:
            line = joined
            continue
        if line:
            yield line
        while width_of(word, points) > inches:
            fits = next(
                end for end in range(len(word) - 1, 0, -1) if width_of(word[:end], points) <= inches
            )
            yield word[:fits]
            word = word[fits:]  # noqa: PLW2901 - the rest of it
        line = word
    if line:
        yield line
