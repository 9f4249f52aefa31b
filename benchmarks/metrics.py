"""Spectra and their metrics against WeightWatcher: same machine, one thread a side, medians.

WeightWatcher is no dependency: run this with a Python that has it beside ours,
`OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks metrics`. Its model is loaded before
the clock starts; ours reads the file each time, and its store is left out.
"""

import logging
import math
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from threadpoolctl import threadpool_limits

import spectra
from benchmarks.clock import interleaved, seconds
from benchmarks.models import minilm

RUNS = 3
SIDE = 4096
OUTLIERS = 150
WORK = (
    ("MiniLM: power law, norms, ranks", "basic,powerlaw", {}),
    ("MiniLM: and the noise's edge", "basic,powerlaw,mp", {"mp_fit": True}),
    ("MiniLM: and shuffled entries", "basic,powerlaw,mp,random",
     {"mp_fit": True, "randomize": True}),
)  # fmt: skip


def main() -> None:
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        try:
            import weightwatcher as peer  # noqa: PLC0415 - no dependency
            from transformers import AutoModel  # noqa: PLC0415 - slow to load
        except ImportError as error:
            raise SystemExit(f"{error}. Install weightwatcher beside spectra to compare.") from None
        logging.getLogger("weightwatcher").setLevel(logging.CRITICAL)
        print(f"WeightWatcher {peer.__version__}, torch {torch.__version__}, one thread, medians "
              f"of {RUNS}, A B A B\n")  # fmt: skip
        folder = minilm()
        watcher = peer.WeightWatcher(model=AutoModel.from_pretrained(folder))
        details = watcher.analyze()
        names = [f"{name}.weight" for name in details["longname"]]
        print("| work | WeightWatcher | spectra | times |")
        print("|---|---|---|---|")
        for what, metrics, options in WORK:
            tell(what, lambda metrics=metrics: ours(folder, metrics, names),
                 lambda options=options: watcher.analyze(**options))  # fmt: skip
        large(peer)
        print()
        agreement(folder, details)


def ours(folder: Path, metrics: str, names: list[str] | None = None) -> spectra.Result:
    return spectra.spectrum(folder, metrics=metrics, include=names or (), cache=False, workers=1)


def tell(
    what: str, first: Callable[[], object], second: Callable[[], object], runs: int = RUNS
) -> None:
    mine, theirs = interleaved(first, second, runs)
    print(f"| {what} | {theirs:.2f} s | {mine:.2f} s | {theirs / mine:.1f} |", flush=True)


def large(peer: ModuleType) -> None:
    """A square matrix of a 7B model: decaying directions in noise; all but what is random."""
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(SIDE, SIDE, generator=source)
    left, right = (
        torch.linalg.qr(torch.randn(SIDE, OUTLIERS, generator=source)).Q for _ in range(2)
    )
    sigma = 6.0 * math.sqrt(SIDE) * torch.arange(1.0, OUTLIERS + 1.0) ** -0.4
    layer = torch.nn.Linear(SIDE, SIDE, bias=False)
    with torch.no_grad():
        layer.weight.copy_((noise + (left * sigma) @ right.mT) / SIDE)
    watcher = peer.WeightWatcher(model=torch.nn.Sequential(layer))
    with tempfile.TemporaryDirectory() as folder:
        save_file({"layers.0.mlp.up_proj.weight": layer.weight.detach()},
                  Path(folder) / "model.safetensors")  # fmt: skip
        mine = statistics.median(
            seconds(lambda: ours(Path(folder), "basic,powerlaw,mp")) for _ in range(RUNS)
        )
        theirs = seconds(lambda: watcher.analyze(mp_fit=True, detX=True))
    print(f"| {SIDE} x {SIDE}: all but what is random, once | {theirs:.1f} s | {mine:.1f} s | "
          f"{theirs / mine:.1f} |", flush=True)  # fmt: skip


def agreement(folder: Path, details: pd.DataFrame) -> None:
    """Print how far alpha, D and xmin are from WeightWatcher's, and from the package's."""
    import powerlaw  # noqa: PLC0415 - of development alone

    keys = {"alpha": "alpha", "D": "alpha_ks", "xmin": "alpha_xmin"}
    rows = {row.matrix: row for row in ours(folder, "powerlaw").rows}
    stored = load_file(folder / "model.safetensors")
    worst = {"WeightWatcher": dict.fromkeys(keys, 0.0), "powerlaw": dict.fromkeys(keys, 0.0)}
    for line in details.to_dict("records"):
        row = rows[f"{line['longname']}.weight"]
        sigma = torch.linalg.svdvals(stored[row.matrix].double()).numpy()
        law = powerlaw.Fit(np.square(sigma), verbose=False, parameter_ranges={"alpha": [1, None]})
        others = {"WeightWatcher": line, "powerlaw": {key: getattr(law, key) for key in keys}}
        for name, told in others.items():
            for theirs, mine in keys.items():
                apart = abs((row.number(mine) or 0.0) / told[theirs] - 1.0)
                worst[name][theirs] = max(worst[name][theirs], apart)
    for name, apart in worst.items():
        found = ", ".join(f"{key} {value:.1e}" for key, value in apart.items())
        print(f"{name}: {len(details)} matrices, largest relative difference: {found}")
