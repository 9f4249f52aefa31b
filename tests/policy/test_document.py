import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import UsageError
from spectra.policy import Ignore, Override, Policy
from spectra.policy.document import MAX_POLICY, find_policy, read_policy

EXAMPLE = """\
schema = 1
[check]
select = ["SPC0", "SPC1", "condition-number"]
fail-on = "warning"
fail-unchanged = true
baseline = "hf://acme/qwen-sft@v1.2"
min-coverage = "99.5%"
tolerance = 0.1
alias = "qwen-sft"
[rules.intruder-dimensions]
severity = "warn"
cosine = 0.4
top-k = 20
max = 4
[rules.SPC201]
warn = 1e4
error = 1e6
max-regression = "7 %"
[rules.SPC105]
allowed = ["*.mlp.*"]
[rules.SPC3]
severity = "off"
[rules.SPC301]
outlier = "off"
[[override]]
tensors = ["*embed_tokens.weight", "lm_head.weight"]
off = ["SPC2"]
[override.rules.SPC102]
max = 0.5
[[ignore]]
code = "SPC101"
tensors = ["model.layers.31.mlp.down_proj.weight"]
reason = "known outlier, issue 42"
until = 2027-03-01
[[ignore]]
code = "delta-size"
reason = "a large full fine-tune"
until = "2027-04-01"
"""


def written(folder: Path, text: str, name: str = "spectra.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str) -> Policy:
    return read_policy(written(folder, text))


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_policy(path)
    text = str(caught.value)
    assert text.isprintable(), "one line"
    assert text.endswith((".", "?"))
    return text.removeprefix(f"{path}:").removeprefix(str(path)).strip()


def outcome(path: Path) -> str:
    try:
        read_policy(path)
    except UsageError as error:
        return str(error)
    return "read"


def test_every_key_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, EXAMPLE)
    assert found == Policy(
        path=str(tmp_path / "spectra.toml"),
        alias="qwen-sft",
        select=("SPC0", "SPC1", "SPC201"),
        fail_on="warning",
        fail_unchanged=True,
        baseline="hf://acme/qwen-sft@v1.2",
        min_coverage=0.995,
        tolerance=0.1,
        rules={
            "SPC101": {"severity": "warning", "cosine": 0.4, "top-k": 20, "max": 4.0},
            "SPC105": {"allowed": ("*.mlp.*",)},
            "SPC201": {"warn": 1e4, "error": 1e6, "max-regression": 0.07},
            "SPC301": {"severity": "off", "outlier": None},
            "SPC302": {"severity": "off"},
            "SPC303": {"severity": "off"},
        },
        overrides=(
            Override(
                ("*embed_tokens.weight", "lm_head.weight"),
                ("SPC2",),
                {"SPC102": {"max": 0.5, "warn": None}},
            ),
        ),
        ignores=(
            Ignore(
                "SPC101",
                "known outlier, issue 42",
                ("model.layers.31.mlp.down_proj.weight",),
                dt.date(2027, 3, 1),
            ),
            Ignore("SPC102", "a large full fine-tune", (), dt.date(2027, 4, 1)),
        ),
    )


def test_findings_about_the_policy_can_point_at_its_lines(tmp_path: Path) -> None:
    found = read(tmp_path, EXAMPLE)
    assert [one.line for one in found.overrides] == [25]
    assert [one.line for one in found.ignores] == [30, 35]
    assert found.lines == {"SPC101": 10, "SPC201": 15, "SPC105": 19, "SPC301": 23}


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Policy(path=str(tmp_path / "spectra.toml"))


@pytest.mark.parametrize("severity", ["error", "off"])
def test_a_rules_own_table_goes_before_that_of_its_group(tmp_path: Path, severity: str) -> None:
    own = f'[rules.SPC203]\nseverity = "{severity}"\n'
    groups = '[rules.SPC20]\nseverity = "note"\n[rules.SPC2]\nseverity = "warning"\n'
    for text in (own + groups, groups + own):
        found = read(tmp_path, text).rules
        assert found["SPC203"] == {"severity": severity}
        assert found["SPC204"] == {"severity": "note"}


def test_a_limit_of_ones_own_sets_the_defaults_of_the_others_aside(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "[rules.SPC101]\nwarn = 3\n[rules.SPC102]\nmax-regression = 0.1\n"
        '[[override]]\ntensors = ["a"]\nrules = {SPC101 = {error = 9}, SPC102 = {error = 9}}\n'
        "[rules.SPC301]\nmin = 0.2\n",
    )
    assert found.rules["SPC101"] == {"warn": 3.0, "max": None}
    assert found.rules["SPC102"] == {"max-regression": 0.1}
    assert found.rules["SPC301"] == {"min": 0.2}
    assert found.overrides[0].rules == {
        "SPC101": {"error": 9.0},  # `max` is set aside already
        "SPC102": {"error": 9.0, "max": None, "warn": None},
    }


