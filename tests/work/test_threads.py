"""A thread keeps the number of threads that it was told, whatever another one sets."""

from threading import Event, Thread

import torch

from spectra.work.threads import use_threads


def test_a_threads_own_number_stays() -> None:
    before, told, other, found = torch.get_num_threads(), Event(), Event(), []

    def worker() -> None:
        use_threads(3)
        told.set()
        other.wait()
        found.append(torch.get_num_threads())

    thread = Thread(target=worker)
    thread.start()
    told.wait()
    torch.set_num_threads(2)
    other.set()
    thread.join()
    torch.set_num_threads(before)
    assert found == [3]
