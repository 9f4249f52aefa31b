"""The program inside a pickle, followed as data: nothing that it names is looked up or called.

A pickle is a list of instructions for a stack machine. Followed here are only the few that
`torch.save` writes, the same that torch's `weights_only` reader takes. A name of a function
stays a name, a call of it becomes a description (see `pickled_names`), and a name that weights
do not need ends the reading. So a file can neither run anything nor make anything large.
"""

import struct
from collections.abc import Callable
from pickletools import opcodes
from typing import Any, Final

from spectra.checkpoint.pickled.names import (
    INSTEAD,
    KNOWN,
    Name,
    Other,
    PickleError,
    Storage,
    Unread,
    described,
    is_inert,
    stored,
)
from spectra.text import quote

MAX_STEPS = 4_000_000  # instructions; a tensor takes about 35
MAX_DEPTH = 1000  # containers open at once
MAX_NAME = 1000  # bytes in the name of a function
PROTOCOL = 2  # of pickle; what torch.save writes
DAMAGED = (IndexError, KeyError, ValueError, struct.error)  # stack, memo, text, end of the file


def follow(raw: bytes) -> object:
    """Return what a pickle describes, made of plain containers and descriptions.

    Args:
        raw: The whole pickle.

    Raises:
        PickleError: It names what no state dict needs, is damaged, or is too long.
    """
    machine = Machine(raw)
    try:
        return machine.run()
    except DAMAGED:
        raise PickleError(
            f" holds a damaged pickle, broken at its byte {machine.position:,}. Fetch or save "
            "that file again."
        ) from None


class Machine:
    """The stack, the memo and the place in the pickle."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.position = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks set aside at a mark
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> object:
        """Follow instructions up to the last one."""
        for _ in range(MAX_STEPS):
            code = self.take(1)
            if code == b".":
                if self.position < len(self.raw):
                    raise ValueError
                return self.stack.pop()
            if code not in INSTRUCTIONS:
                raise PickleError(
                    f" uses the pickle instruction {quote(OTHERS.get(code, code))}, which "
                    f"torch.save does not write. {INSTEAD}"
                )
            INSTRUCTIONS[code](self)
        raise PickleError(
            f" takes more than {MAX_STEPS:,} pickle instructions, far more than weights need. "
            f"{INSTEAD}"
        )

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        found = self.raw[self.position : self.position + count]
        if len(found) < count:
            raise IndexError
        self.position += count
        return found

    def number(self, layout: str) -> Any:  # noqa: ANN401 - int or float, as the layout says
        """Return the next bytes as a number."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """Return text up to the next line feed."""
        end = self.raw.index(b"\n", self.position, self.position + MAX_NAME)
        found = self.raw[self.position : end]
        self.position = end + 1
        return found.decode("utf-8")

    def marked(self) -> list[Any]:
        """Return what was pushed since the last mark, and go back below it."""
        below = self.below.pop()
        found, self.stack = self.stack, below
        return found


def _protocol(machine: Machine) -> None:
    found = machine.number("<B")
    if found != PROTOCOL:
        raise PickleError(
            f" is written in pickle protocol {found}, expected {PROTOCOL}, which torch.save "
            "writes by default. Save it again without `pickle_protocol`."
        )


def _global(machine: Machine) -> None:
    """Push a name, if weights need it."""
    module, name = machine.line(), machine.line()
    path = f"{'builtins' if module == '__builtin__' else module}.{name}"
    if path not in KNOWN and not is_inert(path):
        raise PickleError(
            f" uses {quote(path)}, which weights do not need: refused, and nothing in it was run. "
            f"{INSTEAD}"
        )
    machine.stack.append(Name(path))


def _mark(machine: Machine) -> None:
    if len(machine.below) >= MAX_DEPTH:
        raise PickleError(f" nests deeper than {MAX_DEPTH:,} levels. {INSTEAD}")
    machine.below.append(machine.stack)
    machine.stack = []


def _reduce(machine: Machine) -> None:
    """Replace a function and its arguments by a description of what the call gives."""
    arguments = machine.stack.pop()
    machine.stack.append(described(machine.stack.pop(), arguments))


def _new(machine: Machine) -> None:
    """Describe an object of plain data; refuse one of any other class."""
    machine.stack.pop()
    kind = machine.stack.pop()
    if isinstance(kind, Name) and is_inert(kind.path):
        machine.stack.append(Other(kind.path))
        return
    path = kind.path if isinstance(kind, Name) else type(kind).__name__
    raise PickleError(f" makes an object of {quote(path)}. {INSTEAD}")


def _build(machine: Machine) -> None:
    """Pass over an object's attributes, such as the `_metadata` of a state dict."""
    machine.stack.pop()
    if not isinstance(machine.stack[-1], dict | Other | Unread):
        kind = type(machine.stack[-1]).__name__
        raise PickleError(f" sets the attributes of a {quote(kind)}. {INSTEAD}")