def test_an_override_leaves_the_limits_that_the_policy_sets(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        '[rules.SPC101]\nmax = 3\n[[override]]\ntensors = ["a"]\nrules = {SPC101 = {error = 9}}\n',
    )
    assert found.overrides[0].rules == {"SPC101": {"error": 9.0}}


BAD = {
    "schema = 2": "1: schema is 2, expected 1",
    'schema = "1"': "1: schema is '1', expected 1",
    "schema = true": "1: schema is true, expected 1",
    "\nchecks = 1": "2: checks is unknown. Did you mean 'check'?",
    "zebra = 1": "1: zebra is unknown. Expected schema, check, rules, override, ignore.",
    'fail-on = "error"': "1: fail-on stands at the top, but belongs under [check].",
    "check = 3": "1: check is 3, expected a table.",
    'ignore = ["SPC0"]': "1: ignore is 'SPC0', expected a table, [[ignore]]. Rules are left out "
    "under [check].",
    '[check]\nfail_on = "error"': "2: check.fail_on is unknown. Did you mean 'fail-on'?",
    '[check]\nfail-on = "eror"': "2: check.fail-on is 'eror', expected one of error, warning, "
    "note, never. Did you mean 'error'?",
    "[check]\nfail-unchanged = 1": "2: check.fail-unchanged is 1, expected true or false.",
    "[check]\nselect = []": "2: check.select is empty",
    '[check]\nselect = "SPC1"': "2: check.select is 'SPC1', expected a list",
    "[check]\nselect = [1]": "2: check.select is 1, expected a text",
    '[check]\nselect = ["SPC999"]': "2: check.select names 'SPC999', which is no rule.",
    '[check]\nselect = ["intruder-dimension"]': "Did you mean 'intruder-dimensions'?",
    '[check]\nignore = ["SPC1", "SPC1"]': "2: check.ignore has 'SPC1' twice.",
    '[check]\nbase = " "': "2: check.base is blank",
    "[check]\nalias = false": "2: check.alias is false, expected a text",
    '[check]\nmin-coverage = "101%"': "2: check.min-coverage is '101%', expected at most 1",
    "[check]\nmin-coverage = 99": "2: check.min-coverage is 99, expected at most 1",
    "[check]\nmin-coverage = -0.1": "2: check.min-coverage is -0.1, expected 0 or more",
    "[check]\ntolerance = nan": "2: check.tolerance is nan, expected finite",
    '[check]\ntolerance = "ten"': "2: check.tolerance is 'ten', expected a share",
    '[check]\ntolerance = "10%\\n"': "2: check.tolerance is '10%\\n', expected a share",
    "[rules]\nSPC101 = 4": "2: rules.SPC101 is 4, expected a table.",
    "rules = []": "1: rules is an empty list, expected a table of rules",
    "[rules.SPC999]": "1: rules.SPC999 is no rule.",
    "[rules.spc101]": "1: rules.spc101 is no rule. Did you mean 'SPC101'?",
    "[rules.intruder-dimension]": "Did you mean 'intruder-dimensions'?",
    '[rules."a\\nb"]': "1: rules.'a\\nb' is no rule.",
    "[rules.SPC101]\n[rules.intruder-dimensions]": "2: rules.intruder-dimensions means SPC101, "
    "which has a table already.",
    '[rules.SPC101]\nseverity = "fatal"': "2: rules.SPC101.severity is 'fatal', expected one of",
    "[rules.SPC101]\nmx = 3": "2: rules.SPC101.mx is unknown. Did you mean 'max'?",
    '[rules.SPC101]\nmax = "x"': "2: rules.SPC101.max is 'x', expected a number, or \"off\".",
    "[rules.SPC101]\nmax = true": "2: rules.SPC101.max is true, expected a number",
    "[rules.SPC101]\nmax = inf": "2: rules.SPC101.max is inf, expected finite",
    f"[rules.SPC101]\nmax = {'9' * 400}": "2: rules.SPC101.max is an enormous number",
    "[rules.SPC101]\ntop-k = 0": "2: rules.SPC101.top-k is 0, expected more than 0.",
    "[rules.SPC101]\ntop-k = 1.5": "2: rules.SPC101.top-k is 1.5, expected a whole number",
    "[rules.SPC101]\ncosine = 1": "2: rules.SPC101.cosine is 1, expected less than 1.",
    '[rules.SPC101]\ncosine = "off"': "2: rules.SPC101.cosine is 'off', expected a number.",
    "[rules.SPC202]\noutlier = 1": "2: rules.SPC202.outlier is 1, expected more than 1.",
    '[rules.SPC401]\ntolerance = "0%"': "2: rules.SPC401.tolerance is '0%', expected more than 0.",
    "[rules.SPC301]\nrank = 1.5": "2: rules.SPC301.rank is 1.5, expected at most 1.",
    '[rules.SPC105]\nallowed = ""': "2: rules.SPC105.allowed is '', expected a list of texts",
    "[rules.SPC401]\nproxy = 1": "2: rules.SPC401.proxy is 1, expected a text",
    "[rules.SPC2]\nmax = 3": "2: rules.SPC2.max stands for several rules",
    "[rules.SPC3]\nwarn = 1\nmax = 3\nmin = 2": "2: rules.SPC3.warn stands for several rules",
    "[rules.SPC302]\nmin = 6\nmax = 2": "1: rules.SPC302 has min 6 and max 2: every value",
    "[rules.SPC201]\nwarn = 4\nerror = 3": "1: rules.SPC201 has warn 4 beyond error 3",
    "[rules.SPC201]\nwarn = 4\nmax = 3": "1: rules.SPC201 has warn 4 beyond max 3",
    "[rules.SPC301]\nwarn = 0.1\nerror = 0.2": "1: rules.SPC301 has warn 0.1 beyond error 0.2",
    '[rules.SPC201]\nwarn = 4\n[[override]]\ntensors = ["a"]\nrules.SPC201.error = 3': "5: "
    "override.rules.SPC201 has warn 4 beyond error 3",
    '[override]\ntensors = ["a"]': "1: override is a table, expected tables of a list: write "
    "[[override]].",
    '[[override]]\noff = ["SPC1"]': "1: override has no tensors.",
    '[[override]]\ntensors = []\noff = ["SPC1"]': "2: override.tensors is empty",
    '[[override]]\ntensors = [""]\noff = ["SPC1"]': "2: override.tensors is blank",
    '[[override]]\ntensors = ["a"]': "1: override changes nothing.",
    '[[override]]\ntensors = ["a"]\nrules = {SPC101 = {cosine = 0.4}}': "3: "
    "override.rules.SPC101.cosine is read once for the whole model.",
    '[[override]]\ntensors = ["a"]\n[override.rules.SPC2]': "3: override.rules.SPC2 is empty",
    '[[override]]\ntensors = ["a"]\nrules = {SPC101 = {}}': "3: override.rules.SPC101 is empty",
    '\n[[ignore]]\nreason = "x"': "2: ignore has no code.",
    '[[ignore]]\ncode = "SPC1"': "1: ignore has no reason.",
    '[[ignore]]\ncode = "SPC1"\nreason = " "': "3: ignore.reason is blank",
    '[[ignore]]\ncode = "SPC1"\nreason = "x"\ntensors = []': "4: ignore.tensors is empty",
    '[[ignore]]\ncode = "SPC901"\nreason = "x"': "2: ignore.code is SPC901, but what is found",
    '[[ignore]]\ncode = "SPC1"\nreason = "x"\nuntil = 2027': "4: ignore.until is 2027, expected a "
    "day, like 2027-03-01.",
    '[[ignore]]\ncode = "SPC1"\nreason = "x"\nuntil = "2027-02-30"': "4: ignore.until is "
    "'2027-02-30', expected a day",
    '[[ignore]]\ncode = "SPC1"\nreason = "x"\nuntil = 2027-02-03T10:00:00': "4: ignore.until is "
    "2027-02-03T10:00:00, expected a day",
    '[[ignore]]\ncode = "SPC1"\nreason = "x"\n[[ignore]]\ncode = "SPC1"\nreason = "y"': "4: "
    "ignore accepts SPC1 on the same tensors twice.",
    '[[ignore]]\ncod = "SPC1"\nreason = "x"': "2: ignore.cod is unknown. Did you mean 'code'?",
    "a = 1\nb = \n": "2: is not TOML: Invalid value.",
    "a = 1\n[": "2: is not TOML",
    f"a = {'9' * 5000}": "is not TOML: a value cannot be read.",
    f"a = {'[' * 5000}": "is not a policy: tables in tables without end.",
    "\ufeffschema = 1": "1: starts with a byte order mark",
}


