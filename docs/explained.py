"""Writes what `spectra explain` tells, from the pages on quantities; a test compares them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent / "spectra" / "report" / "explained.json"
PARTS = {"How to read it": "read", "Pitfalls": "misleads", "Where it comes from": "source"}
NAMED = re.compile(r"`([A-Za-z_0-9]+)`")
PAGE = re.compile(r"\(quantities/([\w-]+)\.md\)")


POINTS = re.compile(
    r"(?:^|(?<=[.;]))[^.;]*\[[^\]]*\]\(\.\./(?:quantities|coming-from)\.md[^)]*\)\."
)
DRAWN = re.compile(r"(?:^|(?<=\.))\s*Picture: .*", re.DOTALL)
"""Sentences that lead to another place of the pages, which is not there in a terminal."""


def source(text: str) -> str:
    """Return where a quantity comes from, without what leads on within the pages."""
    kept = DRAWN.sub("", POINTS.sub("", text)).strip()
    return f"{kept[:-1]}." if kept.endswith(";") else kept


def plain(text: str) -> str:
    """Take away the markup of a text."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(?<!\*)\*([A-Za-z][^*]*)\*(?!\*)", r"\1", text)
    text = (
        text.replace("...`.", "...`")
        .replace("**", "")
        .replace("`", "")
        .replace("\\|", "|")
        .replace("\\", "")
    )
    return " ".join(text.split())


def items(text: str) -> list[str]:
    """Return the paragraphs and list items of a section, each one line."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^\|.*\n\|[-| ]*\|\n((?:\|.*\n?)*)", _listed, text, flags=re.MULTILINE)
    pieces = re.split(r"\n\s*\n|\n(?=- )", text.strip())
    return [("- " if one.startswith("- ") else "") + plain(one.removeprefix("- "))
            for one in pieces if one.strip()]  # fmt: skip


def _listed(found: re.Match[str]) -> str:
    """Return the lines of a table as items of a list."""
    lines = (line.strip().strip("|").split(" | ", 1) for line in found[1].splitlines())
    return "".join(f"- {first.strip()}: {rest.strip()}\n" for first, rest in lines)


def page(name: str) -> dict[str, object]:
    """Return what a page says: what it is, formula, how to read it, where it misleads."""
    head, *rest = re.split(r"^## ", (HERE / "quantities" / f"{name}.md").read_text(), flags=re.M)
    formula = re.search(r"```text\n(.*?)```", head, flags=re.DOTALL)
    about = re.sub(r"^# .*\n", "", head.split("```")[0])
    found: dict[str, object] = {
        "what": " ".join(items(about)),
        "formula": formula[1].rstrip().splitlines() if formula else [],
    }
    for section in rest:
        title, _, text = section.partition("\n")
        if title in PARTS:
            found[PARTS[title]] = items(source(text) if PARTS[title] == "source" else text)
    return found


def rows(name: str) -> Iterator[list[str]]:
    """Yield the cells of the lines of tables that begin with keys."""
    for line in (HERE / name).read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) > 1 and NAMED.search(cells[0]):
            yield cells


def keys() -> dict[str, dict[str, object]]:
    """Return the definition of every key, which page is about it, and what is told in short."""
    found: dict[str, dict[str, object]] = {}
    for cells in rows("quantities.md"):
        about = PAGE.search(cells[0])
        for key in NAMED.findall(cells[0]):
            known = found.setdefault(key, {"definition": plain(cells[1])})
            if about and "page" not in known:
                known |= {"page": about[1], "definition": plain(cells[1])}
    for cells in rows("columns.md"):
        (key,) = NAMED.findall(cells[0])
        what, read, misleads = map(plain, cells[1:])
        found.setdefault(key, {}).update(what=what, read=[read], misleads=[misleads])
    return found


def text() -> str:
    """Return the file."""
    pages = {path.stem: page(path.stem) for path in sorted((HERE / "quantities").glob("*.md"))}
    data = {"keys": dict(sorted(keys().items())), "pages": pages}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
