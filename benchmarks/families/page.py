"""The table of families as a page of the documentation."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import peft
import transformers as hf

from benchmarks.families.outcome import FORMS, Outcome

NAMED = re.compile(
    r"'[^']*'|(?<=a candidate: )\S+|(?<=of the family )[\w-]+|(?<=` of )[\w-]+"
    r"|(?<=of shape )\[[0-9, ]+\]|(?<=convolution in )[0-9,]+"
)
PATH = Path(__file__).parents[2] / "docs" / "families.md"

HEAD = """# Families

Every family that transformers {transformers} can build tiny: `kappa --select 40%`, exported in
three forms, and what became of the export in the model that `from_pretrained` loads: with PEFT
{peft}, with axolotl's rule of matching names, and by running the Python file. Written by
`python -m benchmarks.families`.

- **exact**: trained is what the selected matrices become, and nothing else. What that is was found
  by changing them in the file and loading it again.
- **refused**: exit code 2 and one line; the reason is below the table, by its letter.
- **matrices**: tensors of two dimensions and more that are read as matrices; *by name*: those that
  `ls -v` gives a reason for.

{counts}

| model_type | class | matrices | {forms} |
|---|---|---|{lines}|
"""


def page(found: Sequence[Outcome], unbuilt: Mapping[str, str]) -> str:
    """Return the page: a row for each family, then reasons, then what cannot be built here."""
    reasons: dict[str, str] = {}
    rows = [row(one, reasons) for one in found]
    counts = {form: Counter(one.forms[form].partition(":")[0] for one in found) for form in FORMS}
    told = "\n".join(
        f"- `{form}`: " + ", ".join(f"{number} {word}" for word, number in count.most_common())
        for form, count in counts.items()
    )
    head = HEAD.format(
        transformers=hf.__version__, peft=peft.__version__, counts=told,
        forms=" | ".join(FORMS), lines="|".join("---" for _ in FORMS),
    )  # fmt: skip
    text = head + "".join(rows)
    text += "\n## Reasons\n\n| | |\n|---|---|\n"
    text += "".join(f"| {mark} | {cell(reason)} |\n" for reason, mark in reasons.items())
    text += f"\n## Not built\n\n{len(unbuilt)} families cannot be built here.\n\n| | |\n|---|---|\n"
    return text + "".join(f"| `{name}` | {cell(why)} |\n" for name, why in unbuilt.items())


def row(one: Outcome, reasons: dict[str, str]) -> str:
    """Return one row; reasons get letters as they come."""
    cells = [f"`{one.family}`", one.model, one.accounted]
    for form in FORMS:
        word, _, why = one.forms[form].partition(": ")
        if why:
            word += " " + reasons.setdefault(general(why), letters(len(reasons)))
        cells.append(word)
    return "| " + " | ".join(cells) + " |\n"


def general(reason: str) -> str:
    """Return a reason without the names of tensors and families, so that families share it."""
    return NAMED.sub("X", reason)


def letters(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    last = chr(ord("a") + number % 26)
    return (letters(number // 26 - 1) if number >= 26 else "") + last


def cell(text: str) -> str:
    """Return text that stays within a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
