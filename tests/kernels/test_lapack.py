"""LAPACK by address: calls with another number of threads change nothing in each other."""

import threading

import torch
from torch import Tensor

from spectra.kernels.lapack import leading_eigenpairs
from spectra.work.threads import use_threads


def test_threads_of_others_change_no_digit() -> None:
    values = torch.randn(384, 384, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gram, before = values @ values.mT, torch.get_num_threads()

    def found(threads: int, into: list[Tensor], times: int) -> None:
        use_threads(threads)
        for _ in range(times):
            pairs = leading_eigenpairs(gram.clone(), 11)
            assert pairs is not None
            into.append(torch.cat([part.flatten() for part in pairs]))

    expected: dict[int, list[Tensor]] = {1: [], 2: []}
    beside: dict[int, list[Tensor]] = {1: [], 2: []}
    try:
        for threads, into in expected.items():
            found(threads, into, 1)
        crew = [threading.Thread(target=found, args=(n, into, 6)) for n, into in beside.items()]
        for one in crew:
            one.start()
        for one in crew:
            one.join()
    finally:
        torch.set_num_threads(before)
    for threads, several in beside.items():
        assert len(several) == 6
        assert all(torch.equal(one, expected[threads][0]) for one in several)
