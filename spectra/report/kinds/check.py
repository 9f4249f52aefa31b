"""What `spectra check` tells: the verdict, and the findings worst first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from spectra.policy import RULES
from spectra.policy.finding import Finding, Outcome
from spectra.policy.judge import NOT_ASKED
from spectra.policy.threshold import Threshold
from spectra.report import cells, shades
from spectra.report.findings.found import policy_line, reasons, verdict_of
from spectra.report.kind import Document, Kind, Listing, Metric, Sheet, Worst
from spectra.report.sentences import unread
from spectra.report.shape import COUNT, FLAG, SHARE, TEXT, TEXTS, Items, Object, Words, shapes_of
from spectra.report.table import Column, Mark
from spectra.text import printable
from spectra.words import SEVERITIES, VECTOR, State

OUTCOMES = (*SEVERITIES, "known", "not judged", "passed")
"""What became of a rule, worst first; known: the baseline has what it finds."""

ABOUT = {"condition-excess": "kappa", "singular": "kappa", "delta-size": "delta_relative"}
"""What some rules are about, as other results call it."""

COVERS = {
    "all-zero": ("kappa", "delta_relative"),
    **dict.fromkeys(("dead-rows", "dead-head", "rank-collapse"), ("kappa",)),
}
"""What other results tell of a matrix that follows from what a rule finds in it."""

FINGERPRINT = replace(TEXT, as_schema=TEXT.as_schema | {"pattern": "^[0-9a-f]{16}$"})
ACCEPTED = shapes_of(Finding) | {"fingerprint": FINGERPRINT.older, "reason": TEXT.older}
FINDING = {key: shape for key, shape in ACCEPTED.items() if key not in {"reason", "until"}}
RULE = Object(shapes_of(Outcome) | {"findings": COUNT}, closed=True)
COUNTS = dict.fromkeys((*SEVERITIES, "ignored", *get_args(State)), COUNT.older)
COVERAGE = Object(closed=True, keys={
    "tensors": COUNT.older, "judged": COUNT.older, "share": SHARE.older, "missing": COUNT.older,
    "not_judged": Items(Object({"what": TEXT, "reason": TEXT}, closed=True)).older,
})  # fmt: skip

MERGE = Object(closed=True, keys={
    **dict.fromkeys(("matrices", "exact", "near", "hidden", "damaged", "scaled", "foreign"), COUNT),
    "ways": TEXTS,
    "faults": Items(Object({"what": TEXT, "matrices": COUNT}, closed=True)),
})  # fmt: skip
"""What a merged model holds of an adapter."""

LIMIT = 20  # findings shown without -v
WORDS = {"warning": "warn"}
COLUMNS = (
    Column("rule", "left", cell=lambda one: one.rule),
    Column("", "left", cell=lambda one: WORDS.get(one.severity, one.severity)),
    Column("finds", "left", optional=True, cell=lambda one: one.name),
    Column("matrix", "left", flexible=True, cell=lambda one: one.where),
    Column("finding", "left", wrapping=True, cell=lambda one: one.what),
)
STATE = Column("state", "left", cell=lambda one: one.state or "")
CARD = (
    Column("severity", "left", cell=lambda item: item["severity"]),
    Column("rule", "left", cell=lambda item: f"{item['rule']} {item['name']}"),
    replace(cells.CODE, cell=lambda item: item.get("matrix") or item.get("tensor") or "the model"),
    Column("finding", "left", cell=lambda item: item["message"]),
)
OF_FINDING = (
    "severity", "rule", "matrix", "tensor", "message", "state", "rule_name",
)  # fmt: skip
OF_ACCEPTED = (*OF_FINDING, "reason", "until")
JUDGED = ("value", "limit", "baseline")
"""What a message says in the rule's own words: a share as `20 %`, not 0.2."""
OF_RULE = ("outcome", "rule", "summary", "findings", "level", "rule_name", "why_not")


def _table(document: Document) -> Listing:
    """Return the findings; names in short without what nearly all end with."""
    verdict = verdict_of(document)

    def mark(one: Finding) -> Mark:
        if one.state == "gone":
            return "good"
        return "bad" if verdict.fails(one) else "dim" if one.state == "unchanged" else ""

    return Listing(
        [*COLUMNS, STATE] if verdict.compared else COLUMNS,
        verdict.found,
        [
            replace(one, matrix=one.matrix and one.matrix.removesuffix(".weight"))
            for one in verdict.found[:LIMIT]
        ],
        mark,
        of_rest=_of_rest,
    )


def _of_rest(hidden: Sequence[Finding]) -> str:
    bad = sum(one.level == "error" and one.state != "gone" for one in hidden)
    return f", {bad:,} of them error{'' if bad == 1 else 's'}" if bad else ""


def _facts(document: Document, full: bool) -> list[str]:
    """Return what was accepted, what could not be judged, and files that were not opened."""
    verdict = verdict_of(document)
    accepted = [
        f"accepted: {one.rule} {one.told}; {one.reason or 'no reason given'}"
        f"{f' (until {one.until})' if one.until else ''}"
        for one in verdict.ignored
    ]
    unjudged = [
        f"not judged: {', '.join(rule.code for rule in rules)}: {why}"
        for why, rules in reasons(verdict).items()
        if why != NOT_ASKED
    ]
    return [*accepted, *unjudged, *unread(document)] if full else unjudged


def _hints(document: Document, _: bool) -> list[str]:
    verdict = verdict_of(document)
    pieces = []
    if verdict.present:
        policy = (verdict.policy or "spectra.toml").replace("\\", "/").rsplit("/", 1)[-1]
        pieces.append(f"explain: spectra rule {verdict.present[0].rule}")
        pieces.append(f"accept: add an [[ignore]] with a reason to {policy}")
    return ["   ".join([*pieces, f"exit {verdict.exit_code}"])]


