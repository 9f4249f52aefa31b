"""The page as a file: closed to the network, inert whatever names say, small, repeatable."""

import base64
import hashlib
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.html import documents
from spectra.numbers import percent
from spectra.report import html
from spectra.report.document import checked
from spectra.report.html import Source, render_page
from spectra.report.html import page as whole
from spectra.report.html.encode import LONGEST, Names, embedded, profiles, shortened
from spectra.report.html.tables import rooms
from spectra.report.html.worst import worst_of
from spectra.report.sentences import figures

VOID = {"meta", "link", "br", "input", "wbr"}


class Parsed(HTMLParser):
    """Every element, its attributes, and the text inside script and style."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]][-1] += data
        else:
            self.text.append(data)

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.inside["script"][0])
        return found


def page_of(*found: documents.Document) -> str:
    for document in found:
        checked(document, "made up")
    return render_page([Source(one, f"{one['command']}.json") for one in found])


@pytest.fixture(scope="module")
def every() -> str:
    return page_of(*(make() for make in documents.EVERY.values()))


def decoded(data: dict[str, Any], place: int) -> str:
    template, *numbers = data["names"][place]
    if numbers and isinstance(numbers[0], str):
        return numbers[0]
    rest = iter(numbers)
    return re.sub("#", lambda _: str(next(rest)), data["templates"][template])


@pytest.mark.parametrize("name", documents.EVERY)
def test_the_same_results_give_the_same_bytes(name: str) -> None:
    make = documents.EVERY[name]
    assert page_of(make()) == page_of(make())


def test_nothing_is_asked_of_the_network(every: str) -> None:
    for tag, attributes in Parsed(every).elements:
        assert tag not in {"iframe", "object", "embed", "base", "form", "img", "video", "audio"}
        assert "src" not in attributes
        href = attributes.get("href", "#")
        assert href is not None
        assert href.startswith("#") or (tag == "link" and href == "data:,")
    assert "url(" not in re.sub(r"url\(#\$\{(id|hatch)\}\)", "", every)  # parts of the page
    assert "@import" not in every
    assert "fetch(" not in every


def test_the_policy_allows_our_own_script_and_style_alone(every: str) -> None:
    parsed = Parsed(every)
    (policy,) = [
        attributes["content"]
        for tag, attributes in parsed.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe-inline" not in policy
    for kind, content in (
        ("script", parsed.inside["script"][1]),
        ("style", parsed.inside["style"][0]),
    ):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert len(parsed.inside["script"]) == 2
    assert len(parsed.inside["style"]) == 1
    for _, attributes in parsed.elements:
        assert "style" not in attributes  # which the policy would refuse
        assert not [name for name in attributes if name.startswith("on")]


def test_hostile_names_are_text() -> None:
    page = page_of(documents.hostile())
    page.encode("utf-8")  # a lone surrogate would fail
    parsed = Parsed(page)
    plain = Parsed(page_of(documents.spectrum(1)))
    kinds = {tag for tag, _ in parsed.elements}
    assert kinds - {tag for tag, _ in plain.elements} == set()
    assert len(parsed.inside["script"]) == 2
    for _, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on")]
    told = {decoded(parsed.data, place) for place in range(len(parsed.data["names"]))}
    assert told == {shortened(name) for name in documents.HOSTILE}
    assert all(name.isprintable() for name in told)
    assert "\\u2028\\u202egnp.exe\\x1b[31m" in told
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "\u2028" not in page


@given(st.lists(st.text(max_size=30) | st.from_regex(r"[a-z]+(\.[0-9]{1,12}){1,3}\.[a-z\[=,\]#]+")))
def test_every_name_comes_back(texts: list[str]) -> None:
    names = Names()
    places = [names.place(text) for text in texts]
    plain = names.plain()
    assert [decoded(plain, place) for place in places] == [shortened(text) for text in texts]


def test_a_name_that_nobody_reads_is_shortened() -> None:
    assert len(shortened("x" * 5000)) == LONGEST + 1
    assert shortened("a" * 5000 + "b").endswith("b")


@given(st.recursive(st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_embedded_data_comes_back_and_ends_no_script(data: object) -> None:
    text = embedded(data)
    assert json.loads(text) == data
    assert text.isascii()
    assert not set("<>&") & set(text)


def levels(found: dict[str, Any]) -> list[list[float]]:
    """Decode profiles as the page's script does."""
    raw = base64.b64decode(found["values"])
    rows, at = [], 0
    for count, low, high in zip(found["counts"], found["low"], found["high"], strict=True):
        row = []
        for _ in range(count):
            level = raw[at] * 256 + raw[at + 1]
            row.append(0.0 if level == 0 else 10 ** (low + (level - 1) / 65534 * (high - low)))
            at += 2
        rows.append(row)
    assert at == len(raw)
    return rows


