"""Shapes: what a JSON Schema says of them and what their reader refuses are the same."""

from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import jsonschema
import pytest

from spectra.report.shape import (
    COUNT,
    FLAG,
    INDEX,
    NUMBER,
    SHARE,
    TEXT,
    TEXTS,
    Items,
    Object,
    Shape,
    Words,
    shapes_of,
)

PAIR = Object({"a": TEXT, "b": NUMBER.nullable})
ALIKE: dict[str, tuple[Shape, list[Any], list[Any]]] = {
    "a text": (TEXT, ["", "x"], [None, 1, True, []]),
    "a flag": (FLAG, [True, False], [None, 0, 1, "true"]),
    "a count": (COUNT, [0, 2**50], [None, -1, 2.5, True, "1"]),
    "a number": (NUMBER, [0, -2.5, 1e300], [None, True, "1", []]),
    "a number or nothing": (NUMBER.nullable, [1.0, None], ["", False]),
    "words": (Words(("ok", "singular")), ["ok"], [None, "no", 1, []]),
    "codes": (Words((0, 1, 3)), [0, 3], [None, 2, True, False]),
    "texts": (TEXTS, [[], ["a"]], [None, "a", ["a", 1], {}]),
    "some texts": (Items(TEXT, least=1), [["a"]], [[], None]),
    "numbers with gaps": (Items(NUMBER.nullable), [[1.0, None]], [[True], ["a"], None]),
    "anything": (Items(), [[], [1, "a", None]], [None, {}]),
    "an object": (PAIR, [{"a": "", "b": None}, {"a": "", "b": 1, "c": 2}],
                  [None, [], {}, {"a": ""}, {"b": 1}, {"a": None, "b": 1}, {"a": "", "b": "x"}]),
    "by name": (Object(rest=COUNT), [{}, {"x": 3}], [None, {"x": -1}, {"x": None}]),
    "where it applies": (Object({"a": FLAG.sometimes}), [{}, {"a": True}], [{"a": 1}]),
}  # fmt: skip


def refuse(place: str, got: object, expected: str) -> NoReturn:
    raise ValueError(f"{place} is {got!r}, expected {expected}")


@pytest.mark.parametrize("name", ALIKE)
def test_schema_and_reader_agree(name: str) -> None:
    shape, good, bad = ALIKE[name]
    validator = jsonschema.Draft202012Validator(shape.full_schema())
    outer = Object({"x": shape})  # where null is accepted or not
    for value in good:
        validator.validate(value)
        outer.check({"x": value}, "", refuse)
    for value in bad:
        assert not validator.is_valid(value), value
        with pytest.raises(ValueError, match=r"^x"):
            outer.check({"x": value}, "", refuse)


def test_a_reader_takes_files_of_older_versions_that_the_schema_does_not() -> None:
    shape = Object({"a": TEXT, "late": COUNT.older, "role": Words(("q", "k"), open=True)})
    validator = jsonschema.Draft202012Validator(shape.schema())
    for found in ({"a": "", "role": "q"}, {"a": "", "late": 1, "role": "a role to come"}):
        assert not validator.is_valid(found)
        shape.check(found, "", refuse)
    with pytest.raises(ValueError, match=r"^late is None, expected a whole number$"):
        shape.check({"a": "", "late": None, "role": "q"}, "", refuse)


def test_what_is_not_published_is_checked_all_the_same() -> None:
    shape = Object({"a": FLAG.unpublished, "list": Items(TEXT.unpublished)}, rest=TEXT.unpublished)
    assert shape.schema() == {
        "type": "object",
        "properties": {"list": {"type": "array"}},
        "required": ["list"],
    }
    wrong: list[Any] = [{"list": []}, {"a": True, "list": [1]}, {"a": True, "list": [], "b": 1}]
    for found in wrong:
        with pytest.raises(ValueError, match="expected"):
            shape.check(found, "", refuse)


def test_what_is_wrong_is_told_by_its_place() -> None:
    shape = Object({"rows": Items(Object({"sigma": Items(NUMBER)}))})
    with pytest.raises(ValueError, match=r"^rows\[1\]\.sigma\[2\] is 'x', expected a number$"):
        shape.check({"rows": [{"sigma": []}, {"sigma": [1, 2, "x"]}]}, "", refuse)


@pytest.mark.parametrize("value", [10**400, 1e308 * 1.75, True], ids=str)
def test_a_number_is_one_that_a_picture_can_scale(value: float) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        SHARE.check(value, "x", refuse)


def test_fields_of_a_dataclass_are_described_by_their_types() -> None:
    @dataclass
    class Record:
        name: str
        layer: int | None
        state: Literal["new", "gone"] | None = None
        share: float = 0.0

    assert shapes_of(Record) == {
        "name": TEXT,
        "layer": INDEX.nullable,
        "state": Words(["new", "gone"]).nullable.older,
        "share": NUMBER.older,
    }
