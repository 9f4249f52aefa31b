"""The lines of every head of one module of attention, norms and rotations folded in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spectra.analyzers.heads_level import Levelled, Side
from spectra.deferred import Tensor, torch
from spectra.kernels.products import fits_single
from spectra.matrices import Matrix
from spectra.matrices.attention import Attention
from spectra.matrices.attention_families import NormKind
from spectra.matrices.pair import widened
from spectra.text import listed

WRITES = "what it writes"


@dataclass(frozen=True, slots=True)
class Logit:
    """One summand of a logit: a product of some lines of a query and of a key."""

    query: Side
    key: Side
    turns: bool


@dataclass(frozen=True, slots=True)
class Lines:
    """What heads read and write: Q and K, V and O, a row for each line of a head.

    Where a head's are so large or small that products of them leave float32 or float64, they are
    divided by a power of two, which `qk_scale` and `ov_scale` of each head make good.
    """

    queries: Tensor  # heads x size x width
    keys: Tensor  # keys x size x memory
    values: Tensor  # keys x value size x memory
    written: Tensor  # heads x value size x outputs
    logits: tuple[Logit, ...]  # their sum, times the scale, is the logit; none: not known
    key_of: Tensor  # the head of keys and values of each head of queries
    broken: Sequence[str]
    """Of each head of queries what of it is no number; its lines are 0. Empty: nothing."""
    qk_scale: Tensor  # heads, float64
    ov_scale: Tensor


def lines_of(about: Attention, held: Mapping[str, Matrix], *, fold: bool = True) -> Lines:
    """Return the lines of all heads.

    With norms folded in, they are of the normalised stream, whose length is at most the root of its
    width: RMSNorm's gain multiplies the inputs, and LayerNorm's too, from which its mean is taken
    away. A norm behind the attention multiplies what is written. NaN or Inf costs the heads whose
    lines hold it: these are 0, and it is told of which.

    Args:
        about: How they go together.
        held: Matrices and vectors by role, as `attentions` names them.
        fold: Fold norms in, where they are known.
    """
    folds = fold and about.known
    raw = _Held(held, folds)
    before, through = (about.before, about.through) if folds else ("", "")
    through = through if about.across else before
    if about.latent:
        queries, keys, values, logits = _latent(about, raw, before)
    else:
        query = raw.read("q", "before", before)
        key = raw.read("k", "through" if about.across else "before", through)
        value = raw.read("v", "through" if about.across else "before", through)
        query, key = (_headed(query, about.heads), _headed(key, about.keys))
        if about.each:
            query, key = raw.each(query, "q", about), raw.each(key, "k", about)
        query, key = _stretched(query, about), _stretched(key, about)
        queries, keys = query.lines, key.lines
        values = _headed(value, about.keys).lines
        logits = _split(query, key, about)
    written = raw.matrix("o").mT.unflatten(0, (about.heads, -1)).contiguous()
    if folds and about.behind:
        written = _times(written, raw.gain("behind", about.behind))
    shared = torch.arange(about.heads, device=queries.device) // (about.heads // about.keys)
    known = folds and about.scale is not None
    levelled = Levelled()
    query, key, value, output = (
        levelled.of(Side(one, None)) for one in (queries, keys, values, written)
    )
    logits = tuple(
        Logit(levelled.of(one.query), levelled.of(one.key), one.turns)
        for one in (logits if known else ())
    )
    one = torch.ones(about.heads, dtype=torch.float64, device=queries.device)
    found = Lines(
        query.lines, key.lines, value.lines, output.lines, logits, shared, (),
        one * query.scale * _each_of(key.scale, shared),
        one * output.scale * _each_of(value.scale, shared),
    )  # fmt: skip
    return _without_broken(found, raw, levelled)


@dataclass(frozen=True, slots=True)
class _Held:
    """Values by role."""

    held: Mapping[str, Matrix]
    folds: bool

    def matrix(self, role: str) -> Tensor:
        return widened(self.held[role].values)

    def vector(self, role: str) -> Tensor | None:
        return widened(self.held[role].values).flatten() if role in self.held else None

    def gain(self, role: str, kind: NormKind) -> Tensor | float:
        found = self.vector(f"{role}.gain")
        if found is None:
            return 1.0
        return found + 1.0 if kind == "rms1" else found

    def broken_norms(self) -> str:
        """Name the norms that are no numbers; what passes one is none either."""
        sick = [
            one.view.name for role, one in self.held.items()
            if role.endswith((".gain", ".offset")) and not one.values.isfinite().all()
        ]  # fmt: skip
        return f", as {listed(sick)} {'do' if len(sick) > 1 else 'does'}" if sick else ""

    def read(self, role: str, norm: str, kind: NormKind) -> Side:
        """Return a matrix that reads through a norm, and its bias with the norm's offset in it."""
        lines, bias = self.matrix(role), self.vector(f"{role}.bias")
        if not kind or kind == "gain":
            return Side(lines, None, bias)
        offset = self.vector(f"{norm}.offset")
        if offset is not None:
            moved = _product(lines, offset[:, None])[:, 0]
            bias = moved if bias is None else bias + moved
        lines = _times(lines, self.gain(norm, kind)).contiguous()  # GPT-2's are stored turned
        if kind == "layer":
            lines -= lines.mean(dim=1, keepdim=True)
        return Side(lines, math.sqrt(lines.shape[1]), bias)

    def each(self, side: Side, role: str, about: Attention) -> Side:
        """Return queries or keys times the gains of the norm that each passes."""
        gain = self.gain(role, about.each) if self.folds else 1.0
        if not isinstance(gain, Tensor):
            return side
        heads, size = side.lines.shape[:2]
        longest = math.sqrt(gain.numel()) * float(
            _finite(gain).abs().max()
        )  # whatever it is made of
        gain = gain.reshape(-1, size).expand(heads, size)
        bias = None if side.bias is None else _times(side.bias, gain)
        return Side(_times(side.lines, gain[..., None]), longest, bias)