def test_profiles_come_back() -> None:
    given_rows = [[5.0, 1.0, 1e-7, 0.0], None, [2.0], [0.0, 0.0], [3.0, 3.0], [1e200, 1e-200]]
    found = levels(profiles(given_rows, 1000))
    for row, back in zip(given_rows, found, strict=True):
        assert back == pytest.approx(row or [], rel=2e-2 if row and row[0] > 1e100 else 1e-3)


def test_many_profiles_keep_fewer_ranks_with_both_ends() -> None:
    row = [65.0 - i for i in range(65)]
    found = levels(profiles([row] * 9000, 200_000))
    assert len(found[0]) == 17
    assert found[0] == pytest.approx(row[::4], rel=1e-3)


def test_a_page_of_32_layers_is_small() -> None:
    page = page_of(*(make(32, 4096) for make in documents.EVERY.values()))
    assert len(page.encode()) < 600_000


def test_a_page_of_thousands_of_experts_is_under_three_megabytes() -> None:
    found = documents.mixture(layers=48, experts=64)
    page = page_of(found)
    assert len(page.encode()) < 3_000_000
    *_, table = Parsed(page).data["sections"][0]["tables"]
    assert table["rows"] == 8000
    assert table["rows"] + table["left"] == len(found["rows"])
    kept = next(c for c in table["columns"] if c["key"] == "kappa")["data"]
    assert kept == sorted(kept, reverse=True)
    highest = sorted((row["kappa"] for row in found["rows"]), reverse=True)
    assert kept[-1] == pytest.approx(highest[7999], rel=1e-5)


def test_several_large_results_share_the_page() -> None:
    found = [make(400) for make in documents.EVERY.values()]
    page = page_of(*found)
    assert len(page.encode()) < 3_000_000
    sections = {one["command"]: one["tables"][-1] for one in Parsed(page).data["sections"]}
    tables = [sections[one["command"]] for one in found]
    assert [table["rows"] + table["left"] for table in tables] == [len(f["rows"]) for f in found]
    assert sum(table["rows"] for table in tables) == 8000


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([10], [100]),
        ([1000], [100]),
        ([1000, 10], [90, 50]),
        ([1000, 1000, 10], [45, 45, 33]),
        ([5, 5], [50, 95]),
        ([], []),
    ],
)
def test_rooms(counts: list[int], expected: list[int]) -> None:
    found = rooms(counts, 100)
    assert found == expected
    assert sum(map(min, counts, found)) <= 100


def test_columns_hold_what_rows_hold(every: str) -> None:
    data = Parsed(every).data
    for section in data["sections"]:
        make = documents.EVERY[section["command"]]
        table = section["tables"][-1]
        columns = {column["key"]: column for column in table["columns"]}
        places = columns["matrix"]["data"]
        rows = {row["matrix"]: row for row in make()["rows"]}
        assert {decoded(data, place) for place in places} == set(rows)
        for key in {"kappa", "sigma_max", "delta_relative", "intruders", "layer"} & set(columns):
            for place, value in zip(places, columns[key]["data"], strict=True):
                expected = rows[decoded(data, place)][key]
                assert value == (
                    expected if expected is None else pytest.approx(expected, rel=1e-5)
                )
        role = columns["role"]
        assert [role["words"][i] for i in role["data"]] == [
            rows[decoded(data, place)]["role"] for place in places
        ]


def test_heatmaps_hold_the_median_of_each_cell() -> None:
    found = documents.mixture(layers=3, experts=5)
    found["rows"][0] |= {"status": "singular", "kappa": None}
    chart = Parsed(page_of(found)).data["sections"][0]["charts"][0]
    assert chart["roles"] == ["mlp.gate", "mlp.up", "mlp.down"]
    assert chart["layers"] == [0, 1, 2]
    (facet,) = chart["facets"]
    assert facet["counts"] == [5] * 9
    which = [metric["key"] for metric in chart["metrics"]].index("kappa")
    alike = [
        row["kappa"] if row["kappa"] is not None else float("inf")
        for row in found["rows"]
        if (row["role"], row["layer"]) == ("mlp.gate", 0)
    ]
    assert facet["grids"][which][0] == pytest.approx(sorted(alike)[2], rel=1e-5)


def test_a_cell_that_is_singular_says_so() -> None:
    found = documents.spectrum(2)
    found["rows"][1] |= {"status": "singular", "kappa": None}
    chart = Parsed(page_of(found)).data["sections"][0]["charts"][0]
    which = [metric["key"] for metric in chart["metrics"]].index("kappa")
    assert chart["facets"][0]["grids"][which][0] == "inf"


