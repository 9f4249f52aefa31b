"""spectra kappa: condition numbers, and what to train next."""

from typing import Annotated

import typer

import spectra
from spectra.words import By, ExportForm, Per, RankBy

from ..command import command
from ..options import OUTPUT, Common, Exact, Model, option

# fmt: off
SelectOption = Annotated[str | None, option("--select SHARE",
    "Select the lowest: a share of the candidates like 10%, or how many.")]
RankByOption = Annotated[RankBy, option("--rank-by KEY",
    "What to rank by: kappa, as published, or kappa_excess, kappa over what random "
    "numbers in the same shape have.", of=RankBy)]
ByOption = Annotated[By, option("--by UNIT",
    "What --select is a share or a number of: matrices, or params.", of=By)]
PerOption = Annotated[Per, option("--per GROUP",
    "Take the share of all candidates (global) or of those of each role (role).", of=Per)]
IncludeEmbeddings = Annotated[bool, option("--include-embeddings",
    "Embeddings and output heads are candidates too.")]
Export = Annotated[ExportForm | None, option("--export FORM",
    "Write the selection as settings of what trains it: peft (-o FILE.json or .py), "
    "axolotl, llamafactory (.yaml), python (.py) or names (.txt); without -o to standard "
    "output.", OUTPUT, of=ExportForm)]
# fmt: on


@command(4, wording={"export": Export})
def kappa(
    model: Model,
    select: SelectOption = None,
    rank_by: RankByOption = "kappa",
    by: ByOption = "matrices",
    per: PerOption = "global",
    include_embeddings: IncludeEmbeddings = False,
    exact: Exact = False,
    *,
    common: Common,
) -> int:
    """Show condition numbers and select by them.

    The lowest are well suited for training: they carry little of what is known
    (KappaTune, arXiv 2506.16289). Embeddings, output heads, routers and
    convolutions are no candidates unless named by --role.

    Example: spectra kappa all-MiniLM-L6-v2/ --select 10% --export peft -o lora.json
    """
    if common.export and select is None:
        raise typer.BadParameter(
            f"{common.export!r} is of a selection, and nothing is selected. Add --select 10%.",
            param_hint="'--export'",
        )
    return common.run(lambda: spectra.kappa.plan(
        common.open(model), select=select, by=by, per=per, rank_by=rank_by,
        include_embeddings=include_embeddings, exact=exact, selection=common.selection,
    ))  # fmt: skip
