"""Which matrices to look at: by name, role and layer."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spectra.errors import UsageError
from spectra.matrices.view import View
from spectra.text import guess, pieces
from spectra.words import GROUPS, ROLES


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters that every matrix must pass; empty means all, and one text is a list of one.

    Attributes:
        include: Globs on the tensor's or the matrix's name; any may match.
        exclude: Globs; none may match.
        roles: Such as `attn.q`, or `attn` for all that begin so; also `attn.q,attn.k`.
        layers: Such as `0-5,11`, or numbers: `[0, 1]`, a range.

    Raises:
        UsageError: A role or layer range cannot be meant as written.
    """

    include: str | Sequence[str] = ()
    exclude: str | Sequence[str] = ()
    roles: str | Sequence[str] = ()
    layers: str | int | Sequence[int] = ""

    def __post_init__(self) -> None:
        for name in ("include", "exclude", "roles"):
            given = getattr(self, name)
            texts = (given,) if isinstance(given, str) else tuple(given)
            texts = pieces(texts) if name == "roles" else texts
            object.__setattr__(self, name, texts)
        known = (*ROLES, *GROUPS)
        for role in self.roles:
            if role not in known:
                raise UsageError(
                    f"--role {role!r} is no role.{guess(role, known)} "
                    f"Expected one of {', '.join(known)}."
                )
        layers, text = self.layers, str(self.layers)
        if isinstance(layers, Iterable) and not isinstance(layers, str):
            text = ",".join(map(str, layers))
            if not text:
                raise UsageError("layers=[] names no layer. Give numbers from 0, or leave it out.")
        object.__setattr__(self, "layers", text)
        parse_layers(text)

    def keeps(self, view: View) -> bool:
        """Say whether a matrix passes."""
        if self.include and not any(_matches(view, glob) for glob in self.include):
            return False
        if any(_matches(view, glob) for glob in self.exclude):
            return False
        kind = view.role.kind
        if self.roles and not ({kind, kind.split(".")[0]} & set(self.roles)):
            return False
        layers = parse_layers(str(self.layers))
        return not layers or any(view.role.layer in part for part in layers)

    def names(self, name: str, layer: int | None) -> bool:
        """Say whether a tensor that is no matrix passes, by its name and layer; it has no role."""
        if self.include and not any(fits(name, glob) for glob in self.include):
            return False
        if any(fits(name, glob) for glob in self.exclude):
            return False
        layers = parse_layers(str(self.layers))
        return not layers or any(layer in part for part in layers)

    def apply(self, views: Sequence[View]) -> list[View]:
        """Return the matrices that pass, in order."""
        return [view for view in views if self.keeps(view)]


def parse_layers(text: str) -> list[range]:
    """Read `0-5,11` as ranges.

    Raises:
        UsageError: It is not written so.
    """
    ranges = []
    for piece in text.split(",") if text.strip() else []:
        first, dash, last = piece.strip().partition("-")
        if not _is_layer(first) or (dash and not _is_layer(last)):
            raise UsageError(
                f"--layers {text!r} cannot be read at {piece!r}. Expected numbers and ranges, "
                "like 0-5,11."
            )
        stop = int(last) if dash else int(first)
        if stop < int(first):
            raise UsageError(
                f"--layers {text!r}: the range {piece!r} runs backwards. Write {last}-{first}."
            )
        ranges.append(range(int(first), stop + 1))
    return ranges


def _is_layer(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def fits(name: str, glob: str) -> bool:
    """Match a glob against a whole name, brackets taken literally."""
    if "*" not in glob and "?" not in glob:
        return name == glob
    # `[` opens a set in fnmatch, but `[q]` is how our own names end.
    return fnmatch.fnmatchcase(name, glob.replace("[", "[[]"))


def _matches(view: View, glob: str) -> bool:
    """Match a glob against the tensor's or the matrix's name."""
    return any(fits(name, glob) for name in (view.name, view.entry.name))
