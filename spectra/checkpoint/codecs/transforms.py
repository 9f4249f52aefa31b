"""compressed-tensors' `transform_config`: which stored weights were rotated, and by what."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.checkpoint.codecs.parts import MisfitError
from spectra.checkpoint.codecs.rotated import SYLVESTER, Rotated, Rotation, is_power
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.text import quote

CONFIG = "transform_config"
OFFLINE = ("weight_input", "weight_output")
ONLINE = ("input", "output", "q_attn", "k_cache")
SCHEME = frozenset({"type", "apply", "randomize", "requires_grad", "head_dim", "precision"})
ARGS = frozenset({"targets", "location", "inverse", "ignore"})
EMBEDDING = re.compile(r"(?:\w*_)?embed(?:ding)?s?(?:_\w+)?|wte|wpe|shared")
SAFE = re.compile(r"\^?(?:[\w/-]|\.\*|\\?\.|\\d\+|\[0-9\]\+|[()|])*\$?", re.ASCII)
"""Patterns that are matched: names, dots, `.*`, numbers, alternatives."""

MOST = 3  # of what repeats in a pattern: each multiplies the time that matching may take
LONGEST = 256  # characters of a name that patterns are matched with


@dataclass(frozen=True, slots=True)
class Applied:
    """One rotation of weights, as the settings tell it."""

    scheme: str
    kind: str
    targets: tuple[str, ...]
    ignored: tuple[str, ...]
    output: bool  # on the side of the outputs; else of the inputs
    inverse: bool
    block: int  # 0: the whole side
    randomized: bool


def without_transforms(
    entries: Mapping[str, TensorEntry],
    settings: Any,  # noqa: ANN401 - any JSON value
) -> tuple[dict[str, TensorEntry], list[Skipped]]:
    """Turn back what `transform_config` says was rotated.

    Args:
        entries: Tensors as a model has them, by name.
        settings: The value of `transform_config`.

    Returns:
        The tensors, and those that cannot be turned back or are matrices of the rotations.
    """
    try:
        applied = list(_applied(settings))
        touched, skipped = _touched(entries, applied)
    except MisfitError as reason:
        return _all_skipped(entries, str(reason))
    schemes = tuple(f".{scheme}_{place}." for scheme in settings["config_groups"]
                    for place in (*ONLINE, *OFFLINE))  # fmt: skip
    whole: dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        if name in skipped:
            continue
        if any(scheme in f".{name}" for scheme in schemes):
            skipped[name] = f"a matrix of {CONFIG}, not of the model"
            continue
        try:
            rotations = [_rotation(entry, one, entries) for one in reversed(touched.get(name, []))]
        except MisfitError as reason:
            skipped[name] = str(reason)
            continue
        whole[name] = replace(entry, codec=Rotated(entry, tuple(rotations))) if rotations else entry
    return whole, [Skipped(name, reason) for name, reason in skipped.items()]


def _all_skipped(
    entries: Mapping[str, TensorEntry], reason: str
) -> tuple[dict[str, TensorEntry], list[Skipped]]:
    """Skip every matrix: any may have been rotated."""
    matrices = [name for name, entry in entries.items() if len(entry.shape) > 1]
    left = {name: entry for name, entry in entries.items() if name not in set(matrices)}
    return left, [Skipped(name, reason) for name in matrices]


def _applied(settings: Any) -> Iterator[Applied]:  # noqa: ANN401 - any JSON value
    """Yield the rotations of weights in the order in which they were applied."""
    groups = settings.get("config_groups") if isinstance(settings, dict) else None
    if not isinstance(groups, dict) or set(settings) != {"config_groups"}:
        raise MisfitError(f"{CONFIG} is not understood: {quote(settings)}")
    for name, scheme in groups.items():
        applies = scheme.get("apply") if isinstance(scheme, dict) else None
        if not isinstance(applies, list) or not set(scheme) <= SCHEME:
            raise MisfitError(f"{CONFIG}: the scheme {quote(name)} is not understood")
        for args in applies:
            place = args.get("location") if isinstance(args, dict) else None
            if place not in {*ONLINE, *OFFLINE} or not set(args) <= ARGS:
                raise MisfitError(f"{CONFIG}: the scheme {quote(name)} is not understood")
            if place in OFFLINE:
                block = scheme.get("head_dim")
                yield Applied(
                    scheme=name,
                    kind=str(scheme.get("type")),
                    targets=_names(args.get("targets")),
                    ignored=_names(args.get("ignore", [])),
                    output=place == "weight_output",
                    inverse=args.get("inverse") is True,
                    block=block if type(block) is int and block > 0 else 0,
                    randomized=scheme.get("randomize") is True,
                )


def _names(found: Any) -> tuple[str, ...]:  # noqa: ANN401 - any JSON value
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise MisfitError(f"{CONFIG}: the targets {quote(found)} are not understood")
    for name in names:
        pattern = name.removeprefix("re:")
        if pattern != name and (not _compiled(pattern) or len(re.findall(r"[*+]", pattern)) > MOST):
            raise MisfitError(f"{CONFIG}: the pattern {quote(name)} is not understood")
    return tuple(names)


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """Return a pattern that takes no time to match; None: it may, or is none."""
    try:
        return re.compile(pattern) if SAFE.fullmatch(pattern) else None
    except re.error:
        return None


def _touched(
    entries: Mapping[str, TensorEntry], applied: Sequence[Applied]
) -> tuple[dict[str, list[Applied]], dict[str, str]]:
    """Return what was applied to each weight, and the reasons of those of which it is not known."""
    touched: dict[str, list[Applied]] = {}
    unsure: dict[str, str] = {}
    for one in applied:
        found = False
        for name, entry in entries.items():
            module, _, last = name.rpartition(".")
            bias = last == "bias" and one.output and len(entry.shape) == 1
            if not bias and (last != "weight" or len(entry.shape) != 2):
                continue
            try:
                fits = not _fits(module, entry, one.ignored) and _fits(module, entry, one.targets)
            except MisfitError as reason:
                unsure[name], found = str(reason), True
                continue
            if fits:
                touched.setdefault(name, []).append(one)
                found = True
        if not found:
            raise MisfitError(
                f"{CONFIG} rotates {quote(', '.join(one.targets))}, and no weight is called so"
            )
    return touched, unsure


def _fits(module: str, entry: TensorEntry, targets: Sequence[str]) -> bool:
    for target in targets:
        pattern = target.removeprefix("re:")
        if pattern != target:
            if len(module) <= LONGEST and re.match(pattern, module):
                return True
        elif target[:1].isupper() and "." not in target:
            if target == "Embedding":
                fits = _is_embedding(module)
            elif target == "Linear" and (entry.codec is not None or _is_embedding(module)):
                fits = entry.codec is not None
            else:
                raise MisfitError(
                    f"{CONFIG} names its modules by the class {quote(target)}, which the weights "
                    "do not tell"
                )
            if fits:
                return True
        elif target == module:
            return True
    return False


def _is_embedding(module: str) -> bool:
    """Say whether a module is an embedding, whose rows are its inputs."""
    return EMBEDDING.fullmatch(module.rpartition(".")[2]) is not None


def _rotation(entry: TensorEntry, one: Applied, entries: Mapping[str, TensorEntry]) -> Rotation:
    """Return what undoes one rotation of a weight.

    Of a linear layer the stored weight is W M^T on the side of the inputs and M^T W on that
    of the outputs, of an embedding M W and W M; M is the scheme's matrix, transposed for an
    inverse, over the root of its size.
    """
    embedding = _is_embedding(entry.name.rpartition(".")[0])
    rows = one.output != embedding
    extent = entry.shape[0] if rows or len(entry.shape) == 1 else entry.shape[1]
    size = one.block or extent
    what = f"{CONFIG}: {one.scheme} rotates it by a matrix"
    if extent % size:
        raise MisfitError(f"{what} of {size}, which does not divide {extent}")
    if one.kind == "hadamard" and not one.randomized:
        if not is_power(size, SYLVESTER):
            raise MisfitError(f"{what} of {size}, no power of two")
        return Rotation(size, rows=rows)
    if one.kind not in {"hadamard", "random-hadamard"}:
        raise MisfitError(f"{what} of the type {quote(one.kind)}, which is not undone")
    matrix, places = _stored(one, size, entries)
    if matrix is None or (one.randomized and places is None):
        raise MisfitError(f"{what} of {size} ({one.kind}) that the file does not hold")
    # Runs along the rotated axis were multiplied with M^T on the side of the inputs, with M on
    # that of the outputs.
    return Rotation(
        size, rows=rows, matrix=matrix, places=places, transposed=one.output != one.inverse
    )


def _stored(
    one: Applied, size: int, entries: Mapping[str, TensorEntry]
) -> tuple[TensorEntry | None, TensorEntry | None]:
    """Return the matrix of a scheme and size, and its order; all modules share them."""
    for place in ONLINE:
        mark = f".{one.scheme}_{place}.weight"
        for name, entry in entries.items():
            if f".{name}".endswith(mark) and entry.shape == (size, size):
                beside = entries.get(name.removesuffix("weight") + "perm")
                return entry, beside
    return None, None
