"""axolotl: `unfrozen_parameters`, patterns of which only those ending in a range cut deeper.

Its matcher turns every dot of a pattern into an escaped one, then fits it to the beginning
of each parameter's name. So dots are written bare here, everything else that means something
in a pattern is escaped, and `^` and `$` hold both ends. After `$` may stand a range of the
first axis: gradients outside it are set to zero.
"""

import re
from collections.abc import Iterable, Sequence

from spectra.exports.export import Export, Job, notes_on, notes_on_quantised, require_exact
from spectra.exports.parameters import Target
from spectra.exports.text import comments, quoted

_SPECIAL = re.compile(r"[\\^$*+?{}\[\]|()]")  # all but the dot, which axolotl itself escapes
_RANGE = re.compile(r"(.+)\[([0-9]*)(?::([0-9]*))?\]")
_TOP = re.compile(r"(?:h|layers?|blocks)\.\d+\.")
ANY_PREFIX = "([^.]+.)?"  # one module, once its dots are escaped

RANGES = (
    "Outside a [start:stop] range axolotl sets gradients to zero, but weight decay still acts "
    "there: set weight_decay to 0."
)


def write(job: Job) -> Export:
    """Return the export.

    Raises:
        UsageError: A pattern would hit another name, or not its own.
    """
    wanted = [target.name for target in job.targets]
    prefix = ANY_PREFIX if any(_TOP.match(name) for name in job.parameters) else ""
    if prefix and set(hit_by_patterns(patterns_of(job.targets, prefix), job.parameters)) != {
        *wanted
    }:
        prefix = ""
    patterns = patterns_of(job.targets, prefix)
    require_exact("axolotl", wanted, hit_by_patterns(patterns, job.parameters))
    ranged = any(not target.is_whole for target in job.targets)
    notes = [*notes_on(job.targets, spans=True), *notes_on_quantised(job)]
    notes += [RANGES] if ranged else []
    told = [target.told(spans=True) for target in job.targets]
    text = (
        "# Trains exactly these parameters of the model in full; leave `adapter` unset.\n"
        + comments([*told, RANGES if ranged else ""])
        + "unfrozen_parameters:\n"
        + "".join(f"  - {quoted(pattern)}\n" for pattern in patterns)
    )
    return Export("axolotl", {".yaml": text}, tuple(notes))


def patterns_of(targets: Sequence[Target], prefix: str = "") -> list[str]:
    """Return the patterns, one for each range of a parameter that is not whole."""
    patterns = []
    for target in targets:
        whole = f"^{prefix}{escaped(target.name)}$"
        if target.is_whole:
            patterns.append(whole)
        else:
            patterns += [f"{whole}[{start}:{stop}]" for start, stop in target.spans]
    return patterns


def escaped(name: str) -> str:
    """Escape what means something in a pattern, but for dots."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], name)


def hit_by_patterns(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the names that axolotl finds with these patterns."""
    found = {compiled(pattern) for pattern in patterns}
    return [name for name in names if any(one.match(name) for one in found)]


def compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression that axolotl makes of a pattern, without its range."""
    ranged = _RANGE.fullmatch(pattern)
    return re.compile((ranged[1] if ranged else pattern).replace(".", "\\."))
