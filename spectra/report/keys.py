"""What every key of a row is called, what it holds, how it is written, and what it means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from spectra.numbers import hundredths, number, percent, signed
from spectra.report.shape import COUNT, FLAG, INDEX, NUMBER, TEXT, Items, Object, Shape, Words
from spectra.words import GROUPS, ROLES, SEVERITIES, VECTOR, Status

Kind: TypeAlias = Literal[
    "name", "word", "text", "whole", "number", "percent", "flag", "shape", "singular", "severity",
    "slope", "cosine",
    "list",
]  # fmt: skip

SHAPES: Mapping[Kind, Shape] = {
    "name": TEXT, "word": TEXT, "text": TEXT, "whole": COUNT, "number": NUMBER, "percent": NUMBER,
    "flag": FLAG, "shape": TEXT, "singular": NUMBER, "severity": Words(SEVERITIES),
    "slope": NUMBER, "cosine": NUMBER,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """One quantity as a column."""

    title: str
    kind: Kind
    meaning: str = ""
    own: Shape | None = None  # where its kind does not tell it
    published: bool = False  # by the schema: what it may hold is not plain from its kind

    def write(self, value: float) -> str:
        """Return the spelling of one of its numbers."""
        known: Mapping[str, Callable[[float], str]] = {"percent": percent, "slope": signed,
                                                       "cosine": hundredths}  # fmt: skip
        return known.get(self.kind, number)(value)

    @property
    def shape(self) -> Shape:
        """What its values are."""
        return self.own or SHAPES[self.kind]


ROLE = Words((*ROLES, *GROUPS, VECTOR), open=True)
STATUS = Words(get_args(Status))
VERDICT = Object({
    "index": COUNT, "sigma": NUMBER.sometimes, "max_cos": NUMBER.nullable,
    "max_cos_error": NUMBER.sometimes, "best_match": COUNT.sometimes,
    "energy": NUMBER.nullable, "intruder": FLAG, "decided_by": TEXT.sometimes,
})  # fmt: skip
"""On one vector, whether it is an intruder."""

KEYS: Mapping[str, Key] = {
    "matrix": Key("matrix", "name", "its unique name"),
    "model": Key("model", "word", "which of several"),
    "width": Key("width", "whole", "d, the inputs of what reads the residual stream"),
    "step": Key("step", "whole", "of training"),
    "role": Key("role", "word", "what the matrix does in its network", ROLE),
    "layer": Key("layer", "whole", "counted from 0", INDEX.nullable),
    "expert": Key("expert", "whole", "counted from 0", INDEX.nullable),
    "rows": Key("rows", "whole", "outputs"),
    "cols": Key("columns", "whole", "inputs"),
    "shape": Key("shape", "shape", "outputs × inputs"),
    "parameters": Key("parameters", "whole", "outputs times inputs"),
    "dtype": Key("dtype", "word", "as stored"),
    "codec": Key(
        "codec", "word", "the scheme by which quantised values were decoded", TEXT.nullable
    ),
    "status": Key(
        "status", "word",
        "singular: σ min is 0; outside: above the cut; non-finite; failed: not measured", STATUS
    ),
    "error": Key("error", "text", "why the matrix has no numbers", own=TEXT.nullable),
    "sigma_max": Key("σ max", "number", "largest singular value"),
    "sigma_min": Key("σ min", "number", "smallest singular value"),
    "sigma_max_low": Key("σ max, low", "number", "σ max is proven to lie above"),
    "sigma_max_high": Key("σ max, high", "number", "σ max is proven to lie below"),
    "frobenius": Key("Frobenius norm", "number", "√Σσ²"),
    "kappa": Key("κ", "singular", "condition number, σ max / σ min"),
    "kappa_low": Key("κ, low", "number", "κ is proven to lie above"),
    "kappa_high": Key("κ, high", "number", "κ is proven to lie below"),
    "kappa_null": Key("κ of noise", "number", "about what a Gaussian matrix of this shape has"),
    "kappa_excess": Key("κ excess", "number", "κ over what noise of this shape has"),
    "kappa_resolved": Key("κ resolved", "flag", "no: κ measures the rounding of the stored dtype"),
    "selected": Key("selected", "flag", "chosen by --select"),
    "decided_by": Key("decided by", "word", "bound: proven by bounds; exact: all singular values"),
    "stable_rank": Key("stable rank", "number", "Σσ² / σ max²"),
    "effective_rank": Key("effective rank", "number", "exp of the entropy of σ / Σσ"),
    "energy_rank": Key("energy rank", "whole", "how many σ² hold the asked share of their sum"),
    "numerical_rank": Key("numerical rank", "whole", "how many σ exceed LAPACK's threshold"),
    "resolved_rank": Key("resolved rank", "whole", "how many σ storing cannot have made"),
    "alpha": Key("α", "number", "exponent of the power law fitted to the tail of λ = σ²"),
    "alpha_xmin": Key("α from λ", "number", "where that tail begins"),
    "alpha_ks": Key("α, KS", "number", "Kolmogorov–Smirnov distance of that fit"),
    "alpha_tail": Key("α, tail", "whole", "how many λ the fit is of"),
    "alpha_sigma": Key("α ±", "number", "about its standard error: (α - 1) / √tail"),
    "alpha_error": Key("α ± of few", "number", "its standard error in a tail of so few values"),
    "alpha_status": Key("α, status", "text", "ok, or why there is no fit",
                        own=TEXT.nullable),
    "alpha_weighted": Key("α, weighted", "number", "α · log10 of the largest λ"),
    "log_alpha_norm": Key("log α-norm", "number", "log10 of Σλ^α"),
    "lognormal_ratio": Key("lognormal, R", "number", "ln of likelihoods; below 0: likelier than α"),
    "lognormal_p": Key("lognormal, p", "number", "that chance alone makes R so large"),
    "exponential_ratio": Key("exponential, R", "number", "likewise"),
    "exponential_p": Key("exponential, p", "number", "that chance alone makes R so large"),
    "truncated_ratio": Key("truncated, R", "number", "of a power law with exponential cut-off"),
    "truncated_p": Key("truncated, p", "number", "that chance alone makes R so large"),
    "rmse": Key("rms entry", "number", "root mean square of the entries"),
    "log_abs_det": Key("ln |det|", "number", "Σ ln σ"),
    "entropy": Key("entropy", "number", "of λ / Σλ, over ln of the rank: 1 where all are equal"),
    "detx": Key("detX", "whole", "largest λ whose product, at mean 1, is below 1"),
    "snr": Key("SNR", "number", "Spectrum's signal to noise, over σ max"),
    "mp_softrank": Key("soft rank", "number", "squared noise edge over the largest λ"),
    "signal_energy": Key("signal energy", "percent", "of Σσ², in spikes"),
    "traps": Key("traps", "whole", "spikes of the same entries in another order"),
    "sigma_max_random": Key("σ max, shuffled", "number", "of the same entries in another order"),
    "random_distance": Key("distance to shuffled", "number",
                           "Jensen–Shannon, of λ / Σλ paired by rank"),
    "mp_edge": Key("noise edge", "number", "largest σ that noise of this scale would have"),
    "spikes": Key("spikes", "whole", "how many σ stand above the noise edge"),
    "heavy_tail": Key("heavy tail", "flag", "yes: spikes may be single entries or rows"),
    "delta_norm": Key("Δ norm", "number", "Frobenius norm of Δ"),
    "delta_relative": Key("change", "percent", "norm of Δ, what was added, over the base's"),
    "delta_sigma_max": Key("Δ σ max", "number", "largest singular value of Δ"),
    "delta_stable_rank": Key("Δ stable rank", "number", "Σσ² / σ max² of Δ"),
    "delta_effective_rank": Key(
        "Δ effective rank", "number", "of Δ", NUMBER.nullable, published=True
    ),
    "delta_energy_rank": Key("Δ energy rank", "whole", "of Δ", COUNT.nullable, published=True),
    "delta_spectrum_status": Key(
        "Δ spectrum, status", "word", "ok, or how to get what needs all singular values of Δ",
        TEXT.nullable, published=True,
    ),
    "delta_rank": Key(
        "Δ rank", "whole", "directions of Δ above rounding", COUNT.nullable, published=True
    ),
    "delta_rank_status": Key(
        "Δ rank, status", "word", "at least: there may be more",
        Words(("ok", "at least")).nullable, published=True,
    ),
    "delta_kind": Key("kind of change", "word", "what is known of Δ: low rank, pruning …"),
    "delta_grid": Key("grid of change", "word", "the numbers that the change is rounded to"),
    "delta_moved": Key("entries changed", "whole", "how many entries of Δ are other than 0"),
    "delta_rows": Key("rows changed", "whole", "how many rows of Δ are other than 0"),
    "delta_cols": Key("columns changed", "whole", "how many columns of Δ are other than 0"),
    "delta_note": Key("recognised", "text", "what became of the matrix, if not by training",
                      TEXT.nullable),
    "task_cosine": Key("task cosine", "number", "of two changes as vectors: ⟨Δa, Δb⟩ / ‖Δa‖‖Δb‖",
                       NUMBER.nullable),
    "cosine_chance": Key("cosine by chance", "number", "what independent signs would give, about"),
    "cosine_base": Key("cosine by the base", "number", "of it, what both have along W0 itself"),
    "cosine_rounding": Key(
        "cosine by rounding", "number", "what storing both more coarsely than the base gives, up to"
    ),
    "overlap_left": Key("overlap, outputs", "number", "of the leading subspaces of two changes"),
    "overlap_left_chance": Key("by chance, outputs", "number", "overlap of random subspaces"),
    "overlap_right": Key("overlap, inputs", "number", "of the leading subspaces of two changes"),
    "overlap_right_chance": Key("by chance, inputs", "number", "overlap of random subspaces"),
    "sign_conflict": Key("sign conflict", "percent", "entries that changes move opposite ways"),
    "sign_conflict_chance": Key("conflict by chance", "percent", "of independent signs"),
    "sign_conflict_weight": Key("weight in conflict", "percent", "of Σ|Δ|, that TIES would drop"),
    "energy_ratio": Key("energy ratio", "number", "‖ΣΔ‖² / Σ‖Δ‖², 1: changes share nothing"),
    "merged_loss": Key("merged loss", "percent", "of the norm, by cutting the sum to a rank"),
    "changed_by": Key("changed by", "whole", "how many of the models change it"),
    "alike": Key("pair", "text", "the two changes whose task cosine is largest in size"),
    "a": Key("one", "word", "the first of two models"),
    "b": Key("other", "word", "the second of two models"),
    "frame_diagonal": Key("on the diagonal", "percent",
                          "of Δ, in the base's singular frame: singular values moved"),
    "frame_top": Key("in the top block", "percent", "of Δ, between the k leading directions"),
    "frame_tail": Key("in the tail", "percent", "of Δ, between all other directions"),
    "frame_svfit": Key("for SVFit", "percent", "of Δ, that SVFit could train"),
    "frame_salt": Key("for SALT", "percent", "of Δ, that SALT could train"),
    "frame_diagonal_null": Key("diagonal, by chance", "percent", "what a random Δ has there"),
    "frame_top_null": Key("top, by chance", "percent", "what a random Δ has there"),
    "frame_tail_null": Key("tail, by chance", "percent", "what a random Δ has there"),
    "frame_svfit_null": Key("SVFit, by chance", "percent", "what a random Δ has there"),
    "frame_salt_null": Key("SALT, by chance", "percent", "what a random Δ has there"),
    "frame_outside": Key("outside", "percent", "of Δ, where the base has no direction"),
    "frame_rounding": Key("rounding of Δ", "percent", "of Δ, that storing is expected to make"),
    "frame_status": Key("frame, status", "word", "ok, or why it is not determined"),
    "head": Key("head", "whole", "of attention, counted from 0", COUNT.nullable),
    "kv_head": Key("kv head", "whole", "the head of keys and values that goes with it",
                   COUNT.nullable),
    "head_change": Key("head, change", "number", "of its singular values, each list of length 1"),
    "head_module": Key("module", "word", "the attention that it is of"),
    "head_q": Key("q", "percent", "change of its queries over their norm"),
    "head_k": Key("k", "percent", "change of its keys over their norm"),
    "head_v": Key("v", "percent", "change of its values over their norm"),
    "head_o": Key("o", "percent", "change of its output projection over its norm"),
    "flow": Key("stream", "word", "whether matrices write to the residual stream or read from it"),
    "changed": Key("changed", "whole", "how many matrices changed"),
    "ablated": Key("ablated", "whole", "of how many of them the direction was taken out"),
    "strength": Key("strength", "percent", "of their Δ, that the direction holds"),
    "scale": Key("scale", "number", "how much of what the base has along it was taken out, 1: all"),
    "sorsa_delta_sigma": Key("Δσ, mean", "number", "how far a singular value moved, on average"),
    "sorsa_delta_d": Key("ΔD by index", "number", "1 less the mean |cos| of all singular vectors"),
    "matched_delta_d": Key("ΔD matched", "number", "the same, paired to make it least"),
    "sorsa_tied": Key("tied", "whole", "singular values that coincide with a neighbour"),
    "noise_delta_d": Key("ΔD of rounding", "number", "by index, of rounding the base alone"),
    "noise_matched_d": Key("ΔD of rounding, matched", "number", "of rounding the base alone"),
    "noise_grid": Key("rounded to", "word", "the numbers that the base was rounded to for it",
                      TEXT.nullable),
    "rank_before": Key("rank before", "whole", "of the factors as they are read, all stacked"),
    "rank_true": Key("true rank", "whole", "directions of the update that are none of rounding"),
    "rank_kept": Key("kept rank", "whole", "directions that are kept"),
    "loss": Key("loss", "percent", "what is not written of the update's Frobenius norm"),
    "loss_spectral": Key("spectral loss", "percent", "the first σ that is cut off, over σ max"),
    "loss_least": Key("least loss", "percent", "that any adapter of this rank is proven to have"),
    "loss_spectral_low": Key("spectral loss, low", "percent", "it is proven to lie above"),
    "rounding": Key("rounding", "percent", "what storing moves, over the update's norm"),
    "lora_scale": Key("s", "number", "alpha over rank: W = residual + s B A"),
    "chosen_share": Key("share", "percent", "of Σσ² that the chosen singular directions hold"),
    "chosen_max": Key("σ from", "number", "largest of the chosen σ"),
    "chosen_min": Key("σ to", "number", "smallest of the chosen σ"),
    "chosen_gap": Key("gap", "number", "from the chosen σ to the nearest of the others"),
    "chosen_drowned": Key("drowned", "whole", "chosen σ below the floor: their directions are any"),
    "floor": Key("floor", "number", "norm of what storing the weights rounds off"),
    "determined": Key("determined", "flag", "no: the floor exceeds the gap"),
    "missed": Key("missed", "number", "of W by residual and s B A together, over its norm"),
    "missed_max": Key("missed at most", "number", "the largest |entry| of that"),
    "mask_entries": Key("entries", "whole", "of the weight that the mask takes"),
    "mask_density": Key("density", "percent", "share of the weight's entries in the mask"),
    "mask_overlap": Key("overlap", "percent", "of the mask with as many largest |weights|"),
    "mask_ties": Key("ties", "whole", "entries as large as the least one that are left out"),
    "update_share": Key("of update", "percent", "of Σδ² that lies in the mask"),
    "update_largest": Key("by |W|", "percent", "of Σδ² at as many largest |weights|"),
    "update_best": Key("at best", "percent", "of Σδ² that so many entries can hold"),
    "nbytes_before": Key("bytes before", "whole", "of the factors as they are read"),
    "nbytes": Key("bytes", "whole", "of the factors that are written"),
    "merge_scale": Key("merge scale", "number", "how often the adapter's update is in it"),
    "merge_scale_error": Key("merge scale ±", "number", "standard error of that factor"),
    "merge_rest": Key("merge rest", "percent", "of the change, what is neither it nor rounding"),
    "merge_rest_rounding": Key("rest / rounding", "number", "the same over what rounding makes"),
    "merge_as": Key("merged as", "text", "the arithmetic that gives its values bit for bit"),
    "merge_off": Key("merge off", "whole", "values that the order of sums has changed"),
    "merge_fault": Key("merge fault", "text", "what is wrong with the update that it holds"),
    "merge_base_rows": Key("rows of the base", "text", "where the update is not in it"),
    "merge_zero": Key("zero update", "flag", "whether the adapter does nothing to it"),
    "intruders": Key("intruders", "whole", "leading vectors that resemble none of the base's"),
    "intruders_after": Key("intruders, after", "whole", "likewise, in what is written"),
    "worst_cos_after": Key("lowest |cos|, after", "number", "likewise, in what is written"),
    "delta_norm_after": Key("Δ norm, after", "number", "Frobenius norm of what is left of Δ"),
    "repaired": Key("repaired", "whole", "leading vectors whose σ was scaled"),
    "intruder_detail_after": Key("verdicts, after", "list", "on what is written", Items(VERDICT)),
    "vectors_judged": Key("judged", "whole", "leading vectors that rounding cannot have made"),
    "vectors_status": Key("judged, status", "word", "ok, or how many leading vectors were not"),
    "worst_cos": Key("lowest |cos|", "number", "of a leading vector's best match in the base"),
    "worst_at": Key("at", "whole", "index of that vector"),
    "worst_energy": Key("energy", "percent", "its share of Σσ²"),
    "certified": Key("proven", "flag", "every verdict is proven"),
    "null_cos": Key("|cos| by chance", "cosine", "what a random direction would score"),
    "subspace_overlap": Key("overlap", "number", "of the leading subspaces, 1: the same"),
    "overlap_status": Key("overlap, status", "word", "undetermined: a tie, or the base's rank < k"),
    "intruders_right": Key("intruders, inputs", "whole",
                           "of the right vectors, where both sides are judged"),
    "worst_cos_right": Key("lowest |cos|, inputs", "number", "of a right vector's best match"),
    "null_cos_right": Key("|cos| by chance, inputs", "cosine", "for right vectors"),
    "subspace_overlap_right": Key("overlap, right", "number", "of the leading right subspaces"),
    "overlap_status_right": Key("overlap, right, status", "word", "as of the left one"),
    "intruder_detail_right": Key("verdicts, right", "list", "on right vectors", Items(VERDICT)),
    "sigma_profile": Key("singular values", "list", "at even ranks", Items(NUMBER)),
    "intruder_detail": Key("verdicts", "list", "on the leading vectors", Items(VERDICT)),
    "nan": Key("NaN", "whole", "how many entries"),
    "inf": Key("Inf", "whole", "how many entries"),
    "first_non_finite": Key("first NaN or Inf", "text", "its place"),
    "largest": Key("largest entry", "number", "its size"),
    "saturated": Key("saturated", "whole", "entries at the dtype's limit"),
    "zero_rows": Key("zero rows", "whole"),
    "zero_cols": Key("zero columns", "whole"),
    "zero_row_runs": Key("which rows are zero", "text"),
    "zero_col_runs": Key("which columns are zero", "text"),
    "effective_share": Key("effective rank, share", "percent", "of the full rank"),
    "resolved_share": Key("resolved rank, share", "percent", "of the full rank"),
    "severity": Key("severity", "severity", "how bad it is"),
    "outcome": Key("outcome", "severity", "of the rule; known: the baseline has it too"),
    "level": Key("severity", "word", "of what it finds"),
    "rule": Key("rule", "word", "its code; `spectra rule CODE` explains"),
    "rule_name": Key("name", "word", "of the rule"),
    "tensor": Key("tensor", "word"),
    "value": Key("value", "number", "what was found"),
    "limit": Key("limit", "number", "what the policy allows"),
    "baseline": Key("baseline", "number", "what the baseline has"),
    "state": Key("state", "word", "compared with the baseline"),
    "message": Key("what is wrong", "text", "what the rule found, beside what it allows"),
    "reason": Key("reason", "text", "why it is ignored"),
    "until": Key("until", "text", "when that ends"),
    "summary": Key("what it tests", "text", "passed: it is not so anywhere"),
    "findings": Key("findings", "whole"),
    "judged": Key("judged", "flag", "no: the rule had nothing to judge by"),
    "why_not": Key("why not", "text", "what the rule lacked"),
    "matrices": Key("matrices", "whole", "how many"),
    "slope": Key("slope", "slope", "of log σ max against log width"),
    "low": Key("95 % from", "slope"),
    "high": Key("95 % to", "slope"),
    "ratio": Key("ratio", "number", "σ max of the widest model over the proxy's"),
    "ok": Key("matches", "flag", "the ratio is 1 within the tolerance"),
    "expected": Key("expected slope", "slope", "what learning rate and weight decay lead to"),
    "normalised_slope": Key("normalised", "slope", "slope of σ / √(eta / lambda); law: 0.75"),
    "counted": Key("counted", "flag", "whether the law is about the role"),
    "reads": Key("reason", "text", "why there is no slope"),
    "quantity": Key("quantity", "word", "the key that moved most"),
    "present": Key("is in", "word", "both results, or one of them"),
    "moved": Key("moved", "whole", "quantities beyond their error, or matrices in which one is"),
    "change": Key("change, share", "number", "after less before, over before"),
    "beyond": Key("moved at least", "number", "the least that errors and bounds of both leave"),
    "extent": Key("move", "percent", "the difference over the larger of both values"),
    "before": Key("number before", "number", "what the first of two results has"),
    "after": Key("number after", "number", "what the second of two results has"),
    "was": Key("before", "text", "what the first of two results or models has, as it is told"),
    "now": Key("after", "text", "what the second of two results or models has, as it is told"),
    "became": Key("became", "word", "of it from the first to the second"),
    "moved_by": Key("change", "text", "of before"),
    "least": Key("at least", "text", "what of it errors and bounds cannot explain"),
    "compared": Key("compared", "whole", "matrices in which both have a number"),
    "unknown": Key("left open", "whole", "by a bound on either side"),
    "only_before": Key("only before", "whole", "matrices that have a value there alone"),
    "only_after": Key("only after", "whole", "matrices that have a value there alone"),
    "largest_move": Key("largest move", "text", "the quantity that moved most beyond its error"),
}  # fmt: skip


def key_of(name: str, values: object = None) -> Key:
    """Return what is known of a key; one that is not goes by its own name."""
    known = KEYS.get(name)
    if known is not None:
        return known
    if isinstance(values, bool):
        return Key(name, "flag")
    if isinstance(values, str):
        return Key(name, "text")
    return Key(name, "number")
