"""spectra diff: what fine-tuning changed."""

from typing import Annotated

import typer

import spectra
from spectra.words import Frame, Sides

from ..command import command
from ..options import Common, Exact, option

METHOD = "Method"

# fmt: off
Base = Annotated[str, typer.Argument(
    metavar="BASE", help="The model before: folder, file or org/name[@revision].")]
Tuned = Annotated[list[str], typer.Argument(
    metavar="TUNED",
    help="The model after, or a LoRA adapter; of several, how their changes lie to each other.")]
Intruders = Annotated[bool, option("--intruders", "Look for intruder dimensions.", METHOD)]
K = Annotated[int, option("--k N",
    "Leading singular vectors of the tuned matrix to examine.", METHOD)]
Epsilon = Annotated[float, option("--epsilon COS",
    "An intruder's largest |cos| with any base vector lies below.", METHOD)]
SideOption = Annotated[Sides, option("--side SIDE",
    "left (output-side, as published) or right (input-side) singular vectors, or both at once.",
    METHOD, of=Sides)]
FullSpectrum = Annotated[bool, option("--full-spectrum",
    "Compute all singular values of every change, for its effective and energy rank; slower.",
    METHOD)]
MergedRank = Annotated[int | None, option("--merged-rank R",
    "Of several TUNED: what a cut of the sum of their changes to this rank loses of each.",
    METHOD)]
FrameOption = Annotated[Frame | None, option("--frame FRAME",
    "base: where every change lies in the base's singular frame: on its diagonal, in the block of "
    "the k leading directions, in that of the others; slower.", METHOD, of=Frame)]
DctRank = Annotated[int | None, option("--dct-rank N",
    "Also what N columns of a cosine basis hold of every change, beside N singular vectors; takes "
    "all singular values of every change.", METHOD, least=1)]
PerHead = Annotated[bool, option("--per-head",
    "Take the matrices of attention head by head, and rank the heads.", METHOD)]
Trend = Annotated[bool, option("--trend",
    "Of checkpoints of one run: change, intruders and SORSA's measures from step to step.",
    METHOD)]
NoSorsa = Annotated[bool, option("--no-sorsa",
    "With --trend: do not compare all singular triplets, which takes full decompositions.",
    METHOD)]
Tokens = Annotated[bool, option("--tokens",
    "With --intruders: what each writes or reads in tokens, beside what its best match did.",
    METHOD)]
# fmt: on


@command(3, wording={"exact": Exact})
def diff(
    base: Base,
    tuned: Tuned,
    intruders: Intruders = False,
    k: K = 10,
    epsilon: Epsilon = 0.5,
    side: SideOption = "left",
    full_spectrum: FullSpectrum = False,
    merged_rank: MergedRank = None,
    frame: FrameOption = None,
    dct_rank: DctRank = None,
    per_head: PerHead = False,
    trend: Trend = False,
    no_sorsa: NoSorsa = False,
    tokens: Tokens = False,
    *,
    common: Common,
) -> int:
    """Show what fine-tuning changed.

    Size and rank of the change of every matrix, and intruder dimensions: leading singular
    vectors of the tuned matrix that resemble none of the base's, a sign of forgetting
    (arXiv 2410.21228).

    Of several TUNED, such as the checkpoints of a run or competing adapters, also how alike
    their changes are, where their signs disagree, and what adding them up loses. With --trend:
    how change and intruders went over the checkpoints of one run.

    Example: spectra diff all-MiniLM-L6-v2/ minilm-lora-r8/ --intruders
    """
    return common.run(lambda: spectra.diff.plan(
        common.open(base), [*map(common.open, tuned)], intruders=intruders, k=k, epsilon=epsilon,
        side=side, exact=common.exact, full_spectrum=full_spectrum, merged_rank=merged_rank,
        trend=trend, sorsa=not no_sorsa, frame=frame, dct_rank=dct_rank, per_head=per_head,
        tokens=tokens, selection=common.selection,
    ))  # fmt: skip
