"""From the tracks of a family to small tables: `python -m benchmarks.width.summary OUT [OUT ...]`.

Each OUT is one seed's folder. Writes `results/sigma.csv` (a row a matrix, over the last tau),
`trend.csv` (a row a role and tau), `loss.csv`, `slopes.csv`, `moving.csv` (change over a tau)
and `longer.csv` (the mean over roles of models that ran longer).
"""

import argparse
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

RESULTS = Path(__file__).parent / "results"
LEVEL = 0.95
LONGER = (8.0, 11.0, 16.0, 32.0, 64.0)  # tau
MODEL = ["rule", "width", "seed"]
EXPECTED = {
    ("rule", "sigma_1"): 0.0,
    ("fixed", "sigma_1"): 0.25,
    ("rule", "sigma_1/scale"): 0.75,
    ("fixed", "sigma_1/scale"): 0.75,
}


def tracks(folders: Sequence[Path], kind: str) -> pd.DataFrame:
    """Return every row of `<folder>/<kind>/*.csv` with its model; taus are steps * eta * lambda."""
    parts = []
    for seed, folder in enumerate(folders):
        settings = tomllib.loads((folder / "training.toml").read_text())
        for path in sorted((folder / kind).glob("*.csv")):
            rule, width = path.stem.split("-d")
            eta, decay = settings[path.stem]["eta"], settings[path.stem]["lambda"]
            part = pd.read_csv(path)
            parts.append(
                part.assign(rule=rule, width=int(width), seed=seed, eta=eta, decay=decay).assign(
                    taus=part["step"] * eta * decay
                )
            )
    return pd.concat(parts, ignore_index=True)


def named(track: pd.DataFrame) -> pd.DataFrame:
    """Add layer and role, from Llama's names, and the law's unit sqrt(eta/lambda)."""
    layer = track["matrix"].str.extract(r"layers\.(\d+)\.")[0].astype(int)
    role = track["matrix"].str.extract(r"(\w+)_proj")[0]
    until = track.groupby(MODEL)["taus"].transform("max")
    scale = np.sqrt(track["eta"] / track["decay"])
    return track.assign(layer=layer, role=role, scale=scale, until=until)


def over_a_tau(track: pd.DataFrame, end: float) -> pd.DataFrame:
    """Return each matrix's means over (end - 1, end] tau: a snapshot carries AdamW's noise."""
    part = track[(track["taus"] > end - 1 + 1e-9) & (track["taus"] <= end + 0.01)]
    part = part[part["until"] > end - 0.1]  # a run still under way has no such tau yet
    keys = [*MODEL, "layer", "role"]
    return part.groupby(keys, as_index=False, sort=False).agg(
        eta=("eta", "first"),
        decay=("decay", "first"),
        scale=("scale", "first"),
        rows=("rows", "first"),
        cols=("cols", "first"),
        step=("step", "max"),
        last=("sigma_1", "last"),
        sigma_1=("sigma_1", "mean"),
        frobenius=("frobenius", "mean"),
    )


