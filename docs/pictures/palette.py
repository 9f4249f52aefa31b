"""The colours of the pictures, and those of their dark twins, which the site makes itself."""

INK, QUIET, GRID, PAPER = "#1a1a1a", "#5f6670", "#e3e6ea", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE = "#1f6fb2", "#c8500a", "#1b7f5c", "#8a4fbf"
DARK = {
    INK: "#e6e8ec", QUIET: "#a2a9b4", GRID: "#363b47", PAPER: "#1e2129",
    BLUE: "#6bb3f0", ORANGE: "#ff9a5c", GREEN: "#5fc9a2", PURPLE: "#c9a0f5",
}  # fmt: skip


def dark(picture: str) -> str:
    """Return an SVG in the colours of the dark scheme."""
    for light, twin in DARK.items():
        picture = picture.replace(light, twin)
    return picture