@pytest.mark.parametrize(("text", "told"), BAD.items(), ids=[str(n) for n in range(len(BAD))])
def test_what_cannot_be_meant_is_refused_with_its_line(
    tmp_path: Path, text: str, told: str
) -> None:
    assert told in refusal(written(tmp_path, text))


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.toml")
    assert "is a folder" in refusal(tmp_path)
    large = written(tmp_path, "#" * (MAX_POLICY + 1))
    assert "has more than 1,000,000 bytes" in refusal(large)
    assert read(tmp_path, "#" * MAX_POLICY).rules == {}
    latin = tmp_path / "latin.toml"
    latin.write_bytes("schema = 1\n# naïve".encode("latin-1"))
    assert "2: is not UTF-8." in refusal(latin)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(workshop: Path, text: str) -> None:
    path = written(workshop, text.encode("utf-8", "replace").decode())
    assert outcome(path).isprintable()


@given(st.integers(0, len(EXAMPLE)), st.integers(1, 12), st.sampled_from(["", "[", "9", '"', "="]))
def test_a_damaged_policy_is_read_or_refused_in_one_line(
    workshop: Path, place: int, length: int, put: str
) -> None:
    text = EXAMPLE[:place] + put + EXAMPLE[place + length :]
    assert outcome(written(workshop, text)).isprintable()