def every_result() -> list[tuple[str, documents.Document]]:
    return [(name, make()) for name, make in documents.EVERY.items()]


def test_the_worst_comes_first_matrix_by_matrix_over_all_results() -> None:
    found = every_result()
    troubles = worst_of(found)
    ranks = [trouble.rank for trouble in troubles]
    assert ranks == sorted(ranks)
    names = [trouble.first.matrix for trouble in troubles if trouble.first.opens]
    assert len(names) == len(set(names))
    broken = found[3][1]["rows"][1]["matrix"]
    assert troubles[0].first.matrix == broken  # what has no numbers before all other errors
    holders = {row["matrix"] for row in found[1][1]["rows"] if row["intruders"]}
    told = {t.first.matrix for t in troubles if any(f.about == "intruders" for f in t.facts)}
    assert holders <= told
    assert len(holders) > 1


def test_one_nan_is_told_once_and_by_the_finding() -> None:
    found = every_result()
    broken = found[3][1]["rows"][1]
    for _, document in found[:3]:
        for row in document["rows"]:
            if row["matrix"] == broken["matrix"]:
                row.update(status="non-finite", error="3 of 262144 entries are NaN")
                row.update(dict.fromkeys(("kappa", "sigma_max", "sigma_min", "intruders")))
    (trouble,) = [t for t in worst_of(found) if t.first.matrix == broken["matrix"]]
    texts = [fact.text for fact in trouble.facts]
    assert texts == ["SPC002 non-finite: 3 NaN, first at [8, 7] (new)"]
    found[3][1]["summary"]["findings"] = []
    (trouble,) = [t for t in worst_of(found) if t.first.matrix == broken["matrix"]]
    assert [fact.text[:27] for fact in trouble.facts] == ["no numbers: 3 of 262144 ent"]


@pytest.mark.parametrize("rule", ["all-zero", "dead-rows", "dead-head", "rank-collapse"])
def test_what_follows_from_a_finding_is_not_told_beside_it(rule: str) -> None:
    check, spectrum = documents.check(), documents.spectrum()
    row = spectrum["rows"][5]
    row |= {"status": "singular", "kappa": None, "sigma_min": 0.0}
    pair = [("r1", spectrum), ("r2", check)]
    alone = [f.text for t in worst_of(pair) for f in t.facts if t.first.matrix == row["matrix"]]
    assert "singular: its smallest σ is 0" in alone
    finding = check["summary"]["findings"][2]
    finding |= {"name": rule, "matrix": row["matrix"], "tensor": row["tensor"]}
    (trouble,) = [t for t in worst_of(pair) if t.first.matrix == row["matrix"]]
    assert [fact.text for fact in trouble.facts] == [
        f"SPC101 {rule}: 6 > 4 allowed (baseline 1) (new)"
    ]


def test_a_vector_is_not_counted_as_a_matrix() -> None:
    check = documents.check()
    first = "Errors in 2 matrices, warnings in 1 matrix."
    assert first in " ".join(Parsed(page_of(check)).text)
    check["rows"][1]["role"] = check["summary"]["findings"][1]["role"] = "vector"
    text = " ".join(Parsed(page_of(check)).text)
    assert "Errors in 1 matrix and 1 vector, warnings in 1 matrix." in text
    check["summary"]["findings"][2] |= {"matrix": None, "tensor": "layers.9.gone.weight"}
    text = " ".join(Parsed(page_of(check)).text)
    assert "Errors in 1 vector and 1 tensor, warnings in 1 matrix." in text


def test_intruders_that_a_finding_tells_of_are_told_once() -> None:
    found = every_result()
    holder = next(row for row in found[1][1]["rows"] if row["intruders"])
    finding = found[3][1]["summary"]["findings"][2]
    finding |= {"matrix": holder["matrix"], "tensor": holder["tensor"]}
    (trouble,) = [t for t in worst_of(found) if t.first.matrix == holder["matrix"]]
    assert [f.text for f in trouble.facts if f.about == "intruders"] == [
        "SPC101 intruder-dimensions: 6 > 4 allowed (baseline 1) (new)"
    ]


