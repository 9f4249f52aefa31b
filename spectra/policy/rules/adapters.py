"""What an adapter left in a merged model, and whether it fits its base and its settings."""

from collections.abc import Iterator

from spectra.numbers import EXACT, apart, number, percent
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Breach
from spectra.policy.rule import Rule, Setting, Settings, SettingsOf
from spectra.policy.rules.places import is_zero, some
from spectra.text import counted, printable

NOTHING = 0.9  # of a change that is something else, from which on it is no merge of the adapter
UNTOUCHED = "the base's values"  # as a merge's fault
DAMAGED = "the adapter's update holds NaN or Inf"  # likewise
UNSOUND = "the base or the model holds NaN or Inf"  # likewise
BEYOND = "changed, though the adapter leaves it alone"  # likewise


def wrongly_merged(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield matrices to which the adapter was not added once, or not it alone."""
    hidden = []
    for subject in facts.subjects.values():
        settings = settings_of(subject.name)
        if settings is None:
            continue
        if subject.values.get("merge_fault") == BEYOND:
            yield Breach(BEYOND, subject.name)
        elif "merge_scale" not in subject.values:
            continue
        elif subject.values.get("merge_fault") == DAMAGED:
            yield Breach(f"not to be judged: {DAMAGED}", subject.name)
        elif subject.values.get("merge_fault") == UNSOUND:
            yield Breach(f"not to be judged: {UNSOUND}", subject.name, severity="note")
        elif subject.number("merge_scale") is None:
            hidden.append(subject.name)
        elif told := _of_merge(subject, settings):
            yield told
    if hidden:
        which = f"{hidden[0]} and {len(hidden) - 1:,} more" if len(hidden) > 1 else hidden[0]
        text = f"not known of {which}: the adapter's update lies below the rounding of its values"
        yield Breach(text, severity="note", subject="below rounding")


def _of_merge(subject: Subject, settings: Settings) -> Breach | None:
    scale, rest = subject.number("merge_scale") or 0.0, subject.number("merge_rest") or 0.0
    fault, left = subject.values.get("merge_fault"), _left(subject)
    exact = ", bit for bit" if subject.values.get("merge_as") else ""
    most, wrong = settings["max-rest"], abs(scale - 1.0) > settings["tolerance"]
    if fault == UNTOUCHED:
        text = "equals the base: the adapter's update is not in it"
    elif left:
        text = f"{left}; the others hold the adapter's update{exact}" if exact else left
        return Breach(text, subject.name, scale, 1.0)
    elif fault and not _is_scale(str(fault)):
        text = f"holds another update than the adapter's: {fault}{exact}"
        return Breach(text, subject.name, scale, 1.0)
    elif wrong and rest > NOTHING:
        text = (
            f"{percent(rest)} of its change is not the adapter's, whose update is in it "
            f"{_times(subject, scale)} times, expected once"
        )
    elif wrong:
        why = f": {fault}{exact}" if fault else ""
        text = f"the adapter's update is in it {_times(subject, scale)} times, expected once{why}"
    elif rest > most:
        told = apart(rest, most, percent)
        text = f"{told} of its change is not the adapter's, {percent(most, EXACT)} may"
        return Breach(text, subject.name, rest, most)
    else:
        return None
    return Breach(text, subject.name, scale, 1.0)


def _left(subject: Subject) -> str:
    """Say which rows or columns are still the base's; empty where none are."""
    for key, what, count in (("merge_base_rows", "rows", subject.rows),
                             ("merge_base_columns", "columns", subject.cols)):  # fmt: skip
        if found := subject.values.get(key):
            return f"{what} {found} of {count:,} are still the base's"
    return ""


def _is_scale(fault: str) -> bool:
    return not fault.startswith(("the update transposed", "lora_B", "DoRA"))


def _times(subject: Subject, scale: float) -> str:
    """Return a factor, with its error where that is larger than what its digits leave open."""
    error = subject.number("merge_scale_error") or 0.0
    told = apart(scale, 1.0)
    return f"{told} (+- {number(error, 2)})" if error > OPEN * abs(scale) else told


OPEN = 2e-3  # of a factor


def strangers(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield modules of an adapter that the base has no tensor for."""
    adapter = facts.adapter
    if adapter is None or adapter.lost is None:
        return
    lost = [name for name in adapter.lost if settings_of(name) is not None]
    if lost:
        whole = adapter.changes - adapter.saved
        text = (
            f"{len(lost):,} of the adapter's {counted(whole, 'module')} match no tensor of the "
            f"base: {printable(some(lost))}"
        )
        yield Breach(text, value=len(lost), limit=0.0, subject="modules")
    if adapter.misshapen and settings_of("") is not None:
        first, *more = adapter.misshapen
        rest = f", and {len(more):,} more" if more else ""
        text = f"updates of the adapter have another shape than the base: {printable(first)}{rest}"
        yield Breach(text, value=len(adapter.misshapen), limit=0.0, subject="shapes")


def idle(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield what an adapter leaves as it is: everything, or single matrices of a merge."""
    zero, whole = idle_modules(facts)
    if zero and len(zero) == whole:
        what = (
            counted(whole, "module") if facts.is_adapter else counted(whole, "matrix", "matrices")
        )
        text = f"does nothing{_but(facts)}: the update of all {what} is zero"
        yield Breach(f"the adapter {text}", value=0.0, subject="the adapter")
        return
    if unmoved := _unmoved(facts):
        none = f"of {counted(unmoved, 'module')} none changes the base"
        text = f"the adapter does nothing{_but(facts)}: {none}"
        yield Breach(text, value=0.0, subject="the adapter")
    for subject in facts.matrices():
        if subject.values.get("merge_zero") and settings_of(subject.name) is not None:
            text = "the adapter's update of it is zero"
            yield Breach(text, subject.name, 0.0, severity="warning")


def _but(facts: Facts) -> str:
    """Say what an adapter holds beside modules that have no update; of a merge which vectors."""
    adapter = facts.adapter
    if adapter is None:
        return ""
    if not facts.is_adapter:
        vectors = [one.name for one in facts.subjects.values()
                   if not one.is_matrix and "merge_scale" in one.values]  # fmt: skip
        many = counted(len(vectors), "norm or bias", "norms and biases")
        return f" but move {many} ({printable(some(vectors))})" if vectors else ""
    moving = {*adapter.moving}
    moved = sum(one.tensor in moving and not is_zero(one) for one in facts.subjects.values())
    parts = [f"store {counted(adapter.saved, 'tensor')} whole"] if adapter.saved else []
    parts += [f"move {counted(moved, 'bias', 'biases')}"] if moved else []
    return f" but {' and '.join(parts)}" if parts else ""


def _unmoved(facts: Facts) -> int:
    """Return how many modules another method than LoRA has, where none of them does anything.

    It is known beside a base alone, as zero factors are not what says so.
    """
    adapter = facts.adapter
    if adapter is None or not facts.is_adapter or adapter.others != adapter.changes - adapter.saved:
        return 0
    moved = [norm for one in facts.matrices() if (norm := one.number("delta_norm")) is not None]
    return adapter.others if moved and not any(moved) else 0


def idle_modules(facts: Facts) -> tuple[list[str], int]:
    """Return modules of an adapter whose update is zero, and how many it has.

    Of one that was merged they are matrices of the model.
    """
    adapter = facts.adapter
    if adapter is None:
        return [], 0
    if not facts.is_adapter:
        known = [one for one in facts.matrices()
                 if "merge_zero" in one.values or "merge_scale" in one.values]  # fmt: skip
        return [one.name for one in known if one.values.get("merge_zero")], len(known)
    subjects: dict[str, Subject] = {one.tensor: one for one in facts.subjects.values()}
    zero = [
        module
        for module, tensors in adapter.factors.items()
        if any(name in subjects and is_zero(subjects[name]) for name in tensors)
        or adapter.scales.get(module) == 0.0
    ]
    return zero, adapter.changes - adapter.saved


def idle_factors(facts: Facts) -> set[str]:
    """Return the factors of an adapter that does nothing at all, which is told once."""
    zero, whole = idle_modules(facts)
    if facts.adapter is None or not facts.is_adapter or len(zero) != whole:
        return set()
    tensors = {name for names in facts.adapter.factors.values() for name in names}
    return {one.name for one in facts.subjects.values() if one.tensor in tensors}


def contradictory(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield what an adapter's settings say that its tensors do not bear out."""
    adapter = facts.adapter
    if adapter is None:
        return
    for module, text in adapter.contradictions.items():
        if settings_of(module) is not None:
            yield Breach(text, subject=module)
    if adapter.unnamed and settings_of("") is not None:
        whole = counted(adapter.modules, "module")
        text = (
            f"target_modules names {adapter.modules - len(adapter.unnamed):,} of {whole}, and "
            f"PEFT drops the others: {printable(some(adapter.unnamed))}"
        )
        yield Breach(text, severity="warning", subject="target_modules")
    for table, pattern in adapter.unused:
        text = f"{table} sets {printable(pattern)}, which fits no module of the adapter"
        yield Breach(text, severity="warning", subject=f"{table} {pattern}")


def of_high_rank(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield an adapter whose largest rank a server refuses."""
    adapter = facts.adapter
    most = (settings_of("") or {}).get("max")
    if adapter is None or most is None:
        return
    if adapter.others:
        text = (
            f"the adapter is of {adapter.method}, and the limit is of LoRA's rank: not judged; "
            "`spectra lowrank convert` makes a LoRA of it"
        )
        yield Breach(text, severity="note", subject="the adapter")
    high = {name: rank for name, rank in adapter.ranks.items() if rank > most}
    if high:
        largest = max(high.values())
        where = f"{len(high):,} of {counted(len(adapter.ranks), 'module')}"
        text = f"rank {largest:,} > {number(float(most), EXACT)} allowed; above it are {where}"
        yield Breach(f"the adapter has {text}", value=largest, limit=float(most),
                     subject="the adapter")  # fmt: skip


RULES = (
    Rule(
        code="SPC107",
        name="merge-scale",
        severity="error",
        needs="adapter",
        summary="a merged adapter was added more or less than once",
        why="A merge script that applies alpha / r twice or not at all, leaves a layer or an "
        "expert out, takes lora_B of experts the other way round or drops DoRA's magnitudes gives "
        "a model that runs, and is not the one that was trained. The size of the update alone "
        "cannot tell.",
        how="The merge is done again, in every arithmetic in use (float32, the update rounded to a "
        "narrow dtype before the sum or at each step, base or factors rounded first), and so are "
        "the known mistakes: one that gives the stored values bit for bit is named. Elsewhere it "
        "is the factor c for which base + c U, rounded as it is stored, gives the model, U the "
        "adapter's update at its own scale; how much of tuned - base is neither that nor rounding; "
        "and which rows or columns are still the base's. Biases and norms that the adapter stores "
        "are looked for too, as are biases that it moves otherwise (`lora_bias`, methods that act "
        "on outputs), and what it leaves alone has to be the base's, rounded at most. A note where "
        "U lies below the rounding, so that nothing can be told.",
        fix="Merge again, in the way that the finding does not name. Where the embedding alone "
        "changed beside the adapter, look whether an update of a head went into it that the base "
        "ties to it: PEFT merges so.",
        judge=wrongly_merged,
        settings=(
            Setting("tolerance", "share", 0.05, "how far the factor may be from 1"),
            Setting("max-rest", "share", 0.5, "how much of the change may be something else"),
        ),
    ),
    Rule(
        code="SPC108",
        name="unmatched-module",
        severity="error",
        needs="fit",
        summary="modules of an adapter match no tensor of the base, or not its shape",
        why="Servers and mergers drop what they cannot place, most of them with no more than a "
        "line in a log: that part of the training is lost.",
        how="The names of the adapter's modules against the base's tensors, whatever tool wrote "
        "them, a prefix apart. Modules of another part of a pipeline than the base are left out, "
        "and so is a head that the base ties to its embeddings. Of the others the shapes.",
        fix="Give the base that it was trained on, or convert the adapter's names to it.",
        judge=strangers,
    ),
    Rule(
        code="SPC109",
        name="idle-adapter",
        severity="error",
        needs="factors",
        summary="an adapter changes nothing",
        why="lora_B is zero before the first step: an adapter saved too early, or from the wrong "
        "process, loads and does nothing.",
        how="The update of every module is zero: lora_B, lora_A or the scale; of methods other "
        "than LoRA the change of the base, where one is compared. What an adapter stores whole, "
        "such as a classifier, is counted beside that, and so are biases that it moves "
        "(`lora_bias`). Of an adapter that was merged "
        "(`--adapter`), single matrices with a zero update are warnings; of one that is checked "
        "itself SPC008 tells single factors.",
        fix="Save the adapter again after training; under DeepSpeed or FSDP gather it first.",
        judge=idle,
    ),
    Rule(
        code="SPC110",
        name="adapter-settings",
        severity="error",
        needs="factors",
        summary="an adapter's settings contradict its tensors",
        why="The scale is alpha / r. Where r is not the rank that the tensors have, each reader "
        "takes another scale, or refuses the adapter; biases that the settings do not ask for "
        "are dropped.",
        how="r and rank_pattern of adapter_config.json against the rows of each lora_A, and of "
        "other methods every number that shapes show: ranks, sizes and numbers of blocks (OFT, "
        "BOFT, MiSS, C3A), of reflections (HRA), frequencies (FourierFT, WaveFT) and shared "
        "vectors (VB-LoRA, Uni-LoRA), and beside a base how many values are stored (SHiRA, "
        "SuperTuning); a bias of lora_B without lora_bias. Patterns "
        "of rank_pattern and alpha_pattern that fit no module are warnings, and so are modules "
        "that target_modules leaves out.",
        fix="Give the config that was saved with these weights; correct the patterns.",
        judge=contradictory,
    ),
    Rule(
        code="SPC111",
        name="adapter-rank",
        severity="error",
        needs="factors",
        summary="an adapter has a higher rank than a server takes",
        why="Servers set room aside for a largest rank, and refuse adapters above it: vLLM by "
        "`--max-lora-rank`, 16 unless told.",
        how="The largest rank of all modules, rank_pattern included, against `max`. A note for an "
        "adapter of another method, which has no such rank.",
        fix="Raise the server's limit, or cut the adapter: `spectra lowrank resize ADAPTER "
        "--rank 16 -o SMALLER`.",
        judge=of_high_rank,
        settings=(
            Setting("max", "count", None, "the largest rank allowed, such as 16", whole=True,
                    above=0.0),
        ),
        asked=True,
    ),
)  # fmt: skip