def _reference(machine: Machine) -> None:
    """Push a storage; one key always means the same."""
    found = stored(machine.stack.pop())
    known = machine.storages.setdefault(found.key, found)
    if (known.dtype, known.count) != (found.dtype, found.count):
        raise PickleError(
            f" describes its storage {quote(found.key)} twice, once as {known.count:,} x "
            f"{known.dtype} and once as {found.count:,} x {found.dtype}. Save that file again."
        )
    machine.stack.append(known)


def _append(machine: Machine) -> None:
    item = machine.stack.pop()
    _of(machine, list).append(item)


def _extend(machine: Machine) -> None:
    items = machine.marked()
    _of(machine, list).extend(items)


def _set_one(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _of(machine, dict)[_key(key)] = value


def _set_many(machine: Machine) -> None:
    items = machine.marked()
    table = _of(machine, dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
        table[_key(key)] = value


def _of(machine: Machine, kind: type) -> Any:  # noqa: ANN401 - a list or a dict
    if type(machine.stack[-1]) is not kind:
        raise ValueError
    return machine.stack[-1]


def _key(found: object) -> object:
    """Return a key of a dict; the hash of nested tuples could take for ever.

    A class stands for itself by its name: Lightning once kept callbacks so.
    """
    if isinstance(found, Name) and is_inert(found.path):
        return found.path
    flat = found if isinstance(found, tuple) else (found,)
    if not all(value is None or type(value) in {str, int, float, bool} for value in flat):
        raise PickleError(
            f" has a dict whose key is a {type(found).__name__}, expected text or numbers. "
            f"{INSTEAD}"
        )
    return found


def _tuple(machine: Machine) -> None:
    """Push what was marked as one tuple."""
    items = machine.marked()
    machine.stack.append(tuple(items))


def _last(count: int) -> Callable[[Machine], None]:
    def make(machine: Machine) -> None:
        if len(machine.stack) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return make


def _push(value: object) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _number(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.number(layout))


def _recall(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.memo[machine.number(layout)])


def _remember(layout: str) -> Callable[[Machine], None]:
    def keep(machine: Machine) -> None:
        machine.memo[machine.number(layout)] = machine.stack[-1]

    return keep


OTHERS: Final = {op.code.encode("latin-1"): op.name for op in opcodes}

INSTRUCTIONS: Final[dict[bytes, Callable[[Machine], None]]] = {
    b"\x80": _protocol,
    b"c": _global,
    b"(": _mark,
    b"R": _reduce,
    b"\x81": _new,
    b"b": _build,
    b"Q": _reference,
    b"a": _append,
    b"e": _extend,
    b"s": _set_one,
    b"u": _set_many,
    b"t": _tuple,
    b"\x85": _last(1),
    b"\x86": _last(2),
    b"\x87": _last(3),
    b")": _push(()),
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b"]": lambda machine: machine.stack.append([]),
    b"}": lambda machine: machine.stack.append({}),
    b"\x8f": lambda machine: machine.stack.append(Other("builtins.set")),
    b"J": _number("<i"),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"\x8a": lambda machine: machine.stack.append(
        int.from_bytes(machine.take(machine.number("<B")), "little", signed=True)
    ),
    b"X": lambda machine: machine.stack.append(machine.take(machine.number("<I")).decode("utf-8")),
    b"U": lambda machine: machine.stack.append(machine.take(machine.number("<B"))),
    b"h": _recall("<B"),
    b"j": _recall("<I"),
    b"q": _remember("<B"),
    b"r": _remember("<I"),
}
"""By its byte; pickle's documentation is the comments of the standard library's pickletools."""
