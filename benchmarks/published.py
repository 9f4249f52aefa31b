"""What people run today, each as a script of its own: `python -m benchmarks.published WAY OUT ...`.

Each reads safetensors itself and writes to OUT what it found of every matrix. `--sample` takes
one matrix of each shape and says in `rest` what the others would have taken.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

BERT = "bert."  # before the names of the model within the one that was tuned


@dataclass(slots=True)
class Run:
    """Where and in what precision, and what was found."""

    device: torch.device
    dtype: torch.dtype
    k: int
    sample: bool
    only: frozenset[str]  # names; all where empty
    found: dict[str, object] = field(default_factory=dict)
    seconds: dict[tuple[int, ...], float] = field(default_factory=dict)  # of the first of a shape
    rest: float = 0.0

    def take(self, name: str, shape: tuple[int, ...], measure: Callable[[], object]) -> None:
        """Measure one matrix, or count what it would take."""
        if self.only and name not in self.only:
            return
        if self.sample and shape in self.seconds:
            self.rest += self.seconds[shape]
            return
        start = time.perf_counter()
        self.found[name] = measure()
        self.seconds.setdefault(shape, time.perf_counter() - start)

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
    parser.add_argument("--only", nargs="+", default=[])
    given = parser.parse_args()
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    run = Run(device, dtype, given.k, given.sample, frozenset(given.only))
    WAYS[given.way](run, *given.folders)
    given.out.write_text(json.dumps({"found": run.found, "rest": run.rest}))


def intruders(run: Run, base: Path, tuned: Path) -> None:
    """The script of arXiv:2410.21228: two full SVDs a matrix and the product of their vectors."""
    change = update(tuned)
    with safe_open(base / "model.safetensors", "pt") as before:
        for name in before.keys():  # noqa: SIM118 - no mapping

            def measure(name: str = name) -> object:
                first = run.here(before.get_tensor(name))
                return closest(run, first, change(name, first))

            run.take(name, tuple(before.get_slice(name).get_shape()), measure)


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


def model(run: Run, base: Path, tuned: Path) -> None:
    """The same over a model that transformers and PEFT load."""
    from peft import PeftModel  # noqa: PLC0415 - their cost is part of the script's
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    loaded = AutoModelForSequenceClassification.from_pretrained(base)
    before = {name: values.clone() for name, values in loaded.state_dict().items()}
    after = PeftModel.from_pretrained(loaded, str(tuned)).merge_and_unload().state_dict()
    for name, first in before.items():
        second = after[name]
        if name.startswith(BERT) and first.ndim == 2 and not torch.equal(first, second):
            run.take(
                name.removeprefix(BERT),
                tuple(first.shape),
                lambda pair=(first, second): closest(run, *map(run.here, pair)),
            )


def kappa(run: Run, base: Path) -> None:
    """A loop of full SVDs, as KappaTune's."""
    for name, values in matrices(base):

        def measure(values: Tensor = values) -> object:
            sigma = torch.linalg.svd(run.here(values), full_matrices=False).S
            return float(sigma[0] / sigma[-1])

        run.take(name, tuple(values.shape), measure)


def spectrum(run: Run, base: Path) -> None:
    """A loop of singular values."""
    for name, values in matrices(base):

        def measure(values: Tensor = values) -> object:
            sigma = torch.linalg.svdvals(run.here(values))
            return {"sigma": sigma.tolist()}

        run.take(name, tuple(values.shape), measure)


def matrices(base: Path) -> Iterator[tuple[str, Tensor]]:
    """Every matrix as it is stored."""
    with safe_open(base / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            yield name, file.get_tensor(name)


WAYS: dict[str, Callable[..., None]] = {
    "intruders": intruders,
    "model": model,
    "kappa": kappa,
    "spectrum": spectrum,
}

if __name__ == "__main__":
    main()
