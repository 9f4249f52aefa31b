"""spectra spectrum: singular spectra of every matrix."""

from pathlib import Path
from typing import Annotated

import typer

import spectra
from spectra.words import Experts, ExportForm, Preset

from ..command import command
from ..options import OUTPUT, Common, option

# fmt: off
Models = Annotated[list[str], typer.Argument(
    metavar="MODEL",
    help="Folder or file with weights, or a repository of the Hub: org/name[@revision]; "
    "with --trend several checkpoints of one run.")]
Base = Annotated[str | None, option("--base REF",
    "Of an adapter: the model that it was trained on; the spectra are of both together. Without it "
    "those of its own matrices and of their products.")]
Energy = Annotated[float, option("--energy SHARE", "Share of sum sigma^2 that energy_rank keeps.")]
Metrics = Annotated[str | None, option("--metrics LIST",
    "What is told, a list with commas of basic, powerlaw, mp, random, dct, all, or of keys such "
    "as alpha; only that is computed. Without it: norms, ranks, kappa, alpha and spikes.",
    offered=("basic", "powerlaw", "mp", "random", "dct", "all"))]
Seed = Annotated[int, option("--seed N",
    "Of the order of shuffled entries, for random, and of a random basis, for dct.", least=0)]
DctRank = Annotated[int | None, option("--dct-rank N",
    "With --metrics dct: how many columns of a cosine basis stand against as many singular "
    "vectors; by default a quarter of the shorter side.", least=1)]
PresetOption = Annotated[Preset | None, option("--preset TOOL",
    "Tell it as another tool does: weightwatcher (its columns in files of lines, its averages) or "
    "spectrum (its SNR, for --select).", of=Preset)]
Select = Annotated[str | None, option("--select SHARE",
    "With --preset spectrum: of each type of layer those with the highest SNR; a share like 50%, "
    "or how many.")]
Tokens = Annotated[bool, option("--tokens",
    "Also tell the leading directions of what reads from the residual stream or writes to it in "
    "tokens.")]
Export = Annotated[ExportForm | None, option("--export FORM",
    "Write the selection as settings of what trains it: axolotl (unfrozen_parameters, -o "
    "FILE.yaml), peft, llamafactory, python or names; without -o to standard output.", OUTPUT,
    of=ExportForm)]
Factors = Annotated[bool, option("--factors",
    "Also the stored factors of matrices that are products of two, each as a matrix of its own.")]
ExpertsOption = Annotated[Experts, option("--experts WORD",
    "single: a row for each expert; pooled: one for all experts of a layer and role, with the "
    "singular values of all of them.", of=Experts)]
Trend = Annotated[bool, option("--trend",
    "Follow sigma_max, stable rank and kappa over the steps of one run's checkpoints.")]
Values = Annotated[Path | None, option("--values FILE",
    "Also write every singular value: columns matrix, index, sigma; .parquet or .csv.", OUTPUT)]
# fmt: on

ENERGY = 0.99


@command(2, wording={"values": Values, "export": Export})
def spectrum(
    model: Models,
    base: Base = None,
    energy: Energy = ENERGY,
    metrics: Metrics = None,
    seed: Seed = 0,
    dct_rank: DctRank = None,
    preset: PresetOption = None,
    select: Select = None,
    factors: Factors = False,
    experts: ExpertsOption = "single",
    trend: Trend = False,
    tokens: Tokens = False,
    *,
    common: Common,
) -> int:
    """Show singular spectra and their summaries.

    Norms, ranks, condition number, power-law exponent, and how many singular values
    stand above what noise of the same scale would give. With --trend: how they moved over
    the checkpoints of one run, each of which tells its step by its trainer_state.json or name.

    Example: spectra spectrum all-MiniLM-L6-v2/ --plot spectrum.png -o spectrum.json
    """
    if trend and common.values:
        raise typer.BadParameter(
            "--trend measures both ends of a spectrum, not all values. Leave out one of the two.",
            param_hint="'--values'",
        )
    if trend and energy != ENERGY:
        raise typer.BadParameter(
            "--trend follows sigma_max, stable rank and kappa, no energy_rank. Leave out one of "
            "the two.",
            param_hint="'--energy'",
        )
    if common.export and select is None:
        raise typer.BadParameter(
            f"{common.export!r} is of a selection, and nothing is selected. Add --preset spectrum "
            "--select 50%.",
            param_hint="'--export'",
        )
    given = {
        "preset": preset is not None, "tokens": tokens, "metrics": metrics is not None,
        "factors": factors, "experts": experts != "single", "seed": seed != 0,
        "dct-rank": dct_rank is not None, "select": select is not None,
    }  # fmt: skip
    for name in (name for name, there in given.items() if trend and there):
        raise typer.BadParameter(
            "--trend follows sigma_max, stable rank and kappa alone. Leave out one of the two.",
            param_hint=f"'--{name}'",
        )
    if trend and base is not None:
        raise typer.BadParameter(
            "--trend follows models, not adapters. Leave out one of the two.",
            param_hint="'--base'",
        )
    if len(model) > 1 and not trend:
        raise typer.BadParameter(
            f"expected one model, got {len(model)}. Several checkpoints of one run are followed "
            "with --trend; models of several widths by `spectra width`.",
            param_hint="'MODEL'",
        )
    if trend:
        return common.run(
            lambda: spectra.trend.plan(list(map(common.open, model)), selection=common.selection)
        )
    return common.run(
        lambda: spectra.spectrum.plan(
            common.open(model[0]),
            base=None if base is None else common.open(base),
            energy=energy,
            metrics=metrics,
            seed=seed,
            dct_rank=dct_rank,
            preset=preset,
            select=select,
            factors=factors,
            experts=experts,
            tokens=tokens,
            selection=common.selection,
        )
    )
