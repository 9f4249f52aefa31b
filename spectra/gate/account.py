"""What of an adapter a merged model holds, over all matrices that the adapter changes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spectra.analyzers import Row
from spectra.gate.conventions import BEYOND, DAMAGED, UNSOUND, UNTOUCHED
from spectra.numbers import percent, ranged
from spectra.text import counted
from spectra.words import FAILED, VECTOR

CLOSE = 0.05  # of a factor, to be one
PARTLY = "rows of the base's"
COLUMNS = "columns of the base's"
ROUNDING = 2.0  # times what rounding makes, above which a rest is something else
BOTH = "matrix or vector", "matrices and vectors"
VECTORS = "vector", "vectors"
SEEN = 1e-6  # of a change, up to which a rest is that of sums in another order
NOTHING = 0.9  # of a change that is something else, from which on it is no merge


@dataclass(frozen=True, slots=True)
class Account:
    """Counts of matrices, vectors among them, and what merges they are."""

    matrices: int
    vectors: int  # of these
    exact: int  # are base + update, bit for bit
    off: int  # values of these that the order of sums has changed
    near: int  # hold the update once, to rounding
    rest: tuple[float, float]  # the most of a change that is neither that nor rounding, of these,
    # as a share of it, and beside what rounding makes
    hidden: int  # their update lies below rounding
    damaged: int  # it, the base or the model is not finite
    scaled: int  # hold it more or less often
    factors: tuple[float, float]  # the least and the most that they do
    foreign: int  # their change is something else
    ways: tuple[str, ...]  # in which all of the exact ones come out; several give the same bytes
    mixed: tuple[tuple[str, int], ...]  # where there is none, in which how many do
    faults: tuple[tuple[str, int], ...]  # what is wrong with others, and with how many
    beyond: int  # changed, though the adapter leaves them alone; not among the matrices

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "matrices": self.matrices,
            "exact": self.exact,
            "near": self.near,
            "hidden": self.hidden,
            "damaged": self.damaged,
            "scaled": self.scaled,
            "foreign": self.foreign,
            "ways": [*self.ways, *(way for way, _ in self.mixed)],
            "faults": [{"what": what, "matrices": count} for what, count in
                       (*self.faults, *([(BEYOND, self.beyond)] if self.beyond else ()))],
        }  # fmt: skip

    def text(self) -> str:
        """Say it in a sentence or two."""
        told = [self._held()]
        if self.beyond:
            others = counted(self.beyond, "other matrix or vector", "other matrices and vectors")
            told.append(f"{others} changed, which the adapter leaves alone.")
        return " ".join(text for text in told if text)

    def _held(self) -> str:
        """Say it of what the adapter changes."""
        whole = counted(self.matrices, *self._noun)
        if 2 * self.foreign > self.matrices:
            return (
                f"The model is no merge of this adapter: in {self.foreign:,} of {whole} at least "
                "90 % of the change is something else."
            )
        told = [self._exactly(whole)] if self.exact else []
        told += [_faulty(what, count) for what, count in self.faults]
        if self.scaled:
            factors = ranged(*self.factors)
            told.append(f"{_hold(self.scaled)} it {factors} times")
        if self.near:
            how = "though bit for bit in no arithmetic that is replayed"
            share, beside = self.rest
            if beside > ROUNDING and share > SEEN:
                how += f", and up to {percent(share)} of their change is something else"
            told.append(f"{_hold(self.near)} it once, {how}")
        if self.damaged:
            told.append(f"of {self.damaged:,} the update, the base or the model holds NaN or Inf")
        if self.hidden:
            told.append(f"of {self.hidden:,} it lies below rounding and is not known")
        if self.foreign:
            told.append(f"{self.foreign:,} changed by something else")
        if not told:
            return ""
        text = "; ".join(told)
        if not self.exact:
            text = f"Of {whole} that the adapter changes, {text}"
        return f"{text}."

    @property
    def _noun(self) -> tuple[str, str]:
        if not self.vectors:
            return "matrix", "matrices"
        return VECTORS if self.vectors == self.matrices else BOTH

    def _exactly(self, whole: str) -> str:
        every = f"All {whole} that the adapter changes are"
        some = f"{self.exact:,} of {whole} that the adapter changes are"
        start = f"{every if self.exact == self.matrices else some} base + update, bit for bit"
        if self.off:
            start += f" but for {counted(self.off, 'value')} that the order of sums decides"
        if self.mixed:
            return f"{start}: " + ", ".join(f"{count:,} {way}" for way, count in self.mixed)
        same = " (all give the same bytes)" if len(self.ways) > 1 else ""
        return f"{start}: {'; or '.join(self.ways)}{same}"


def _hold(count: int) -> str:
    return counted(count, "holds", "hold")


def _faulty(what: str, count: int) -> str:
    verb = "is" if count == 1 else "are"
    known = {
        UNTOUCHED: "still the base's", PARTLY: "in some rows still the base's",
        COLUMNS: "in some columns still the base's",
    }  # fmt: skip
    return f"{count:,} {verb} {known[what]}" if what in known else \
        f"{_hold(count)} another one: {what}"  # fmt: skip


def account_of(rows: Iterable[Row]) -> Account | None:
    """Return what rows of a merged model tell; None where none has anything to tell."""
    known = [row for row in rows if row.status != FAILED]
    beyond = sum(_fault(row.values) == BEYOND for row in known)
    held = [row for row in known if "merge_scale" in row.values]
    if not held and not beyond:
        return None
    values = [row.values for row in held]
    right = [one for one in values if one.get("merge_as") and not _fault(one)]
    left = [one for one in values if one not in right]
    damaged = [one for one in left if _fault(one) in (DAMAGED, UNSOUND)]
    left = [one for one in left if one not in damaged]
    hidden = [one for one in left if one["merge_scale"] is None]
    found = [one for one in left if one["merge_scale"] is not None]
    faults = Counter(fault for one in found if (fault := _fault(one)))
    others = [one for one in found if not _fault(one)]
    near = [one for one in others if abs(_number(one, "merge_scale") - 1.0) <= CLOSE
            and _number(one, "merge_rest") <= NOTHING]  # fmt: skip
    scaled = [_number(one, "merge_scale") for one in others
              if one not in near and _number(one, "merge_rest") <= NOTHING]  # fmt: skip
    ways = [set(str(one["merge_as"]).split(" | ")) for one in right]
    common = set.intersection(*ways) if ways else set()
    mixed = Counter(str(one["merge_as"]).split(" | ")[0] for one in right)
    return Account(
        matrices=len(values),
        vectors=sum(row.place.role == VECTOR for row in held),
        exact=len(right),
        off=sum(int(_number(one, "merge_off")) for one in right),
        near=len(near),
        rest=max(
            ((_number(one, "merge_rest"), _number(one, "merge_rest_rounding")) for one in near),
            default=(0.0, 0.0),
        ),
        hidden=len(hidden),
        damaged=len(damaged),
        scaled=len(scaled),
        factors=(min(scaled, default=0.0), max(scaled, default=0.0)),
        foreign=len(others) - len(near) - len(scaled),
        ways=tuple(_in_order(common, ways, right)),
        mixed=() if common else tuple(mixed.most_common()),
        faults=tuple(faults.most_common()),
        beyond=beyond,
    )


def _fault(one: Any) -> str:  # noqa: ANN401 - of a row
    if one.get("merge_base_rows"):
        return PARTLY
    if one.get("merge_base_columns"):
        return COLUMNS
    return str(one.get("merge_fault") or "")


def _number(one: Any, key: str) -> float:  # noqa: ANN401 - as above
    return float(one.get(key) or 0.0)


def _in_order(common: set[str], ways: Sequence[set[str]], right: Sequence[Any]) -> list[str]:
    """Return the ways that all share, the usual first; unusual ones only where no other is."""
    if not ways:
        return []
    return [way for way in str(right[0]["merge_as"]).split(" | ") if way in common]
