"""Pictures of heads of attention: what they copy, how their maps decay, who reads whom."""

from canvas import picture
from measure import minilm, smollm2
from palette import BLUE, GREEN, ORANGE, QUIET

import spectra
from spectra.work import Result

SHARP, ORDINARY, SPREAD = (0, 2), (0, 3), (5, 4)  # layer and head of MiniLM


def copying(first: Result, second: Result) -> None:
    """One dot a head, a column a layer, of both models."""
    with picture("copying", columns=2) as axes:
        for place, result, name in (
            (axes[0], first, "all-MiniLM-L6-v2"), (axes[1], second, "SmolLM2-135M"),
        ):  # fmt: skip
            found = [(row.place.layer, row.number("copying")) for row in result.rows]
            place.scatter(*zip(*found, strict=True), s=14, color=BLUE, alpha=0.8, linewidths=0)
            place.axhline(0, color=QUIET, linewidth=0.8)
            place.set(title=name, xlabel="layer", ylim=(-1.06, 1.06))
        axes[0].set(ylabel="copying")


def composition(result: Result) -> None:
    """Every score over chance, the highest first, a line a side."""
    pairs = result.summary["composition"]["strongest"]
    with picture("composition") as (axes,):
        for kind, colour in (("q", BLUE), ("k", ORANGE), ("v", GREEN)):
            over = [pair["over"] for pair in pairs if pair["kind"] == kind]
            axes.plot(range(1, len(over) + 1), over, color=colour, label=f"read by {kind.upper()}")
        axes.axhline(1, color=QUIET, linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel="pairs of heads, the strongest first",
                 ylabel="composition_score / composition_null")  # fmt: skip
        axes.legend()


def tokens() -> None:
    """Copying of tokens against copying of the stream, a dot a head, of both models."""
    with picture("tokens", columns=2) as axes:
        for place, spec, name in (
            (axes[0], minilm(), "all-MiniLM-L6-v2"), (axes[1], smollm2(), "SmolLM2-135M"),
        ):  # fmt: skip
            rows = spectra.heads(spec, tokens=True).rows
            found = [(row.number("copying"), row.number("copying_tokens")) for row in rows]
            place.axline((0, 0), slope=1, color=QUIET, linewidth=0.8)
            place.scatter(*zip(*found, strict=True), s=14, color=BLUE, alpha=0.8, linewidths=0)
            place.set(title=name, xlabel="copying", xlim=(-1.06, 1.06), ylim=(-1.06, 1.06))
        axes[0].set(ylabel="copying_tokens")


def maps(result: Result) -> None:
    """Singular values of QK of three heads, and of their OV."""
    rows = {(row.place.layer, row.values["head"]): row for row in result.rows}
    with picture("heads", columns=2) as axes:
        heads = ((SHARP, ORANGE), (ORDINARY, BLUE), (SPREAD, GREEN))
        for place, name in zip(axes, ("qk", "ov"), strict=True):
            for head, colour in heads:
                sigma = rows[head].arrays[name]
                rank = rows[head].number(f"{name}_effective_rank") or 0.0
                place.plot(
                    range(1, len(sigma) + 1), sigma, color=colour,
                    label=f"layer {head[0]} head {head[1]}: rank {rank:.1f}",
                )  # fmt: skip
            place.set(title=name.upper(), xlabel="rank", yscale="log")
            place.legend(fontsize=8)
        axes[0].set(ylabel="sigma")