def slope(widths: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Return the OLS slope of log value on log width, and its t interval (three widths or more)."""
    x, y = np.log(widths), np.log(values)
    fit = stats.linregress(x, y)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 2) * fit.stderr) if len(x) > 2 else math.nan
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def medians(means: pd.DataFrame) -> pd.DataFrame:
    """Return the quantities per model and role: medians over layers."""
    edge = means["frobenius"] * (1 / np.sqrt(means["rows"]) + 1 / np.sqrt(means["cols"]))
    wanted = means.assign(
        **{
            "sigma_1/scale": means["sigma_1"] / means["scale"],
            "frobenius/scale": means["frobenius"] / means["scale"],
            "sigma_1/edge": means["sigma_1"] / edge,  # 1 for independent entries
        }
    )
    columns = ["sigma_1", "sigma_1/scale", "frobenius/scale", "sigma_1/edge"]
    return wanted.groupby([*MODEL, "role"], as_index=False)[columns].median()


def slopes(means: pd.DataFrame) -> pd.DataFrame:
    """Fit every quantity per rule and role; "all" is the mean over roles of the logs.

    Seeds are averaged in the log first: a width is one point, so the interval rests on the number
    of widths, not on that of correlated matrices.
    """
    table = medians(means)
    rows = []
    for quantity in table.columns[len(MODEL) + 1 :]:
        logs = table.assign(log=np.log(table[quantity]))
        by_role = logs.groupby(["rule", "role", "width"])["log"].mean().reset_index()
        together = by_role.groupby(["rule", "width"], as_index=False)["log"].mean()
        both = pd.concat([together.assign(role="all"), by_role])
        for (rule, role), group in both.groupby(["rule", "role"], sort=False):
            found, low, high = slope(group["width"].tolist(), np.exp(group["log"]).tolist())
            expected = EXPECTED.get((str(rule), quantity), math.nan)
            rows.append((rule, role, quantity, len(group), found, low, high, expected))
    names = ["rule", "role", "quantity", "widths", "slope", "low", "high", "law"]
    return pd.DataFrame(rows, columns=names).round(4)


def moving(track: pd.DataFrame, end: float) -> pd.DataFrame:
    """Return, per model, the median over matrices of the relative change over the last tau."""
    keys = [*MODEL, "layer", "role"]
    now, before = (over_a_tau(track, at).set_index(keys)["sigma_1"] for at in (end, end - 1))
    return (now / before - 1).groupby(MODEL).agg(["median", "min", "max"]).reset_index()


def longer(track: pd.DataFrame) -> pd.DataFrame:
    """Return the geometric mean over roles of the models that ran as long, by time in tau."""
    parts = []
    for end in LONGER:
        table = medians(over_a_tau(track[track["until"] > end - 0.02], end))
        logs = table.assign(taus=end, log=np.log(table["sigma_1"]))
        parts.append(logs.groupby([*MODEL, "taus"], as_index=False)["log"].mean())
    whole = pd.concat(parts)
    return whole.assign(sigma_1=np.exp(whole["log"])).drop(columns="log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="seed 0, seed 1, ...")
    parser.add_argument("--taus", type=float, default=8.0, help="the time that is compared")
    parser.add_argument("--widths", type=int, nargs="+")
    parser.add_argument("--print", action="store_true", dest="only", help="write nothing")
    given = parser.parse_args()
    track = named(tracks(given.folders, "sigma"))
    losses = tracks(given.folders, "loss")
    if given.widths:
        track = track[track["width"].isin(given.widths)]
        losses = losses[losses["width"].isin(given.widths)]
    means = over_a_tau(track, given.taus)
    fits = slopes(means)
    print(fits.to_string(index=False), "\n")
    change = moving(track, given.taus)
    print(change.round(4).to_string(index=False), "\n")
    shown = [*MODEL, "step", "taus", "train", "validation"]
    losses = losses[losses["taus"] <= given.taus + 0.01][shown]
    final = losses[losses["taus"] > given.taus - 0.1].groupby(MODEL, as_index=False).last()
    print(final.to_string(index=False))
    if given.only:
        return
    RESULTS.mkdir(exist_ok=True)
    whole = range(1, math.floor(given.taus + 0.01) + 1)
    trend = pd.concat(
        medians(over_a_tau(track, float(end))).assign(taus=end) for end in whole
    ).sort_values([*MODEL, "taus"])
    means = means.drop(columns="scale").rename(columns={"decay": "lambda"})
    for name, table, digits in (
        ("sigma", means, 5),
        ("trend", trend, 5),
        ("slopes", fits, 4),
        ("moving", change, 4),
        ("loss", losses, 3),
        ("longer", longer(track), 4),
    ):
        table.round(digits).to_csv(RESULTS / f"{name}.csv", index=False)


if __name__ == "__main__":
    main()