def _each_of(scale: Tensor | float, shared: Tensor) -> Tensor | float:
    return scale[shared] if isinstance(scale, Tensor) else scale


def _without_broken(lines: Lines, raw: _Held, levelled: Levelled) -> Lines:
    """Return lines that are 0 where a head's own hold NaN or Inf, and which heads these are."""
    whole = (lines.queries, lines.keys, lines.values, lines.written)
    parts = ("its queries", "its keys", "its values", WRITES)
    of = {name: ~levelled.sound(Side(one, None)) for name, one in zip(parts, whole, strict=True)}
    for logit in lines.logits:
        for name, side in (("its queries", logit.query), ("its keys", logit.key)):
            of[name] = of[name] | ~levelled.sound(side)
    heads = len(lines.key_of)
    if not bool(torch.cat([*of.values()]).any()):
        return replace(lines, broken=[""] * heads)
    queries, keys, values, written = of.values()

    def without(side: Side, bad: Tensor) -> Side:
        bias = None if side.bias is None else _zeroed(side.bias, bad)
        return replace(side, lines=_zeroed(side.lines, bad), bias=bias)

    norms = raw.broken_norms()
    each = {name: (bad if len(bad) == heads else bad[lines.key_of]).tolist()
            for name, bad in of.items()}  # fmt: skip
    told = []
    for head in range(heads):
        names = [name for name in each if each[name][head]]
        verb = "holds" if names == [WRITES] else "hold"
        told.append(f"{listed(names)} {verb} NaN or Inf{norms}" if names else "")
    return Lines(
        _zeroed(lines.queries, queries), _zeroed(lines.keys, keys),
        _zeroed(lines.values, values), _zeroed(lines.written, written),
        tuple(Logit(without(one.query, queries), without(one.key, keys), one.turns)
              for one in lines.logits),
        lines.key_of, told, lines.qk_scale, lines.ov_scale,
    )  # fmt: skip


