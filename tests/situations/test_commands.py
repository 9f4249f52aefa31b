"""First-user situations at the command line: `commands.toml`, each typed where it says."""

import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from situations.terminal import Desk

SCRIPT = tomllib.loads((Path(__file__).parent / "commands.toml").read_text())["situation"]


@pytest.mark.parametrize("one", SCRIPT, ids=[one["title"] for one in SCRIPT])
def test_a_situation(desk: Desk, one: dict[str, Any]) -> None:
    words = shlex.split(one["type"])
    assert words[0] == "spectra"
    seen = desk.type(words[1:], one.get("columns", 80), one.get("environment", {}))
    # Tables and sentences wrap at words, errors where the terminal ends: they are to be copied.
    shown = "\n".join((" ".join(seen.text.split()), "".join(seen.lines)))
    assert seen.code == one.get("exit", 0), seen.text
    for text in one.get("see", []):
        assert text in shown, seen.text
    for text in one.get("never", []):
        assert text not in shown, seen.text
    for word, colour in one.get("colour", {}).items():
        assert seen.colours.get(word) == colour, seen.colours
    for name in one.get("written", []):
        assert (desk.folder / name).stat().st_size, name
    assert "Traceback" not in seen.text
    if one.get("columns", 80) == 0:
        assert "\x1b" not in seen.text