def test_what_the_policy_judged_and_let_pass_is_no_warning() -> None:
    """Else a page says PASS, no warnings, and warnings in three matrices."""
    check, diff = documents.check(), documents.diff()
    check["summary"]["findings"] = []
    documents_of = [("r1", diff), ("r2", check)]
    facts = [f for t in worst_of(documents_of) for f in t.facts if f.about == "intruders"]
    assert facts
    assert {fact.mark for fact in facts} == {"note"}
    assert all(fact.text.endswith("(the policy allows it)") for fact in facts)
    check["summary"]["rules"][0]["judged"] = False
    facts = [f for t in worst_of(documents_of) for f in t.facts if f.about == "intruders"]
    assert {fact.mark for fact in facts} == {"warning"}


def test_nothing_is_allowed_of_a_matrix_with_a_finding() -> None:
    check, diff = documents.check(), documents.diff()
    holder = next(row for row in diff["rows"] if row["intruders"])
    finding = {**check["summary"]["findings"][2], "rule": "SPC008", "name": "all-zero"}
    finding |= {"matrix": holder["matrix"], "tensor": holder["tensor"], "severity": "error"}
    check["summary"]["findings"] = [finding]
    for trouble in worst_of([("r1", diff), ("r2", check)]):
        texts = [f.text for f in trouble.facts if f.about == "intruders"]
        allowed = trouble.first.matrix != holder["matrix"]
        assert all(text.endswith("(the policy allows it)") is allowed for text in texts)


def test_every_finding_of_a_check_is_told() -> None:
    """Two of one rule on one matrix are two: the numbers on the page must add up."""
    found = documents.check()
    first = found["summary"]["findings"][2]
    found["summary"]["findings"].append(first | {"message": "9 > 4 allowed"})
    facts = [f for t in worst_of([("r1", found)]) for f in t.facts if f.mark == "error"]
    assert len(facts) == 3


def test_what_the_base_has_is_said_to_be_the_bases() -> None:
    base, tuned = documents.spectrum(2), documents.spectrum(2)
    tuned["models"][0] |= {"spec": "out/tuned", "resolved": "out/tuned"}
    base["rows"][1] |= {"status": "singular", "kappa": None, "sigma_min": 0.0}
    parsed = Parsed(page_of(base, tuned, documents.diff(2)))
    text = " ".join(parsed.text)
    assert "singular: its smallest σ is 0 (in acme/big)" in text
    assert [section["id"] for section in parsed.data["sections"]] == ["r3", "r2", "r1"]


def test_without_scripts_the_worst_rows_are_there() -> None:
    page = page_of(documents.spectrum(32))
    inside = re.findall(r'data-table="1"><table>.*?</table>', page)
    assert len(inside) == 1
    assert inside[0].count("<tr>") == 51
    assert "the first 50 of 225" in inside[0]


def test_what_the_page_says_of_a_section() -> None:
    text = " ".join(Parsed(page_of(documents.check())).text)
    assert "spectra check acme/big --policy spectra.toml -o check.json" in text
    assert "2 errors, 1 warning in 29 tensors" in text
    assert "Settings and provenance" in text
    assert "one-dimensional" in text


def test_findings_come_worst_first() -> None:
    tables = Parsed(page_of(documents.check())).data["sections"][0]["tables"]
    assert [table["caption"] for table in tables] == [
        "Findings", "Ignored findings", "Rules", "Skipped tensors", "Matrices",
    ]  # fmt: skip
    severity = tables[0]["columns"][0]
    assert [severity["words"][i] for i in severity["data"]] == ["error", "error", "warning", "note"]


def test_a_rule_that_passed_reads_true() -> None:
    found = documents.check()
    rules = Parsed(page_of(found)).data["sections"][0]["tables"][2]
    columns = {column["key"]: column for column in rules["columns"]}
    assert columns["summary"]["title"] == "what it tests"
    assert all(text.startswith("whether ") for text in columns["summary"]["words"])


def test_of_singular_matrices_a_card_tells_first() -> None:
    found = documents.spectrum(2)
    assert "singular" not in dict(figures(found))
    found["rows"][1] |= {"status": "singular", "kappa": None}
    names = [name for name, _ in figures(found)]
    assert names[2:4] == ["singular", "highest finite κ"]
    assert dict(figures(found))["singular"] == "1"


def test_a_share_is_told_in_one_way() -> None:
    """A finding's numbers are in its sentence, and in the CSV as they are."""
    tables = Parsed(page_of(documents.check())).data["sections"][0]["tables"]
    columns = {column["key"]: column["shown"] for column in tables[0]["columns"]}
    assert columns["message"]
    assert not columns["value"]
    assert percent(0.9999999) == "100 %"
    assert percent(0.9996) == "99.9 %"