def _card(document: Document, _: object) -> Listing:
    return Listing(CARD, _present(document))


def _figures(document: Document) -> list[tuple[str, str]]:
    counts, tensors = document["summary"]["counts"], document["summary"]["coverage"].get("tensors")
    found = [("tensors", f"{tensors:,}")] if isinstance(tensors, int) else []
    for word, name in (("error", "errors"), ("warning", "warnings"), ("new", "new")):
        number = counts.get(word)
        if isinstance(number, int) and (word != "new" or number):
            found.append((name, f"{number:,}"))
    return found


def _sheets(document: Document) -> list[Sheet]:
    summary = document["summary"]
    outcomes = _outcomes(_present(document))
    rules = [
        {
            **rule, "rule": rule["code"], "rule_name": rule["name"], "level": rule["severity"],
            "summary": f"whether {rule['summary']}",
            "outcome": outcomes.get(rule["code"], "passed") if rule["judged"] else "not judged",
        }
        for rule in summary["rules"]
    ]  # fmt: skip
    rules.sort(key=lambda rule: (OUTCOMES.index(rule["outcome"]), -rule["findings"]))
    found, ignored = (
        [_listed(item) for item in _worst_first(summary[key])] for key in ("findings", "ignored")
    )
    first, filters = ("severity", False), ("severity", "state", "rule")
    return [
        Sheet("findings", "Findings", found, OF_FINDING, first, filters, JUDGED),
        Sheet("ignored", "Ignored findings", ignored, OF_ACCEPTED, first, ("rule",), JUDGED),
        Sheet("rules", "Rules", rules, OF_RULE, ("outcome", False), ("outcome",)),
    ]


def _outcomes(present: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the worst that each rule found, worst first; what the baseline has too is known."""
    found: dict[str, str] = {}
    for item in sorted(present, key=lambda item: item.get("state") == "unchanged"):
        known = item.get("state") == "unchanged"
        found.setdefault(item["rule"], "known" if known else item["severity"])
    return found


def _worst(document: Document) -> Iterator[Worst]:
    """Yield findings, those that the baseline does not have first."""
    for item in _present(document):
        if item["severity"] == "note":
            continue
        state = f" ({item['state']})" if item.get("state") else ""
        text = f"{item['rule']} {item['name']}: {item['message']}{state}"
        name = item.get("matrix") or item.get("tensor")
        yield Worst(
            item["severity"], name, printable(text), item.get("matrix") is not None,
            _fact(item), known=item.get("state") == "unchanged",
            vector=item.get("role") == VECTOR, covers=COVERS.get(item["name"], ()),
        )  # fmt: skip


def _fact(item: Mapping[str, Any]) -> str:
    """Return what a finding is about: the number that its rule judges, or the rule's name."""
    judge = getattr(RULES.get(item["rule"]), "judge", None)
    return ABOUT.get(item["name"]) or (judge.key if isinstance(judge, Threshold) else item["name"])


def _settled(document: Document) -> set[str]:
    """Return what its rules judged."""
    rules = document["summary"]["rules"]
    return {_fact({**rule, "rule": rule["code"]}) for rule in rules if rule["judged"]}


def _present(document: Document) -> list[Mapping[str, Any]]:
    return _worst_first(
        one for one in document["summary"]["findings"] if one.get("state") != "gone"
    )


def _worst_first(findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(
        findings,
        key=lambda one: (SEVERITIES.index(one["severity"]), one.get("state") != "new"),
    )


def _listed(item: Mapping[str, Any]) -> dict[str, Any]:
    """Name a finding's keys as columns are; a tensor only where it is no matrix."""
    tensor = item.get("tensor") if item.get("matrix") is None else None
    return {**item, "rule_name": item["name"], "tensor": tensor}


def _words(document: Document) -> list[tuple[str, ...]]:
    policy = document["summary"].get("policy")
    return [("--policy", policy) if isinstance(policy, str) and policy else ("--isolated",)]


KIND = Kind(
    "check",
    "Release check",
    task=("measurement", "measurements"),
    order=(("intruders", True), ("kappa", True)),
    table=_table, card=_card,
    under=lambda document: policy_line(verdict_of(document)),
    facts=_facts, figures=_figures, hints=_hints,
    visible=(
        "sigma_max", "kappa", "stable_rank", "alpha", "delta_relative", "intruders", "worst_cos",
    ),
    metrics=(
        Metric("findings", "count", "high", shades.findings, shades.OF_COUNTS),
        Metric("kappa", "log", "high", shades.conditioning, shades.OF_KAPPA),
        Metric("intruders", "count", "high", shades.intruders, shades.OF_INTRUDERS),
        Metric("sigma_max", "log"), Metric("stable_rank", "log"), Metric("alpha", "linear"),
        Metric("delta_relative", "linear"),
    ),
    sheets=_sheets, worst=_worst, settles=_settled, judges=True, parts=("model",), words=_words,
    options={
        "base": None, "adapter": None, "baseline": None, "fail_on": "error", "min_coverage": 0.0,
        "select": ["SPC"], "ignore": [],
    },
    settings={"select": TEXTS.older, "ignore": TEXTS.older},
    summary={
        "passed": FLAG, "exit_code": Words((0, 1, 3)).older, "alias": TEXT.older,
        "policy": TEXT.nullable.older, "findings": Items(Object(FINDING, closed=True)),
        "ignored": Items(Object(ACCEPTED, closed=True)), "counts": Object(COUNTS, closed=True),
        "coverage": COVERAGE, "rules": Items(RULE), "matrices": COUNT.older,
        "merge": MERGE.sometimes,
    },
)  # fmt: skip
