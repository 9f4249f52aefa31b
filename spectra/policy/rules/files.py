"""Whether the files of a checkpoint are whole and agree with its index."""

import re
from collections.abc import Iterator, Mapping

from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.rule import SettingsOf
from spectra.policy.rules.places import is_beside_index, some
from spectra.text import counted, shown

SHARD = re.compile(r"(.*)-\d{5}-of-\d{5}\.safetensors")


def truncated(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield files that are cut, missing or no safetensors."""
    if settings_of("") is None:
        return
    for fault in facts.faults:
        text = f"{shown(fault.file)} {fault.text}"
        if fault.tensors:
            lost = counted(len(fault.tensors), "tensor")
            text += f"; {lost} lost: {some(fault.tensors)}"
        yield Breach(text, value=len(fault.tensors), limit=0.0, file=fault.file, subject=fault.file)


def index_mismatch(facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
    """Yield what the index says otherwise than the shards' own headers."""
    if facts.index is None or settings_of("") is None:
        return
    if is_beside_index(facts):
        yield _beside(facts, facts.index)
        return
    unread = {fault.file for fault in facts.faults} - set(facts.held.values())
    wrong: dict[tuple[str, str], list[str]] = {}
    for name, shard in facts.index.items():
        home = facts.held.get(name)
        if home is None and shard not in unread:
            wrong.setdefault((shard, "absent"), []).append(name)
        elif home is not None and home != shard:
            wrong.setdefault((shard, f"in {home}"), []).append(name)
    for name, home in facts.held.items():
        if name not in facts.index:
            wrong.setdefault((home, "unnamed"), []).append(name)
    for (shard, kind), names in wrong.items():
        yield Breach(_told(shard, kind, names), value=len(names), limit=0.0, file=shard,
                     subject=f"{shard} {kind}")  # fmt: skip
    for file in _strangers(facts, set(facts.index.values())):
        yield Breach(f"{shown(file)} lies in the folder, and the index never names it", file=file,
                     subject=file)  # fmt: skip


def _beside(facts: Facts, index: Mapping[str, str]) -> Breach:
    """Tell of a whole file that is opened in place of what the index beside it names."""
    read = ", ".join(shown(file) for file in sorted(set(facts.held.values())))
    only = index.keys() - facts.held.keys()
    text = (
        f"{shown(facts.index_name)} puts {counted(len(index), 'tensor')} in "
        f"{counted(len(set(index.values())), 'other file')}, and {read} beside it, which loaders "
        f"take first and was judged, holds {len(facts.held):,}"
    )
    text += f": {len(only):,} are not in it, as {some(only)}" if only else ""
    return Breach(text, value=len(only), limit=0.0, file=facts.index_name, subject=facts.index_name)


def _told(shard: str, kind: str, names: list[str]) -> str:
    what, listed = counted(len(names), "tensor"), some(names)
    if kind == "absent":
        return f"the index puts {what} in {shown(shard)} that it does not hold: {listed}"
    if kind == "unnamed":
        return f"{shown(shard)} holds {what} that the index does not name: {listed}"
    return f"the index puts {what} in {shown(shard)} that lie {shown(kind)}: {listed}"


def _strangers(facts: Facts, named: set[str]) -> Iterator[str]:
    """Yield shards of the same series that the index does not name."""
    series = {found[1] for name in named if (found := SHARD.fullmatch(name))}
    for file in facts.files:
        found = SHARD.fullmatch(file)
        if found and found[1] in series and file not in named:
            yield file
