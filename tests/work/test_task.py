"""What a task reads, what that takes, and what tells it from others; no byte is read."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

import spectra
from spectra.analyzers import Diff
from spectra.checkpoint import Checkpoint, LoraFactors, TensorEntry
from spectra.checkpoint.adapter.adapter import NewRows
from spectra.matrices import Role, Selection, View
from spectra.matrices.part import Part
from spectra.work import plan_pair
from spectra.work.identity import identity
from spectra.work.read import Read
from spectra.work.task import Input, Replaced, Rewritten, Shifted, Task, Updated, bytes_of

RANK, ROWS, COLS, EXPERTS = 2, 6, 5, 3


def entry(name: str, *shape: int, strides: tuple[int, ...] = ()) -> TensorEntry:
    return TensorEntry(name, "F32", shape, "x.safetensors", 0, 4 * prod(shape), strides=strides)


def holding(name: str) -> Checkpoint:
    return Checkpoint(name, f"/{name}", {}, {})


STACK = entry("experts", EXPERTS, ROWS, COLS)
MODEL, ADAPTER = holding("model"), holding("adapter")
A, B, MAGNITUDE = entry("a", RANK, COLS), entry("b", ROWS, RANK), entry("m", ROWS)


def expert(number: int, *, start: TensorEntry | None = None) -> Input:
    """One expert of a stack, whose update gives each output a new length."""
    factors = LoraFactors("experts", "parameter", A, B, RANK, 1.0, MAGNITUDE)
    part = Part(expert=number)
    view = View(f"experts{part.suffix}", Role("mlp.up"), STACK, part, ROWS, COLS)
    return Input("", MODEL, view, True, Updated(ADAPTER, factors, turned=False, start=start))


def task(*inputs: Input) -> Task:
    return Task(inputs[0].view.place(), inputs)


@pytest.mark.parametrize("slab", [None, (1, 3)])
def test_what_is_put_in_order_takes_room_for_its_own_values(slab: tuple[int, int] | None) -> None:
    turned = Read(MODEL, entry("w", EXPERTS, ROWS, COLS, strides=(1, 3, 18)), slab)
    assert turned.numel == (2 if slab else 3) * ROWS * COLS
    assert turned.memory == turned.nbytes + 4 * turned.numel
    assert Read(MODEL, STACK, slab).memory == turned.nbytes


def test_what_values_are_formed_from_is_read_whole_and_no_slab_of_it_besides() -> None:
    one = expert(1)
    assert [(read.entry.name, read.slab) for read in one.reads] == [
        ("experts", (1, 2)), ("a", None), ("b", None), ("m", None), ("experts", None),
    ]  # fmt: skip
    assert [read.entry.name for read in task(one).reads] == ["a", "b", "m", "experts"]
    assert bytes_of([task(one), task(expert(2))]) == sum(
        each.nbytes for each in (STACK, A, B, MAGNITUDE)
    )


def test_of_what_an_adapter_stores_anew_the_slab_is_compared_with_the_models() -> None:
    start = entry("experts.start", EXPERTS, ROWS, COLS)
    found = [(read.entry.name, read.slab) for read in expert(1, start=start).reads]
    assert found[-2:] == [("experts.start", None), ("experts.start", (1, 2))]
    assert ("experts", None) not in found


@pytest.mark.parametrize("analyzer", [Diff(), Diff(intruders=True)], ids=["diff", "intruders"])
def test_what_an_adapter_leaves_as_it_was_takes_a_copy_and_no_more(analyzer: Diff) -> None:
    view = View("w", Role("mlp.up"), entry("w", 512, 384), Part(), 512, 384)
    same = task(Input("", MODEL, view, True))
    assert same.cost(analyzer) == 0.0
    assert same.need(analyzer) == 4 * 512 * 384
    changed = task(Input("", MODEL, view, True, Replaced(ADAPTER, view.entry, None, view.part)))
    assert changed.need(analyzer) > 4 * same.need(analyzer)


def test_memory_is_of_all_that_is_read_and_of_the_values_that_are_formed() -> None:
    one = expert(1)
    read = sum(each.nbytes for each in (A, B, MAGNITUDE, STACK)) + STACK.nbytes // EXPERTS
    assert task(one).memory == read + 4 * STACK.numel
    assert task(one, one).memory == task(one).memory
    shared = sum(each.nbytes for each in (A, B, MAGNITUDE, STACK))
    assert task(one, expert(2)).memory == 2 * task(one).memory - shared


def test_a_file_that_is_opened_twice_is_one(minilm: Path, minilm_lora: Path) -> None:
    once, again = (
        plan_pair(spectra.open(minilm), spectra.open(minilm_lora), Selection()).tasks
        for _ in range(2)
    )
    assert bytes_of([*once, *again]) == bytes_of(once)


def test_what_an_adapter_leaves_alone_costs_nothing(minilm: Path, minilm_lora: Path) -> None:
    plan = plan_pair(spectra.open(minilm), spectra.open(minilm_lora), Selection())
    costs = {task.inputs[0].change is None: task.cost(Diff()) for task in plan.tasks}
    assert costs[True] == 0.0 < costs[False]


IDENTIFIED: dict[str, Callable[[Input], Input]] = {
    "scale": lambda one: updated(one, scale=2.0),
    "rank": lambda one: updated(one, rank=1),
    "kind": lambda one: updated(one, kind="linear"),
    "turned": lambda one: changed(one, turned=True),
    "expert": lambda one: changed(one, expert=2),
    "rows": lambda one: changed(one, rows=(0, 3)),
    "alone": lambda one: replace(one, change=None),
    "unpaired": lambda one: replace(one, paired=False, change=None),
    "role": lambda one: replace(one, view=replace(one.view, role=Role("mlp.down"))),
    "part": lambda one: replace(one, view=replace(one.view, part=Part(expert=2))),
    "replaced": lambda one: replace(one, change=Replaced(ADAPTER, A, None, Part())),
    "replaced in part": lambda one: replace(
        one, change=Replaced(ADAPTER, A, None, Part(transposed=True))
    ),
    "rewritten": lambda one: replace(one, change=Rewritten(ADAPTER, NewRows((0, 1), A))),
    "rewritten elsewhere": lambda one: replace(one, change=Rewritten(ADAPTER, NewRows((0, 2), A))),
    "shifted": lambda one: replace(one, change=Shifted(ADAPTER, A, 2.0, rank=4)),
    "shifted farther": lambda one: replace(one, change=Shifted(ADAPTER, A, 3.0, rank=4)),
    "shifted from its own": lambda one: replace(one, change=Shifted(ADAPTER, A, 2.0, 4, start=A)),
}


def changed(one: Input, **change: Any) -> Input:  # noqa: ANN401
    assert isinstance(one.change, Updated)
    return replace(one, change=replace(one.change, **change))


def updated(one: Input, **change: Any) -> Input:  # noqa: ANN401
    assert isinstance(one.change, Updated)
    return changed(one, factors=replace(one.change.factors, **change))


def test_everything_that_a_row_hangs_on_is_in_its_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Read, "fingerprint", lambda self, ledger=None: self.entry.name)
    one = expert(1)
    found = {identity(task(change(one)), Diff()) for change in IDENTIFIED.values()}
    found |= {identity(task(one), diff) for diff in (Diff(), Diff(k=3))}
    assert None not in found
    assert len(found) == len(IDENTIFIED) + 2
    renamed = replace(one, view=replace(one.view, name="other"))
    assert identity(task(renamed), Diff()) == identity(task(one), Diff())
