"""What a model lacks of the parameters that its class holds, and where it has more than it says."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from spectra.architectures.parameters import Config, Holdings, Template, forms_of, holds, setting

FEW = 4  # numbers of a row, from which on one can be left out by mistake
ALIKE = 0.5  # share of the names here that a class has, below which it is not that class
ALIKE_OWN_CODE = 0.9  # likewise where the model brings code of its own
LEGACY = (
    (re.compile(r"(LayerNorm|layer_norm)\.gamma$"), r"\1.weight"),
    (re.compile(r"(LayerNorm|layer_norm)\.beta$"), r"\1.bias"),
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
)
"""Names of older files that transformers takes for those of today."""

COMPUTED = re.compile(r"FSMT\w* .*embed_positions\.weight")
"""Class and name of tables of sines that transformers fills itself, and did not save for years."""

OF_TRAINING = ("masked_spec_embed", "mask_token")
"""How the names end of what stands for masked input, which only training hides."""

OF_WEIGHTS = re.compile(r"scale|zero|amax|g_idx|absmax|bias|shape|map|state|scb", re.IGNORECASE)
"""In the last words of what lies beside a quantised weight."""

TABLES = ("shared", "embed", "wte")
"""In names of the tables of input tokens."""

Trie = dict[str, "Trie"]
"""Names by their words."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What a model lacks beside its class."""

    name: str  # of the class
    missing: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()  # not here under these names, and others are in their place
    head: tuple[str, ...] = ()  # all that is outside the body, of a model saved as that alone
    unused: tuple[str, ...] = ()  # not here, and nothing but training uses it
    beyond: Mapping[str, int] = field(default_factory=dict)
    """Places of numbers that a setting does not count that far, and what it says."""


def lacking(
    config: Config,
    names: Collection[str],
    known: Collection[str],
    name: str,
    *,
    translated: bool = False,
) -> Lack | None:
    """Return what a model lacks; None where it is another one than its class says.

    Args:
        config: Its config.json.
        names: Tensors that are weights.
        known: All names in its files, also of parts of quantised weights and of what is lost.
        name: Its class.
        translated: Names are those that another format's stand for: what no layer has may be there
            in another form.
    """
    forms = forms_of(name)
    own = _modern(names)
    every = own | _modern(known)
    tried = [_Beside(form, config, own, every, translated).lack() for form in forms]
    found = [lack for lack in tried if lack is not None]
    return min(found, key=lambda lack: len(lack.missing) + len(lack.renamed), default=None)


def _modern(names: Iterable[str]) -> set[str]:
    """Return names as transformers writes them today; those of other modules are left out."""
    found = set()
    for name in names:
        if "/" not in name:
            for pattern, new in LEGACY:
                name = pattern.sub(new, name)  # noqa: PLW2901 - one after the other
            found.add(name)
    return found


@dataclass(frozen=True, slots=True)
class _Placed:
    """One parameter of a class as it would stand here, one of every layer where it is in layers."""

    names: Template
    outer: bool  # not in the class's body
    gone: tuple[str, ...] = ()
    whole: bool = False  # all are gone


@dataclass(slots=True)
class _Beside:
    holdings: Holdings
    config: Config
    names: set[str]
    known: set[str]
    translated: bool = False
    beyond: dict[str, int] = field(default_factory=dict)

    def lack(self) -> Lack | None:
        here = Counter(_shape(name) for name in self.names)
        body, head = self._places(here)
        placed = [
            _Placed(tuple(self._at(name, body, head) for name in names), self._is_outer(names))
            for names, when in self.holdings.templates
            if holds(self.config, when, self.holdings.aliases)
        ]
        ever = {_shape(self._at(name, body, head)) for name in self.holdings.names}
        ever |= {_shape(self._at(name, body, head)) for name in self.holdings.also}
        strays = {shape: count for shape, count in here.items() if shape not in ever}
        least = ALIKE_OWN_CODE if "auto_map" in self.config else ALIKE
        if not here or here.total() - sum(strays.values()) < least * here.total():
            return None
        return self._sorted(list(self._gone(placed)), body, strays)

    def _sorted(self, every: "list[_Placed]", body: str, strays: Mapping[str, int]) -> Lack:
        outer = [one for one in every if one.outer]
        # AutoModel saves the body alone, without its prefix, and may leave the class's own name.
        bare = bool(outer) and not body.endswith(self.holdings.prefix)
        bare = bare and all(one.whole for one in outer)
        found: dict[str, list[str]] = {"missing": [], "renamed": [], "head": [], "unused": []}
        words = set(body.split(".")) | COMMON
        for one in every:
            if one.whole and self.translated and _is_layered(one.names):
                continue
            doubted = one.whole and _stands_in(one.names, len(one.gone), strays, words)
            kind = "head" if bare and one.outer else "renamed" if doubted else "missing"
            for name in one.gone:
                if COMPUTED.match(f"{self.holdings.name} {name}"):
                    continue
                found["unused" if name.endswith(OF_TRAINING) else kind].append(name)
        told = {kind: tuple(dict.fromkeys(names)) for kind, names in found.items()}
        return Lack(self.holdings.name, **told, beyond=self.beyond)

    def _gone(self, placed: "Iterable[_Placed]") -> "Iterator[_Placed]":
        """Yield each template with those of its parameters that are not here."""
        tree, parts = _trie(self.known), set(_packed(self.known))
        for one in placed:
            every = list(self._filled(one.names, tree))
            gone = [_said(names) for names in every
                    if self.known.isdisjoint(names) and parts.isdisjoint(names)]  # fmt: skip
            yield replace(one, gone=tuple(gone), whole=len(gone) == len(every))

    def _is_outer(self, names: Template) -> bool:
        """Say whether a parameter is outside the class's body, where it has one."""
        prefix = self.holdings.prefix
        inside = any(name.startswith(prefix) for name in self.holdings.names)
        return bool(prefix) and inside and not any(name.startswith(prefix) for name in names)

    def _places(self, here: Collection[str]) -> tuple[str, str]:
        """Return what stands before the names of the class's body here, and before all others."""
        prefix = self.holdings.prefix
        every = {_shape(name) for name in self.holdings.names}
        inner = {name.removeprefix(prefix) for name in every if name.startswith(prefix)}
        body = _common(inner, here, prefix)
        outer = {name for name in every if not name.startswith(prefix)}
        return body, _common(
            outer, here, body.removesuffix(prefix) if body.endswith(prefix) else ""
        )

    def _at(self, name: str, body: str, head: str) -> str:
        prefix = self.holdings.prefix
        return body + name.removeprefix(prefix) if name.startswith(prefix) else head + name

    def _filled(self, names: Template, tree: Trie) -> Iterator[Template]:
        """Yield the parameters that a template stands for here, each with all of its names."""
        every = [list(self._expanded(_words(name), tree)) for name in names]
        for told in zip_longest(*every):
            yield tuple(name for name in told if name is not None)

    def _expanded(self, words: list[str], node: Trie, before: str = "") -> Iterator[str]:
        """Yield a template's names: a number as far as its setting counts, or that is here."""
        for i, word in enumerate(words):
            here = {number for number in node if number.isdigit()}
            if word == "*":
                numbers: Iterable[str] = _without_gaps(here)
            elif word.startswith("{"):
                numbers = self._counted(word[1:-1], before, here)
            elif word.isdigit():
                numbers = [word] if word in here or not node else []
            else:
                before, node = f"{before}{word}.", node.get(word, {})
                continue
            for number in numbers:
                yield from self._expanded(
                    words[i + 1 :], node.get(number, {}), f"{before}{number}."
                )
            return
        yield before.removesuffix(".")

    def _counted(self, key: str, before: str, here: Collection[str]) -> Iterable[str]:
        """Return the numbers that a setting counts; where it is not told, up to the last here."""
        last = max(map(int, here), default=-1)
        told = setting(self.config, key, self.holdings.aliases)[1]
        if isinstance(told, bool) or not isinstance(told, int):
            return map(str, range(last + 1))
        if last >= told and not _predicts(self.config):
            self.beyond[before] = told
        return map(str, range(told))


