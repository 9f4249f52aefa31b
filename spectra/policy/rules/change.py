"""What became of the base: intruders, the update's size and rank, which modules changed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from spectra.numbers import EXACT, number, percent, whole
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Breach
from spectra.policy.policy import matches
from spectra.policy.rule import Rule, Setting, SettingsOf
from spectra.policy.threshold import Threshold, limits

FEW = 4  # matrices of a role, from which on most can have changed


def changed(subject: Subject, base: Facts) -> bool | None:
    """Say whether a tensor's values differ from the base's; None where that is not known."""
    size = subject.number("delta_norm")
    if size is not None:
        return size > 0.0
    twin = base.subjects.get(subject.name)
    if twin is None or twin.dtype != subject.dtype:
        return None
    own, theirs = subject.values.get("digest"), twin.values.get("digest")
    return None if own is None or theirs is None else own != theirs


def fits(globs: Sequence[str], subject: Subject) -> bool:
    """Say whether a glob is about a matrix, by its name or its tensor's."""
    return matches(globs, subject.name) or matches(globs, subject.tensor)


def untouched(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices that are the base's where nearly all others of their role are not."""
    base = facts.base
    if base is None:
        return
    for role, subjects in facts.by_role().items():
        known = [(subject, changed(subject, base)) for subject in subjects]
        judged = [(subject, moved) for subject, moved in known if moved is not None]
        share = sum(moved for _, moved in judged) / len(judged) if judged else 0.0
        for subject, moved in judged:
            settings = settings_of(subject.name)
            if settings is None or moved:
                continue
            asked = settings["expect"] and fits(settings["expect"], subject)
            most = role != "other" and len(judged) >= FEW and share >= settings["share"]
            if asked or most:
                why = (
                    "the policy expects it to change"
                    if asked
                    else f"{percent(share)} of {role} changed"
                )
                yield Breach(f"equals the base, though {why}", subject.name, 0.0)


def unexpected(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield tensors that changed and are not among those that may."""
    if facts.base is None:
        return
    for subject in facts.subjects.values():
        settings = settings_of(subject.name)
        if settings is None or settings["allowed"] is None:
            continue
        may = fits(settings["allowed"], subject)
        if not may and changed(subject, facts.base):
            size = subject.number("delta_relative")
            told = f" by {percent(size)} of the base's norm" if size is not None else ""
            yield Breach(f"changed{told}, and is not among the modules allowed to", subject.name,
                         size, 0.0)  # fmt: skip


def misplaced(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices that hold what the base has under another name."""
    if facts.base is None:
        return
    homes: dict[str, str] = {}
    for twin in facts.base.matrices():
        homes.setdefault(str(twin.values.get("digest")), twin.name)
    for subject in facts.matrices():
        own = facts.base.subjects.get(subject.name)
        digest = subject.values.get("digest")
        if digest is None or own is None or settings_of(subject.name) is None:
            continue
        home = homes.get(str(digest))
        if home is not None and home != subject.name and digest != own.values.get("digest"):
            yield Breach(f"holds the values that the base has in {home}", subject.name)


RANK = Threshold("delta_rank", "rank of the update", "above", whole)


def of_high_rank(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield updates of too high a rank; a note where only a lower bound of it is known."""
    bounds = {
        subject.name: subject.number(RANK.key) or 0.0
        for subject in facts.matrices()
        if subject.values.get("delta_rank_status") == "at least"
    }
    for breach in RANK(facts, settings_of):
        name = breach.matrix or ""
        told = breach.message
        if bounds.pop(name, None) is not None:
            told = told.replace(RANK.noun, f"{RANK.noun} at least", 1)
        yield replace(breach, message=told)
    for name, rank in bounds.items():
        settings = settings_of(name) or {}
        limits_of = [settings[key] for key in ("max", "warn", "error") if settings.get(key)]
        if limits_of:
            text = (
                f"{RANK.noun} at least {whole(rank)}, which is a bound: whether it is above the "
                f"{number(min(limits_of), EXACT)} allowed is not known"
            )
            yield Breach(text, name, rank, min(limits_of), severity="note")


SIZE = Threshold("delta_relative", "update over base", "above", percent)


def of_large_size(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield updates that are too large, and what they are where no training made them."""
    for breach in SIZE(facts, settings_of):
        note = facts.subjects[breach.matrix or ""].values.get("delta_note")
        told = f"{breach.message}; the matrix {note}" if note else breach.message
        yield replace(breach, message=told)


RULES = (
    Rule(
        code="SPC101",
        name="intruder-dimensions",
        severity="error",
        needs="base",
        summary="too many leading singular vectors resemble none of the base's",
        why="Directions that fine-tuning put on top of the spectrum and that the base lacks go "
        "with forgetting: models with many of them do worse on what they knew before "
        "(arXiv 2410.21228).",
        how="Of the top-k left singular vectors of each changed matrix, those whose largest |cos| "
        "with every left singular vector of the base is below `cosine`; proven by bounds or by "
        "full decompositions, as in `spectra diff --intruders`. A full fine-tune usually has "
        "none, an ordinary LoRA one here and there.",
        fix="Train with a lower learning rate or alpha, or a higher rank; merge with a smaller "
        "scale. `spectra diff BASE MODEL --intruders --plot intruders.png` shows where they are.",
        judge=Threshold("intruders", "intruders", "above", whole),
        settings=(
            Setting("cosine", "number", 0.5, "an intruder's largest |cos| lies below", whole=True,
                    above=0.0, below=1.0),
            Setting("top-k", "count", 10, "leading singular vectors examined", whole=True,
                    above=0.0),
            *limits("above", absolute=1.0),
        ),
    ),
    Rule(
        code="SPC102",
        name="delta-size",
        severity="error",
        needs="base",
        summary="the update is large beside the base",
        why="A merge whose scale was applied twice, or a learning rate far too high, shows first "
        "in the size of the update. Full fine-tuning moves a matrix by about a percent, an "
        "ordinary LoRA by up to 13 %.",
        how="delta_relative, the Frobenius norm of tuned - base over that of the base. Where the "
        "change is one that no training makes, such as a factor or rows in another order, the "
        "finding says so.",
        fix="Merge again and check alpha / r: it counts once. For a large full fine-tune raise "
        "`max`, or give the release before as --baseline with `max-regression`.",
        judge=of_large_size,
        settings=limits("above", absolute=0.2, warn=0.15),
    ),
    Rule(
        code="SPC103",
        name="delta-rank",
        severity="error",
        needs="base",
        summary="the update has a higher rank than a policy allows",
        why="A model that is said to be a merged LoRA of rank r has an update of rank r. A higher "
        "one means that something else was trained or merged in as well.",
        how="delta_rank: singular values of tuned - base above what rounding in the stored dtypes "
        "makes. Of an update of full rank a lower bound is enough to break a limit; where it is "
        "not, a note says that it is a bound. A comparison with the baseline or with like "
        "matrices counts them all.",
        fix="Compare with the adapter that was meant: `spectra diff BASE ADAPTER`.",
        judge=of_high_rank,
        settings=limits("above"),
        asked=True,
    ),
    Rule(
        code="SPC104",
        name="untouched-module",
        severity="warning",
        needs="base",
        summary="a matrix equals the base's where its like changed",
        why="A merge that skipped a layer, or an adapter key that matched nothing, leaves a matrix "
        "as it was, and nothing else tells.",
        how="Its update is exactly 0 while at least `share` of the matrices of its role changed, "
        "or while `expect` names it.",
        fix="Look at the list of target modules and at the layer numbers of the merge.",
        judge=untouched,
        settings=(
            Setting("share", "share", 0.75, "of a role that must have changed for the rest to be"
                    " findings", most=1.0),
            Setting("expect", "texts", None, "globs of what must have changed"),
        ),
    ),
    Rule(
        code="SPC105",
        name="unexpected-change",
        severity="error",
        needs="base",
        summary="a tensor changed that a policy does not allow to",
        why="A fine-tune of some modules should leave all others byte for byte as they were.",
        how="The values differ from the base's, vectors included, and no glob of `allowed` fits.",
        fix="Freeze what should not train, or add it to `allowed`.",
        judge=unexpected,
        settings=(Setting("allowed", "texts", None, "globs of what may change"),),
        asked=True,
    ),
    Rule(
        code="SPC106",
        name="misplaced",
        severity="error",
        needs="base",
        summary="a matrix holds what the base has under another name",
        why="A conversion or merge script that swaps two names, q and k for example, gives a model "
        "that loads and answers nonsense.",
        how="Its values equal, bit for bit, those of another matrix of the base, and not those of "
        "its own.",
        fix="Correct the script's table of names and write the model again.",
        judge=misplaced,
    ),
)  # fmt: skip
