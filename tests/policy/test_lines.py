import tomllib

from hypothesis import given
from hypothesis import strategies as st

from spectra.policy.lines import Keys, lines_of, nearest
from spectra.policy.writing import toml

TRICKY = '''
# [check]
schema = 1 # [[ignore]]
[check]   # of the whole
select = [ # [rules]
  "a]\\"b", 'c[', [ { d = "]" } ],
]
base = """
[[ignore]]
code = 1
"""" # " [
alias = \'\'\'
[[override]]\'\'\'
[ rules . "SPC101" ]
max = 4
'odd.key'.deep = 1979-05-27T07:32:00
[[override]]
tensors = ["a"]
[override.rules.SPC202]
max = 1e6
[[override]]
rules = {SPC201 = {max = 1e6}}
[[ ignore ]]
until = 2027-03-01
'''


def test_headers_and_keys_have_their_lines() -> None:
    tomllib.loads(TRICKY)
    assert lines_of(TRICKY) == {
        ("schema",): 3,
        ("check",): 4,
        ("check", "select"): 5,
        ("check", "base"): 8,
        ("check", "alias"): 12,
        ("rules",): 14,
        ("rules", "SPC101"): 14,
        ("rules", "SPC101", "max"): 15,
        ("rules", "SPC101", "odd.key"): 16,
        ("rules", "SPC101", "odd.key", "deep"): 16,
        ("override", 0): 17,
        ("override", 0, "tensors"): 18,
        ("override", 0, "rules"): 19,
        ("override", 0, "rules", "SPC202"): 19,
        ("override", 0, "rules", "SPC202", "max"): 20,
        ("override", 1): 21,
        ("override", 1, "rules"): 22,
        ("ignore", 0): 23,
        ("ignore", 0, "until"): 24,
    }


def test_a_key_of_an_inline_table_has_the_line_of_the_closest_that_is_known() -> None:
    found = lines_of(TRICKY)
    assert nearest(found, ("override", 1, "rules", "SPC201", "max")) == 22
    assert nearest(found, ("missing",)) is None


def test_windows_lines_count_once() -> None:
    assert lines_of('a = """\r\n[b]\r\n"""\r\n[c]\r\n') == {("a",): 1, ("c",): 4}


_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.dictionaries(_WORDS, st.lists(_WORDS, max_size=3), max_size=6), st.data())
def test_no_text_is_taken_for_a_table(tables: dict[str, list[str]], data: st.DataObject) -> None:
    lines: list[str] = []
    expected: dict[Keys, int] = {}
    for name, words in tables.items():
        lines.append(f"[{toml(name)}] # {data.draw(st.sampled_from(['', '[x]', 'a = 1']))}")
        expected[name,] = len(lines)
        lines.append(f"key = {toml(words)}")
        expected[name, "key"] = len(lines)
        lines += ["", "# [not] = 1"]
    text = "\n".join(lines)
    assert tomllib.loads(text) == {name: {"key": words} for name, words in tables.items()}
    assert lines_of(text) == expected
