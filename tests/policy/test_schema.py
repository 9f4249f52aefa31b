import json
import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from policy.test_document import BAD, EXAMPLE
from spectra.errors import UsageError
from spectra.policy import RULES, Ignore, Override, Policy, Setting
from spectra.policy.document import read_policy
from spectra.policy.kinds import SEVERITY_WORDS
from spectra.policy.schema import schema, schema_text
from spectra.policy.table import CHECK, IGNORE, OVERRIDE, TOP
from spectra.policy.writing import toml

DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = DOCS / "policy.schema.json"
PAGE = (DOCS / "policy.md").read_text(encoding="utf-8")

GOOD = [
    "",
    EXAMPLE,
    "schema = 1.0",
    '[check]\nselect = ["SPC", "SPC1", "SPC10", "SPC101", "spikes"]\nignore = []',
    '[check]\nmin-coverage = "100%"\ntolerance = "250%"',
    "[check]\nmin-coverage = 1\ntolerance = 3",
    '[check]\nfail-on = "never"\nfail-unchanged = false',
    '[check]\nbase = "a"\nadapter = "b"\nbaseline = "c"',
    '[rules.SPC]\nseverity = "note"',
    '[rules.SPC101]\n[rules.SPC1]\n[rules.delta-size]\nseverity = "warn"',
    '[rules.SPC202]\noutlier = "off"\nmax = -1e300',
    "[rules.SPC101]\ntop-k = 10.0\ncosine = 0.999",
    '[rules.SPC401]\nproxy = "off"\ntolerance = "99.9 %"',
    '[rules.SPC105]\nallowed = []\n[rules.SPC104]\nexpect = "off"\nshare = 1',
    '[rules.SPC301]\nrank = "100.0%"\nmax-regression = "100.5%"',
    '[[override]]\ntensors = ["a"]\nrules = {spikes.max = 4, SPC2.severity = "off"}',
    '[[ignore]]\ncode = "SPC"\nreason = "x"\nuntil = 2024-02-29',
    "override = []\nignore = []\nrules = {}\ncheck = {}",
]

BEYOND = (
    "which has no table", "has min ", "has warn ", "on the same tensors twice", "not TOML",
    "without end", "10%\\n", "byte order mark", "expected finite", "an enormous number",
)  # fmt: skip
"""What two values are to each other, and what JSON or its patterns do not have."""


def accepts(text: str) -> bool:
    """As an editor does, which knows of TOML's dates what they are as text."""
    document = json.loads(json.dumps(tomllib.loads(text), default=lambda day: day.isoformat()))
    check = jsonschema.Draft202012Validator(
        schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return bool(check.is_valid(document))


def reads(folder: Path, text: str) -> bool:
    path = folder / "spectra.toml"
    path.write_text(text, encoding="utf-8")
    try:
        read_policy(path)
    except UsageError:
        return False
    return True


def test_the_published_schema_is_this_one() -> None:
    again = "python -c 'from spectra.policy.schema import schema_text as s; print(s(), end=\"\")'"
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), f"{again} > {PUBLISHED}"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("text", GOOD, ids=[str(n) for n in range(len(GOOD))])
def test_both_accept(tmp_path: Path, text: str) -> None:
    assert accepts(text)
    assert reads(tmp_path, text)


SHARED = [text for text, told in BAD.items() if not any(word in told for word in BEYOND)]


@pytest.mark.parametrize("text", SHARED, ids=[str(n) for n in range(len(SHARED))])
def test_both_refuse(tmp_path: Path, text: str) -> None:
    assert not accepts(text)
    assert not reads(tmp_path, text)


def test_most_refusals_are_the_schemas_too() -> None:
    assert len(SHARED) > 3 * len(BAD) / 4


def test_it_refuses_a_rule_by_code_and_name() -> None:
    assert not accepts("[rules.SPC101]\n[rules.intruder-dimensions]")


def test_it_knows_every_key_and_no_other() -> None:
    found: dict[str, Any] = schema()["properties"]
    assert set(found) == set(TOP)
    assert set(found["check"]["properties"]) == set(CHECK)
    assert set(found["override"]["items"]["properties"]) == {*OVERRIDE, "rules"}
    assert set(found["ignore"]["items"]["properties"]) == set(IGNORE)


@pytest.mark.parametrize(
    ("table", "keys"), [(Policy, CHECK), (Override, OVERRIDE), (Ignore, IGNORE)]
)
def test_every_key_sets_a_field(table: type[Policy], keys: dict[str, Setting]) -> None:
    known = {field.name: field for field in fields(table)}
    for one in keys.values():
        required = known[one.field].default is MISSING
        assert required == bool(one.missing)
        assert required or known[one.field].default == one.default


@pytest.mark.parametrize("code", RULES)
def test_it_knows_every_setting_with_its_help(code: str) -> None:
    rule = RULES[code]
    for suffix, settings in (
        ("", rule.settings),
        ("-override", [one for one in rule.settings if not one.whole]),
    ):
        found = schema()["$defs"][f"{code}{suffix}"]["properties"]
        assert set(found) == {"severity", *(one.key for one in settings)}
        assert all(one.help in found[one.key]["description"] for one in settings)


def test_the_pages_examples_are_policies(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 3
    for text in examples:
        assert accepts(text)
        assert reads(tmp_path, text)


def test_the_pages_refusal_is_what_is_said(tmp_path: Path) -> None:
    example = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
    path = tmp_path / "spectra.toml"
    path.write_text(example.replace("\nmax = 4\n", "\nmx = 4\n"), encoding="utf-8")
    told = re.findall(r"error: (spectra\.toml:.*)", PAGE)
    with pytest.raises(UsageError) as caught:
        read_policy(path)
    assert [str(caught.value).removeprefix(f"{tmp_path}/")] == told


def test_the_page_has_every_key_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
    assert set(CHECK) <= set(rows)
    for key, one in CHECK.items():
        default = getattr(Policy(), one.field)
        told = "from the model's name" if key == "alias" else "not set"
        assert rows[key] == (told if default is None else f"`{toml(default)}`")
    assert all(f"`{key}`" in PAGE for key in (*OVERRIDE, *IGNORE, *SEVERITY_WORDS))
