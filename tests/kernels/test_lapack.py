"""LAPACK by address: calls with another number of threads change nothing in each other."""

import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from spectra.kernels.lapack import chosen_eigenpairs, leading_eigenpairs, symmetric_eigenpairs
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


def _given(ranges: list[range], _: Tensor) -> list[range]:
    return ranges


def test_chosen_pairs_are_those_of_all() -> None:
    values = torch.randn(90, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gram = values.mT @ values
    twin = torch.linalg.eigvalsh(gram).flip(0)
    several: list[list[range]] = [
        [range(9)], [range(60, 70)], [range(3), range(8, 9), range(40, 70)], [],
    ]  # fmt: skip
    for ranges in several:
        places = [place for one in ranges for place in one]
        pairs = chosen_eigenpairs(gram.clone(), partial(_given, ranges))
        assert pairs is not None
        torch.testing.assert_close(pairs[0], twin)
        torch.testing.assert_close(gram @ pairs[1], pairs[1] * twin[places])
        torch.testing.assert_close(pairs[1].mT @ pairs[1], torch.eye(len(places)).double())
    # Ties, and nothing at all; above the diagonal there may be anything.
    for tied in (torch.eye(40), torch.ones(40, 40), torch.zeros(40, 40)):
        lower = tied.double().tril() + torch.full((40, 40), 7.0).triu(1)
        found, vectors = symmetric_eigenpairs(lower, lambda _: [range(5)])
        torch.testing.assert_close(tied.double() @ vectors, vectors * found[:5])
        torch.testing.assert_close(vectors.mT @ vectors, torch.eye(5).double())


def test_a_fork_of_what_has_called_calls_again(tmp_path: Path) -> None:
    script = """
import os, torch
torch.set_num_threads(1)
from spectra.kernels.lapack import leading_eigenpairs
leading_eigenpairs(torch.eye(9).double(), 2)
if os.fork() == 0:
    leading_eigenpairs(torch.eye(9).double(), 2)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert found.stdout == "7\n"