def test_a_result_of_a_command_to_come_is_shown() -> None:
    found = documents.spectrum(2)
    found["command"] = "tails"
    for row in found["rows"]:
        row |= {"mystery": 3.25, "verdict": "fine"}
    data = Parsed(page_of(found)).data
    columns = {c["key"]: c for c in data["sections"][0]["tables"][-1]["columns"]}
    assert columns["mystery"]["data"][0] == 3.25
    assert columns["mystery"]["shown"]
    assert columns["verdict"]["words"] == ["fine"]


def test_the_verdict_and_the_name_come_first() -> None:
    page = page_of(*(make() for make in documents.EVERY.values()))
    heading = re.search(r"<h1>(.*?)</h1>", page)
    assert heading
    assert re.sub("<[^>]*>", "", heading[1]) == "✕ FAIL acme/big"
    assert page.index("<h1>") < page.index('id="worst"') < page.index('class="cards"')
    text = " ".join(Parsed(page).text)
    assert "2 errors, 1 warning in 29 tensors (coverage 100 %). Errors in 2 matrices, " in text
    found = documents.check()
    found["summary"] |= {"passed": True, "exit_code": 0, "reading": "PASS  no findings."}
    found["summary"]["findings"] = found["summary"]["ignored"] = []
    found["rows"] = [row for row in found["rows"] if row["status"] == "ok"]
    passing = page_of(found)
    assert "✓" in passing
    assert '<span class="badge passed">' in passing
    assert '<span class="badge error">' not in passing
    assert "<title>PASS: acme/big - spectra</title>" in passing


def test_results_of_one_command_and_model_are_told_apart_by_their_files() -> None:
    one = documents.EVERY["spectrum"]()
    title = Parsed(render_page([Source(one, "here/a.json")])).data["sections"][0]["title"]
    page = Parsed(render_page([Source(one, "here/a.json"), Source(one, "here/b.json")]))
    titles = [section["title"] for section in page.data["sections"]]
    assert titles == [f"{title} (a.json)", f"{title} (b.json)"]
    for name in titles:  # in the list of results, on its card, and above its section
        assert page.text.count(name) == 3


def test_version_date_and_digest_are_told() -> None:
    page = page_of(documents.diff())
    made = re.search('<p class="made">(.*?)</p>', page)
    assert made
    assert made[1] == (
        "spectra 0.1.0 · made 2026-01-02T03:04:05Z · "
        "weights base sha256:012345670123, tuned sample:0123456789ab"
    )
    assert f"weights <code>{documents.DIGEST}</code>" in page  # whole in the section
    older = documents.kappa()
    del older["date"], older["models"][0]["digest"]
    assert '<p class="made">spectra 0.1.0</p>' in page_of(older)


def test_without_a_check_nothing_is_said_to_pass() -> None:
    text = " ".join(Parsed(page_of(documents.kappa())).text)
    assert "No errors or warnings in 1 result. No policy judged it: spectra check does." in text
    assert "PASS" not in text


def test_too_little_judged_is_neither_a_pass_nor_a_fail() -> None:
    found = documents.check()
    found["summary"] |= {"passed": False, "exit_code": 3, "reading": "INCOMPLETE  no findings."}
    assert '<h1><span class="badge warning">' in page_of(found)


def test_styles_and_scripts_are_installed_and_used() -> None:
    root = Path(__file__).parents[3]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["spectra.report.html"]
    folder = Path(html.__file__).parent
    installed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert installed == set((folder / "assets").iterdir())
    assert {path.stem for path in installed} == {*whole.SCRIPTS, *whole.STYLES}


def test_what_was_stopped_early_is_not_called_highest() -> None:
    found = documents.stopped()
    assert worst_of([("r1", found)]) == []
    parsed = Parsed(page_of(found))
    assert "highest κ" not in parsed.text
    assert "cut" in parsed.text
    heat = parsed.data["sections"][0]["charts"][0]
    which = [metric["key"] for metric in heat["metrics"]].index("kappa")
    rows = {(row["role"], row["layer"]): row for row in found["rows"]}
    cells = iter(heat["facets"][0]["grids"][which])
    for role in heat["roles"]:
        for layer in heat["layers"]:
            kappa = rows[role, layer]["kappa"]
            assert next(cells) == (kappa if kappa is None else pytest.approx(kappa, rel=1e-5))


def test_a_cell_with_one_that_was_stopped_early_has_no_median() -> None:
    found = documents.stopped(1)
    known = next(row for row in found["rows"] if row["status"] == "ok")
    other = next(row for row in found["rows"] if row["status"] == "outside")
    found["rows"] = [known, other | {"role": known["role"], "layer": known["layer"]}]
    chart = Parsed(page_of(found)).data["sections"][0]["charts"][0]
    assert chart["facets"][0]["grids"][0] == [None]
