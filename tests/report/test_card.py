"""The section of a model card: what it says, and that names in it mean nothing else."""

import re

import pytest

from report.html import documents
from spectra.report.card import MOST, card, code, text

ALL = documents.EVERY | documents.SERIES


@pytest.mark.parametrize("name", ALL)
def test_a_card_has_a_sentence_figures_and_the_command(name: str) -> None:
    document = ALL[name]()
    found = card([document])
    assert found.startswith("## What the weights say\n\n")
    assert text(document["summary"]["reading"].partition("  ")[0]) in found
    lead = "spectrum --trend" if name == "trend" else name
    assert re.search(rf"```sh\nspectra {lead} .*\n```\n\Z", found)
    assert "by spectra 0.1.0:" in found
    kind = "tensors" if name == "check" else "matrices"
    assert f"{kind} **{len(document['rows'])}**" in found
    assert found == card([ALL[name]()])


def rows_of(found: str) -> list[list[str]]:
    lines = [line for line in found.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines]


def test_the_worst_rows_are_those_of_the_document() -> None:
    document = documents.spectrum(8)
    worst = sorted(document["rows"], key=lambda row: -row["kappa"])[:MOST]
    head, _, *rows = rows_of(card([document]))
    assert head == ["matrix", "κ", "σ max", "stable rank", "α"]
    assert [row[0] for row in rows] == [f"`{row['matrix']}`" for row in worst]
    assert "52 more." in card([document])


def test_of_a_selection_the_selected_are_shown() -> None:
    document = documents.kappa(8)
    _, _, *rows = rows_of(card([document]))
    assert [row[0] for row in rows] == [f"`{name}`" for name in document["summary"]["selected"]]


def test_without_intruders_there_is_no_table_of_them() -> None:
    document = documents.diff(2)
    for row in document["rows"]:
        row["intruders"] = 0
    assert rows_of(card([document])) == []
    document["settings"]["intruders"] = False
    head, _, *rows = rows_of(card([document]))
    assert "change" in head
    assert len(rows) == MOST


def test_a_check_gives_its_verdict_and_errors_first() -> None:
    document = documents.check()
    document["summary"]["findings"][3]["state"] = "gone"
    found = card([document])
    assert "**FAIL** 2 errors, 1 warning in 29 tensors" in found
    _, _, *rows = rows_of(found)
    assert [row[0] for row in rows] == ["error", "error", "warning"]
    assert rows[0][1:] == [
        "SPC002 non-finite", "`model.layers.0.self_attn.q_proj.weight`",
        "3 NaN, first at \\[8, 7\\]",
    ]  # fmt: skip


def test_roles_of_a_family_and_of_a_run() -> None:
    _, _, *rows = rows_of(card([documents.width()]))
    assert [row[0] for row in rows] == ["attn.q", "mlp.down"]  # not what the law is not about
    assert rows[0][2:] == ["1.32", "no"]
    assert "needs weight decay 0.18" in card([documents.width()])
    head, _, *rows = rows_of(card([documents.trend()]))
    assert rows[0] == ["attn.q", "1 → 3.5", "30 → 9", "100 → 420"]
    assert rows[1][-1] == "—"
    assert head[-1] == "κ"


def test_several_results_have_headings_and_all_commands() -> None:
    found = card([documents.spectrum(1), documents.diff(1)])
    assert "### Singular spectra" in found
    assert "### What fine-tuning changed" in found
    assert found.count("\nspectra ") == 2


def test_hostile_names_stay_text() -> None:
    found = card([documents.hostile()])
    outside = re.sub(r"(`+)(?:(?!\1).)*\1", "", found.split("```sh")[0])
    assert not re.search(r"(?<!\\)[<>]", outside)
    assert "\x1b" not in found
    found.encode("utf-8")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a_b_c", "a_b_c"),
        ("_a_ __b__", "\\_a\\_ \\_\\_b\\_\\_"),
        ("*a* `b`", "\\*a\\* \\`b\\`"),
        ("<script>", "\\<script\\>"),
        ("&lt;", "&amp;lt;"),
        ("[x](https://evil.example)", "\\[x\\](https:\\//evil.example)"),
        ("www.evil.example", "www\\.evil.example"),
        ("# no heading\n- no list", "\\# no heading - no list"),
        ("12. no list", "12\\. no list"),
        ("0.1.0", "0.1.0"),
        ("a | b", "a \\| b"),
        ("===", "\\==="),
        ("+0.25", "+0.25"),
        ("\x1b[31m", "\\\\x1b\\[31m"),
    ],
)
def test_text_means_nothing_else(given: str, expected: str) -> None:
    assert text(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.b", "`a.b`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("", "` `"),
        ("a|b", "`a\\|b`"), ("<b>", "`<b>`"), ("a\nb", "`a b`"),
    ],
)  # fmt: skip
def test_code_ends_where_it_should(given: str, expected: str) -> None:
    assert code(given) == expected


def test_a_command_cannot_end_its_block() -> None:
    document = documents.spectrum(1)
    document["models"][0]["spec"] = "a```\n# b"
    found = card([document])
    assert "````sh\nspectra spectrum 'a```\\n# b'\n````\n" in found


def test_several_notes_are_a_list_and_one_is_a_paragraph() -> None:
    document = documents.spectrum(1)
    document["summary"]["notes"] = ["the first", "the second"]
    assert "\n\n- note: the first\n- note: the second\n\n" in card([document])
    document["summary"]["notes"] = ["the first"]
    assert "\n\nnote: the first\n\n" in card([document])