def _zeroed(lines: Tensor, bad: Tensor) -> Tensor:
    found = lines.clone()
    found[bad] = 0.0
    return found


def _finite(values: Tensor) -> Tensor:
    return values.where(values.isfinite(), 0.0)


def _headed(side: Side, heads: int) -> Side:
    bias = side.bias
    return Side(side.lines.unflatten(0, (heads, -1)), side.reach,
                None if bias is None else bias.unflatten(0, (heads, -1)))  # fmt: skip


def _turning(about: Attention) -> slice:
    return slice(about.size - about.turning, about.size) if about.latent \
        else slice(0, about.turning)  # fmt: skip


def _stretched(side: Side, about: Attention) -> Side:
    """Multiply the lines that rotate with what rotating multiplies them with."""
    if about.length == 1.0 or not about.turning:
        return side
    factor = torch.ones(about.size, dtype=side.lines.dtype, device=side.lines.device)
    factor[_turning(about)] = about.length
    bias = None if side.bias is None else side.bias * factor
    return Side(side.lines * factor[:, None], side.reach, bias)


def _split(query: Side, key: Side, about: Attention) -> tuple[Logit, ...]:
    """Return the lines that rotate and the others; of normed heads all are one."""
    if about.each or about.turning in {0, about.size}:
        return (Logit(query, key, bool(about.turning)),)

    def part(side: Side, lines: slice) -> Side:
        bias = None if side.bias is None else side.bias[:, lines]
        return Side(side.lines[:, lines], side.reach, bias)

    turning, fixed = slice(0, about.turning), slice(about.turning, about.size)
    return tuple(
        Logit(part(query, lines), part(key, lines), turns)
        for lines, turns in ((turning, True), (fixed, False))
    )


def _fits(left: Tensor, right: Tensor) -> bool:
    """Say whether float32 holds a product of what of both is a number.

    One head's NaN or Inf leaves the numbers of the others as they would be without it.
    """
    return fits_single(left, right) or fits_single(_finite(left), _finite(right))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return a product, in float64 where it is too large or too small for float32."""
    return left @ right if _fits(left, right) else left.double() @ right.double()


def _times(lines: Tensor, gain: Tensor | float) -> Tensor:
    """Return lines times a gain, likewise."""
    fits = not isinstance(gain, Tensor) or _fits(lines, gain)
    return lines * gain if fits else lines.double() * gain


def _latent(
    about: Attention, raw: _Held, before: NormKind
) -> tuple[Tensor, Tensor, Tensor, tuple[Logit, ...]]:
    """Return queries, keys and values of the stream, the latents between them multiplied in."""
    kind: NormKind = "rms" if raw.folds else ""
    down, turned = raw.read("down", "before", before), raw.read("turned", "before", before)
    key = _headed(raw.read("k", "down", kind), about.keys)
    value = _headed(raw.read("v", "down", kind), about.keys)
    if "q_down" in raw.held:
        inner = _headed(raw.read("q", "q_down", kind), about.heads)
        queries = _product(inner.lines, raw.read("q_down", "before", before).lines)
    else:
        inner = _headed(raw.read("q", "before", before), about.heads)
        queries = inner.lines
    plain = about.size - turned.lines.shape[0]
    shared = turned.lines.expand(about.keys, -1, -1)
    keys = torch.cat([_product(key.lines, down.lines), shared], dim=1)
    inner = _stretched(inner, about)
    whole = _stretched(Side(keys, None), about).lines
    queries = _stretched(Side(queries, None), about).lines
    biased = any(f"{role}.bias" in raw.held for role in ("q", "q_down", "down", "k"))
    logits = () if biased else (
        Logit(Side(inner.lines[:, :plain], inner.reach), key, turns=False),
        Logit(Side(inner.lines[:, plain:], inner.reach),
              Side(whole[:, plain:], turned.reach), turns=True),
    )  # fmt: skip
    return queries, whole, _product(value.lines, down.lines), logits
