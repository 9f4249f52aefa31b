"""Shapes: what a value of a document is, as its JSON Schema says it and as its reader checks it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from types import NoneType
from typing import Any, Literal, NoReturn, Self, TypeAlias, get_args, get_origin, get_type_hints

Schema: TypeAlias = dict[str, Any]
Refuse: TypeAlias = Callable[[str, object, str], NoReturn]
"""Takes the place of a value, the value, and what was expected there."""

LARGEST = 1.7e308  # that a double holds, and a picture can still scale
WHOLE = 2**53  # from here on doubles, so JavaScript, skip whole numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(ABC):
    """What one value is, and when it is there."""

    null: bool = False  # nothing is known of it, though the key is there
    need: Literal["always", "older", "sometimes"] = "always"
    published: bool = True  # stands in the JSON Schema; else only its reader relies on it

    @property
    def nullable(self) -> Self:
        """This, or null."""
        return replace(self, null=True)

    @property
    def older(self) -> Self:
        """This, always written, though files of older versions may be without it."""
        return replace(self, need="older")

    @property
    def sometimes(self) -> Self:
        """This, where it applies; else null or no key."""
        return replace(self, need="sometimes")

    @property
    def unpublished(self) -> Self:
        """This, which the JSON Schema does not promise."""
        return replace(self, published=False)

    @abstractmethod
    def schema(self) -> Schema:
        """Return the JSON Schema of a value that is not null."""

    @abstractmethod
    def check(self, value: object, place: str, refuse: Refuse) -> None:
        """Refuse a value that has another shape."""

    def check_at(self, value: object, place: str, refuse: Refuse, there: bool = True) -> None:
        """Refuse a value that has another shape, but for null, or nothing, where that will do."""
        lacks = self.null if there else self.need == "older"
        if value is not None or not (lacks or self.need == "sometimes"):
            self.check(value, place, refuse)

    def full_schema(self) -> Schema:
        """Return the JSON Schema of a value."""
        return {"anyOf": [self.schema(), {"type": "null"}]} if self.null else self.schema()


@dataclass(frozen=True, slots=True)
class Value(Shape):
    """A text, a number or a flag."""

    told: str  # such as "a text"
    as_schema: Schema
    holds: Callable[[object], bool]

    def schema(self) -> Schema:
        """Return it as it is."""
        return self.as_schema

    def check(self, value: object, place: str, refuse: Refuse) -> None:
        """Refuse another type."""
        if not self.holds(value):
            refuse(place, value, self.told)


@dataclass(frozen=True, slots=True)
class Words(Shape):
    """One of some words or numbers; where it is open, others may come with later versions."""

    words: Sequence[str | int]
    open: bool = False

    def schema(self) -> Schema:
        """Return all that this version writes."""
        return {"const": self.words[0]} if len(self.words) == 1 else {"enum": list(self.words)}

    def check(self, value: object, place: str, refuse: Refuse) -> None:
        """Refuse what is none of them; where it is open, what is no text."""
        if self.open:
            TEXT.check(value, place, refuse)
        elif value not in self.words or isinstance(value, bool):
            refuse(place, value, f"one of {', '.join(map(str, self.words))}")


@dataclass(frozen=True, slots=True)
class Items(Shape):
    """A list."""

    item: Shape | None = None  # None: whatever it holds
    least: int = 0

    def schema(self) -> Schema:
        """Return a list, of what is published."""
        least: Schema = {"minItems": self.least} if self.least else {}
        if self.item is None or not self.item.published:
            return {"type": "array", **least}
        return {"type": "array", **least, "items": self.item.full_schema()}

    def check(self, value: object, place: str, refuse: Refuse) -> None:
        """Refuse what is no list, or too short, and items of another shape by their place."""
        if not isinstance(value, list):
            of = f" of {self.item.told.removeprefix('a ')}s" if isinstance(self.item, Value) else ""
            refuse(place, value, f"a list{of}")
        if len(value) < self.least:
            refuse(place, value, f"at least {self.least} in it")
        if self.item is not None:
            for i, found in enumerate(value):
                self.item.check_at(found, f"{place}[{i}]", refuse)


@dataclass(frozen=True, slots=True)
class Object(Shape):
    """Values by key."""

    keys: Mapping[str, Shape] = field(default_factory=dict)
    rest: Shape | None = None  # of every other key; None: whatever it holds
    closed: bool = False  # no other key is written

    def schema(self) -> Schema:
        """Return what is published of it."""
        told = {key: shape for key, shape in self.keys.items() if shape.published}
        found: Schema = {"type": "object"}
        if told:
            found["properties"] = {key: shape.full_schema() for key, shape in told.items()}
            found["required"] = [key for key, shape in told.items() if shape.need != "sometimes"]
        if self.closed:
            found["additionalProperties"] = False
        elif self.rest is not None and self.rest.published:
            found["additionalProperties"] = self.rest.full_schema()
        return found

    def check(self, value: object, place: str, refuse: Refuse) -> None:
        """Refuse what is no object, lacks a key, or has one of another shape."""
        if not isinstance(value, dict):
            refuse(place, value, "an object")
        within = f"{place}." if place else ""
        for key in {**self.keys, **value}:
            shape = self.keys.get(key, self.rest)
            if shape is not None:
                shape.check_at(value.get(key), within + key, refuse, key in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < WHOLE


TEXT = Value("a text", {"type": "string"}, lambda value: isinstance(value, str))
FLAG = Value("true or false", {"type": "boolean"}, lambda value: isinstance(value, bool))
COUNT = Value("a whole number", {"type": "integer", "minimum": 0}, _is_whole)
INDEX = Value("a whole number", {"type": "integer"}, _is_whole)
NUMBER = Value("a number", {"type": "number"}, _is_number)
SHARE = Value("a number", {"type": "number", "minimum": 0, "maximum": 1}, _is_number)
TEXTS = Items(TEXT)


def shapes_of(record: type) -> dict[str, Shape]:
    """Return the shape of every field of a dataclass; what has a default may be missing."""
    hints = get_type_hints(record)
    found = {one.name: _of_type(hints[one.name]) for one in fields(record)}
    late = {one.name: found[one.name].older for one in fields(record) if one.default is not MISSING}
    return found | late


def _of_type(hint: object) -> Shape:
    words = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) is Literal:
        return Words(words)
    if words:  # `X | None`
        return _of_type(words[0]).nullable
    shapes: Mapping[object, Shape] = {str: TEXT, int: INDEX, float: NUMBER, bool: FLAG}
    return shapes[hint]
