"""What kernels cost and hold, by shapes."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from spectra.kernels import work
from spectra.kernels.edge import Settings
from spectra.kernels.verdicts import LADDER
from spectra.kernels.work import Work

ESTIMATES: list[Callable[[int, int], Work | int]] = [
    work.singular_values_work, work.extremes_work, work.floor_work, work.largest_work,
    work.similarity_work, work.left_singular_work, work.factors_work, work.soundness_work,
    lambda rows, cols: work.change_work(rows, cols, full=False),
    lambda rows, cols: work.change_work(rows, cols, full=True),
    work.singular_values_memory, work.extremes_memory, work.similarity_memory,
]  # fmt: skip


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_estimates_grow_with_the_matrix_whatever_its_orientation(
    estimate: Callable[[int, int], Work | int],
) -> None:
    sizes = [float(estimate(*shape)) for shape in ((30, 30), (30, 90), (900, 1000), (900, 12000))]
    assert sizes == sorted(sizes)
    assert sizes[0] > 0
    assert float(estimate(900, 1200)) == float(estimate(1200, 900))


def test_vectors_cost_and_hold_more_than_values() -> None:
    for shape in ((300, 7000), (7000, 300), (500, 500)):
        vectors, values = work.left_singular_work(*shape), work.singular_values_work(*shape)
        assert float(vectors) > float(values)
        assert work.left_singular_memory(*shape) > work.singular_values_memory(*shape)


def test_work_adds_up_by_kind_and_shares_among_threads() -> None:
    one = Work(products=2.0, calls=1.0) + 3.0 * Work(products=1.0, krylov=0.5)
    assert one.kinds() == {"products": 5.0, "krylov": 1.5, "calls": 1.0}
    assert float(one) == 7.5
    assert Work(*map(float, range(1, 7))).kinds() == {
        one.name: i for i, one in enumerate(fields(Work), 1)
    }
    assert one.threaded(1) == pytest.approx(7.5)
    assert 1.0 < one.threaded(1000) < one.threaded(2) < 7.5


def test_shapes_are_decided_as_kernels_decide_them() -> None:
    assert Settings().small == work.BOUNDED
    for shape in ((640, 99999), (641, 13000), (641, 14000), (1400, 1400), (1401, 1401)):
        assert LADDER.decomposes(*shape) == work.decomposes(*shape)


@pytest.mark.parametrize("shape", [(262144, 4096), (4096, 262144)])
def test_a_stored_vocabulary_needs_no_copy(shape: tuple[int, int]) -> None:
    stored = 2 * shape[0] * shape[1]
    assert work.is_long(*shape)
    assert 16 * 4096**2 < work.singular_values_memory(*shape, stored=True) < 0.6 * stored
    assert work.extremes_memory(*shape) < 0.6 * stored
    assert work.singular_values_memory(*shape) > 2 * stored  # who made it holds it in float32
    assert not work.is_long(11008, 4096)
    assert not work.is_long(16384, 16384)