def test_a_pyproject_holds_a_policy_in_its_table(tmp_path: Path) -> None:
    text = '[tool.other]\nx = 1\n[tool.spectra.check]\nalias = "a"\n[[tool.spectra.ignore]]\n'
    path = written(tmp_path, text + 'code = "SPC1"\nreason = "x"\n', "pyproject.toml")
    found = read_policy(path)
    assert (found.alias, found.ignores[0].line) == ("a", 5)
    written(tmp_path, f'{text}code = 1\nreason = "x"', "pyproject.toml")
    assert refusal(path).startswith("6: tool.spectra.ignore.code is 1")
    written(tmp_path, "[tool.spectra]\nalias = 1\n", "pyproject.toml")
    assert "belongs under [tool.spectra.check]" in refusal(path)
    written(tmp_path, "[tool.other]\n", "pyproject.toml")
    assert refusal(path).startswith("has no [tool.spectra].")
    written(tmp_path, "[tool]\nspectra = 1\n", "pyproject.toml")
    assert "tool.spectra is no table" in refusal(path)


def test_the_closest_file_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    written(tmp_path, "")
    assert find_policy(inner) == tmp_path / "spectra.toml"
    project = written(tmp_path / "a", "[tool.spectra]\n", "pyproject.toml")
    assert find_policy(inner) == project
    plain = written(tmp_path / "a", "")
    assert find_policy(inner) == plain
    hidden = written(tmp_path / "a", "", ".spectra.toml")
    assert find_policy(inner) == hidden
    assert find_policy(tmp_path) == tmp_path / "spectra.toml"


def test_a_pyproject_without_a_policy_is_passed_over(tmp_path: Path) -> None:
    inner = tmp_path / "a"
    inner.mkdir()
    written(tmp_path, "")
    written(inner, "[tool.ruff]\n", "pyproject.toml")
    assert find_policy(inner) == tmp_path / "spectra.toml"
    written(inner, "[tool.ruff\n", "pyproject.toml")
    assert find_policy(inner) == tmp_path / "spectra.toml"


def test_a_broken_pyproject_with_a_policy_is_not_passed_over(tmp_path: Path) -> None:
    broken = written(tmp_path, "[tool.spectra.check]\nselect = [\n", "pyproject.toml")
    assert find_policy(tmp_path) == broken
    assert "is not TOML" in refusal(broken)


def test_references_are_from_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "acme" / "old").mkdir(parents=True)
    text = '[check]\nbase = "acme/old"\nbaseline = "../new"\nadapter = "org/name"\n'
    text += f'[rules.SPC401]\nproxy = "acme/old"\n[[override]]\ntensors=["{"a" * 300}"]\n'
    path = written(home, text + 'off = ["SPC1"]\n')
    monkeypatch.chdir(tmp_path)
    found = read_policy(Path("home/spectra.toml"))
    assert (found.base, found.baseline) == ("home/acme/old", "home/../new")
    assert found.adapter == "org/name"
    assert found.rules["SPC401"]["proxy"] == "home/acme/old"
    monkeypatch.chdir(home)
    assert (read_policy(path).base, read_policy(path).baseline) == ("acme/old", "../new")


def test_a_reference_that_no_file_could_have_stays(tmp_path: Path) -> None:
    name = "a" * 5000
    assert read(tmp_path, f'[check]\nbase = "{name}"\nbaseline = "a\\u0000"\n').base == name
