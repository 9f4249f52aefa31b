"""Every text and mark stands out from what it stands on, in both themes."""

import re
from pathlib import Path

import pytest

from spectra.report import html
from spectra.report.colours import RAMPS, SIGNED

ASSETS = Path(str(html.__file__)).parent / "assets"
THEME = (ASSETS / "theme.css").read_text()
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\)", THEME
    )
}
TEXT = [
    ("ink", "page"), ("ink", "card"), ("ink", "raised"), ("ink", "soft"), ("quiet", "page"),
    ("quiet", "card"), ("quiet", "raised"), ("accent", "card"), ("accent", "page"),
    ("accent", "raised"), ("accent", "soft"), ("bad", "card"), ("bad", "bad-soft"),
    ("warn", "warn-soft"), ("good", "good-soft"), ("page", "ink"),
]  # fmt: skip
MARKS = [
    ("control", "card"), ("control", "page"), ("focus", "card"), ("focus", "page"),
    ("focus", "raised"), ("s1", "card"), ("s2", "card"), ("s3", "card"), ("s4", "card"),
    ("s5", "card"), ("s6", "card"), ("accent", "card"), ("bad", "card"),
]  # fmt: skip


def luminance(colour: tuple[int, ...]) -> float:
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def colour(name: str, theme: int) -> tuple[int, ...]:
    return tuple(bytes.fromhex(COLOURS[name][theme]))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT, ids=lambda name: name)
def test_text_has_a_contrast_of_four_and_a_half(text: str, ground: str, theme: int) -> None:
    assert contrast(colour(text, theme), colour(ground, theme)) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("mark", "ground"), MARKS, ids=lambda name: name)
def test_marks_have_a_contrast_of_three(mark: str, ground: str, theme: int) -> None:
    assert contrast(colour(mark, theme), colour(ground, theme)) >= 3.0


def test_every_colour_of_the_theme_is_used_and_has_two_values() -> None:
    named = set(re.findall(r"--([\w-]+):", THEME)) - {"body", "mono"}
    assert named == set(COLOURS)
    used = set(re.findall(r"var\(--([\w-]+)\)", "".join(
        (ASSETS / f"{name}.css").read_text() for name in ("page", "parts")
    )))  # fmt: skip
    assert used - {"body", "mono"} == named


@pytest.mark.parametrize("ramp", [*RAMPS.values(), SIGNED], ids=[*RAMPS, "signed"])
def test_numbers_on_the_scale_stand_out(ramp: tuple[str, ...]) -> None:
    script = (ASSETS / "core.js").read_text()
    found = re.search(r'> ([\d.]+) \? "black" : "white"', script)
    assert found
    limit = float(found[1])
    black, white = (0, 0, 0), (255, 255, 255)
    assert "text.black { fill: #000000; }" in (ASSETS / "parts.css").read_text()
    assert "text.white { fill: #ffffff; }" in (ASSETS / "parts.css").read_text()
    places = [tuple(bytes.fromhex(stop[1:])) for stop in ramp]
    for i in range(len(places) - 1):
        for share in range(21):
            mixed = tuple(
                round(low + share / 20 * (high - low))
                for low, high in zip(places[i], places[i + 1], strict=True)
            )
            ink = black if luminance(mixed) > limit else white
            assert contrast(ink, mixed) >= 4.5, mixed
