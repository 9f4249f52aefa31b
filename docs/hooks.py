"""What the site adds to the pages: the version, dark pictures, pages that stand outside docs/."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "pictures"))

from palette import dark  # noqa: E402 - stands beside the pictures

PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<place>[\w./-]*pictures/[\w-]+)\.svg\)")
COMMANDS = "commands/*.md"
OUTSIDE = {  # by their place as pages name it
    "../CONTRIBUTING.md": ("contributing.md", HERE.parent / "CONTRIBUTING.md"),
    "../CHANGELOG.md": ("changelog.md", HERE.parent / "CHANGELOG.md"),
    "../benchmarks/width/results/width.png": (
        "pictures/results/width.png",
        HERE.parent / "benchmarks" / "width" / "results" / "width.png",
    ),
    "../benchmarks/evidence/results/evidence.png": (
        "pictures/results/evidence.png",
        HERE.parent / "benchmarks" / "evidence" / "results" / "evidence.png",
    ),
}


def on_config(config: Any) -> Any:  # noqa: ANN401 - mkdocs' own
    """Say on every page which version it is of; put the commands' pages into the navigation.

    They stand in the order of the table of all of them.
    """
    (version,) = re.findall(r"^## (.+)$", OUTSIDE["../CHANGELOG.md"][1].read_text(), re.M)[:1]
    config["site_name"] = f"spectra {version.partition(',')[0]}"
    config["copyright"] = f"Of spectra {version}. Apache-2.0. No telemetry, here or in spectra."
    table = re.findall(r"\(commands/([\w-]+)\.md\)", (HERE / "cli.md").read_text())
    names = dict.fromkeys([*table, *sorted(page.stem for page in HERE.glob("commands/*.md"))])
    pages = [{name: f"commands/{name}.md"} for name in names]
    for section in config["nav"]:
        for title, entries in section.items():
            if COMMANDS in entries:
                at = entries.index(COMMANDS)
                section[title] = [*entries[:at], *pages, *entries[at + 1 :]]
    return config


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401 - mkdocs' own
    """Add what stands outside, and a dark twin of every picture."""
    for name, path in OUTSIDE.values():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in sorted((HERE / "pictures").glob("*.svg")):
        twin = f"pictures/{path.stem}-dark.svg"
        files.append(File.generated(config, twin, content=dark(path.read_text())))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401 - mkdocs' own
    """Point at what was added; the reader's scheme chooses between twins."""
    if page.file.src_uri == "contributing.md":
        return markdown.replace("(docs/", "(").replace("(README.md", "(index.md")
    for outside, (name, _path) in OUTSIDE.items():
        markdown = markdown.replace(f"({outside}", f"({name}")
    return PICTURE.sub(
        r"![\g<text>](\g<place>.svg#only-light)![\g<text>](\g<place>-dark.svg#only-dark)", markdown
    )