def _without_gaps(here: Collection[str]) -> Iterable[str]:
    """Return the numbers that are here, and of a long row the few that are left out."""
    last = max(map(int, here), default=-1)
    lacking = last + 1 - len(here)
    filled = len(here) >= FEW and lacking * FEW <= len(here)
    return map(str, range(last + 1)) if filled else sorted(here, key=int)


def _predicts(config: Config) -> bool:
    """Say whether there may be layers past the last that predict further words, or such experts."""
    return any(word in key for key in config for word in ("nextn", "mtp", "zero_expert"))


def _shape(name: str) -> str:
    """Return a name, or a template, with every number as `*`."""
    return ".".join("*" if word.isdigit() or word[:1] == "{" else word for word in _words(name))


def _words(name: str) -> list[str]:
    """Return the words of a name; a setting's dots are none of its own."""
    return re.findall(r"\{[^}]*\}|[^.]+", name)


def _common(shapes: Iterable[str], here: Collection[str], default: str) -> str:
    """Return what stands before most of the names here that end like these shapes."""
    found: Counter[str] = Counter()
    for shape in shapes:
        for name in here:
            start = name.removesuffix(shape)
            if name.endswith(shape) and "*" not in start and start[-1:] in {"", "."}:
                found[start] += 1
    most = max(found.values(), default=0)
    if found[default] == most:
        return default
    return min((start for start, count in found.items() if count == most), key=len)


def _trie(names: Iterable[str]) -> Trie:
    root: Trie = {}
    for name in names:
        node = root
        for word in name.split("."):
            node = node.setdefault(word, {})
    return root


def _packed(names: Iterable[str]) -> Iterator[str]:
    """Yield the weights of which packed values are here: `x.weight` of `x.qweight`, `x_blocks`."""
    for name in names:
        stem, _, last = name.rpartition(".")
        if last not in {"weight", "bias"} and not OF_WEIGHTS.search(last):
            yield f"{stem}.weight"
            yield name.rpartition("_")[0]


def _said(names: Template) -> str:
    """Return the name by which a parameter is told: of tied ones the embeddings'."""
    return next((name for word in TABLES for name in names if word in name), names[0])


def _is_layered(names: Template) -> bool:
    return "{" in names[0] or "*" in names[0]


def _stands_in(
    names: Template, count: int, strays: Mapping[str, int], common: Collection[str]
) -> bool:
    """Say whether other tensors may be these: as many, of the same kind, in the same place."""
    layered = _is_layered(names)
    for name in names:
        last, own = name.rpartition(".")[2], set(re.split(r"[._]", _shape(name)))
        for shape, other in strays.items():
            shared = own & set(re.split(r"[._]", shape)) - set(common)
            alike = layered == ("*" in shape) and (layered or bool(shared))
            alike = alike and ("norm" in name.lower()) == ("norm" in shape.lower())
            if other == count and shape.rpartition(".")[2] == last and alike:
                return True
            if "experts" in shared:  # stacked, or one by one
                return True
    return False


COMMON = frozenset({"weight", "bias", "model", "*", ""})
"""Words of names that say nothing of what a tensor is."""
