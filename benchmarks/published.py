"""What people run today, each as a script of its own: `python -m benchmarks.published WAY OUT ...`.

Each reads safetensors itself and writes to OUT what it found of every matrix. `--sample` takes
one matrix of each shape, and `rest` is what the others of those shapes would have taken.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

BERT = "bert."  # before the names of the model within the one that was tuned


class Job(NamedTuple):
    """One matrix."""

    name: str
    shape: tuple[int, ...]
    measure: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Run:
    """Where, in what precision, and how many vectors."""

    device: torch.device
    dtype: torch.dtype
    k: int

    def here(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype)


def main() -> None:
    """Run one way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--only", nargs="+")
    given = parser.parse_args()
    run = Run(torch.device(given.device), getattr(torch, given.dtype), given.k)
    jobs = [
        job
        for job in WAYS[given.way](run, *given.folders)
        if given.only is None or job.name in given.only
    ]
    counts = Counter(job.shape for job in jobs)
    found: dict[str, object] = {}
    rest = 0.0
    for job in jobs:
        if given.sample and not counts[job.shape]:
            continue
        start = time.perf_counter()
        found[job.name] = job.measure()
        if given.sample:
            rest += (counts.pop(job.shape) - 1) * (time.perf_counter() - start)
        given.out.write_text(json.dumps({"found": found, "rest": rest}))


def intruders(run: Run, base: Path, tuned: Path) -> Iterator[Job]:
    """The script of arXiv:2410.21228: two full SVDs a matrix and the product of their vectors."""
    change = update(tuned)
    for name, shape, read in matrices(base):

        def measure(name: str = name, read: Callable[[], Tensor] = read) -> object:
            first = run.here(read())
            return closest(run, first, change(name, first))

        yield Job(name, shape, measure)


def update(tuned: Path) -> Callable[[str, Tensor], Tensor]:
    """Return what makes the tuned matrix of a base matrix: a stored one, or a LoRA merged."""
    config = tuned / "adapter_config.json"
    if not config.exists():
        after = safe_open(tuned / "model.safetensors", "pt")
        return lambda name, first: after.get_tensor(name).to(first)
    settings = json.loads(config.read_text())
    scale = settings["lora_alpha"] / settings["r"]
    factors = safe_open(tuned / "adapter_model.safetensors", "pt")

    def merged(name: str, first: Tensor) -> Tensor:
        module = f"base_model.model.{name.removesuffix('.weight')}"
        up, down = (factors.get_tensor(f"{module}.lora_{half}.weight") for half in "BA")
        return first + scale * (up.to(first) @ down.to(first))

    return merged


def closest(run: Run, first: Tensor, second: Tensor) -> object:
    """Return the largest |cos| of each leading tuned vector with any of the base's."""
    before = torch.linalg.svd(first, full_matrices=False).U
    after, sigma, _ = torch.linalg.svd(second, full_matrices=False)
    cosine = (before.mT @ after).abs()[:, : run.k].amax(dim=0)
    return {"max_cos": cosine.tolist(), "sigma": sigma[: run.k + 1].tolist()}


def model(run: Run, base: Path, tuned: Path) -> Iterator[Job]:
    """The same over a model that transformers and PEFT load."""
    from peft import PeftModel  # noqa: PLC0415 - their cost is part of the script's
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    loaded = AutoModelForSequenceClassification.from_pretrained(base)
    before = {name: values.clone() for name, values in loaded.state_dict().items()}
    after = PeftModel.from_pretrained(loaded, str(tuned)).merge_and_unload().state_dict()
    for name, first in before.items():
        pair = first, after[name]
        if name.startswith(BERT) and first.ndim == 2 and not torch.equal(*pair):
            yield Job(
                name.removeprefix(BERT),
                tuple(first.shape),
                lambda pair=pair: closest(run, *map(run.here, pair)),
            )


def kappa(run: Run, base: Path) -> Iterator[Job]:
    """A loop of full SVDs, as KappaTune's."""
    for name, shape, read in matrices(base):

        def measure(read: Callable[[], Tensor] = read) -> object:
            sigma = torch.linalg.svd(run.here(read()), full_matrices=False).S
            return float(sigma[0] / sigma[-1])

        yield Job(name, shape, measure)


def spectrum(run: Run, base: Path) -> Iterator[Job]:
    """A loop of singular values."""
    for name, shape, read in matrices(base):

        def measure(read: Callable[[], Tensor] = read) -> object:
            return {"sigma": torch.linalg.svdvals(run.here(read())).tolist()}

        yield Job(name, shape, measure)


def matrices(base: Path) -> Iterator[tuple[str, tuple[int, ...], Callable[[], Tensor]]]:
    """Every matrix of a file, squares first, and what reads it as it is stored."""
    file = safe_open(base / "model.safetensors", "pt")
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name, shape in sorted(shapes.items(), key=lambda item: max(item[1])):
        yield name, shape, lambda name=name: file.get_tensor(name)


WAYS: dict[str, Callable[..., Iterator[Job]]] = {
    "intruders": intruders,
    "model": model,
    "kappa": kappa,
    "spectrum": spectrum,
}

if __name__ == "__main__":
    main()
