"""The notebooks of examples/: run in a kernel of their own, beside the models of `make demo`.

`python tests/notebooks.py` runs them and writes what came out into them.
"""

import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

from blocks import ROOT, prepare

FOLDER = ROOT / "examples"


def read(path: Path) -> nbformat.NotebookNode:
    """Return a notebook."""
    return nbformat.read(path, as_version=4)


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs that come in a folder; a cell that fails is raised."""
    found = read(path)
    kernel = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(found, timeout=240, kernel_name="python3", resources=kernel).execute()
    for cell in found.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if "outputs" in cell:
            # Warnings of libraries that happen to be there are not what the notebook shows, nor is
            # the place of a bar that is gone.
            cell.outputs = [
                one
                for one in cell.outputs
                if one.get("name") != "stderr" and one.get("data", {}).get("text/html") != ""
            ]
            _join(cell.outputs)
    found.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return found


def _join(outputs: list[nbformat.NotebookNode]) -> None:
    """Make one of what was printed at one go: when a kernel sends it is chance."""
    for i in reversed(range(1, len(outputs))):
        before, after = outputs[i - 1], outputs[i]
        if before.output_type == after.output_type == "stream" and before.name == after.name:
            before.text += outputs.pop(i).text


def shown(cell: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Return what stands under a cell: kinds, and the text of what is text."""
    found = []
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            found.append((output.name, output.text))
        for kind, data in sorted(output.get("data", {}).items()):
            found.append((kind, data if kind == "text/plain" else ""))
    return found


def main() -> None:
    """Write what came out into every notebook."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "demo").mkdir()
            (Path(place) / "examples").mkdir()
            prepare(Path(place) / "demo")
            fresh = run(path, Path(place) / "examples")
        nbformat.write(fresh, path)
        sys.stdout.write(f"{path}: {len(fresh.cells)} cells ran\n")


if __name__ == "__main__":
    main()
