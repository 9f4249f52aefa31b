"""What stands out of the last checkpoints: `python -m benchmarks.width.directions OUT`.

Writes `results/directions.csv`: per matrix sigma_1, sigma_2, the edge (the largest singular value
of independent entries of the same variance) and how many singular values lie above it.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.width.summary import RESULTS

COLUMNS = ("rule", "width", "step", "layer", "role", "sigma_1", "sigma_2", "edge", "above")


def last(folder: Path) -> Path:
    """The checkpoint of the largest step."""
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def rows(folder: Path) -> Iterator[tuple[object, ...]]:
    """A row a matrix of the model's last checkpoint."""
    rule, width = folder.name.split("-d")
    place = last(folder)
    for name, values in load_file(place / "model.safetensors").items():
        if "_proj." not in name:
            continue
        parts = name.split(".")
        found = torch.linalg.svdvals(values)
        m, n = values.shape
        edge = float(values.double().square().mean().sqrt()) * (m**0.5 + n**0.5)
        top, second = found[:2].tolist()
        yield (
            *(rule, int(width), int(place.name.split("-")[1])),
            *(int(parts[2]), parts[4].removesuffix("_proj")),
            *(f"{top:.4f}", f"{second:.4f}", f"{edge:.4f}", int((found > edge).sum())),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    folders = (path.parent for path in parser.parse_args().out.glob("*/checkpoint-*"))
    chosen = sorted(set(folders), key=lambda path: (path.name.split("-d")[0], path.name))
    with (RESULTS / "directions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for folder in chosen:
            writer.writerows(rows(folder))


if __name__ == "__main__":
    main()
